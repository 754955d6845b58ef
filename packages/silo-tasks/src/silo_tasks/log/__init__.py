"""The log of a run: its bounded lines, and what it captures of the logging module."""
