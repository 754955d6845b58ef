"""Pytest plugin: refuses deletes, renames and writes outside the tests' temporary folders."""
