"""The log of a run: its bounded lines, and the capture of log records of the logging module."""
