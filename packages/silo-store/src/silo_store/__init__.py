"""Expiring per-session state: exact expiry, writers that take turns, pluggable backends."""
