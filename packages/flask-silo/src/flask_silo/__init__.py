"""A private, expiring workspace for every client of a Flask API: state, tasks, files."""
