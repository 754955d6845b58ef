"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE = 30.0


def until(look: Callable[[], object], what: str) -> None:
    """Wait until ``look()`` returns a true value; fail with ``what`` after ``DEADLINE`` seconds."""
    deadline = time.monotonic() + DEADLINE
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
