"""Run a function in the background and watch it: progress, log, cancel, deadline."""
