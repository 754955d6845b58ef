"""Where records of runs are kept."""
