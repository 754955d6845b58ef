"""The time limit of the suites."""

from __future__ import annotations

WAIT = 30.0
"""Seconds after which a test gives up waiting."""
