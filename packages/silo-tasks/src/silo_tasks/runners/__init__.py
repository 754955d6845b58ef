"""Runners, which execute the runs of tasks."""
