"""The log of a run: its bounded lines, and the capture of records of the logging module."""
