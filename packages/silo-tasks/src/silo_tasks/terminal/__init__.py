"""A run drawn on a terminal."""
