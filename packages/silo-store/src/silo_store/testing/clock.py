"""A clock that tests move, and the id and the time-to-live that they use."""

from __future__ import annotations

from ..backend import Moment

SID = "a" * 32
"""A session id."""
TTL = 60.0
"""A time-to-live, in seconds."""


class Clock:
    """A clock on which time passes when the test says so: ``SessionStore(clock=Clock())``."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now: float = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let seconds pass."""
        self.now += seconds


def at(now: float, touch_interval: float = 0.0) -> Moment:
    """Return a moment with a time-to-live of ``TTL``."""
    return Moment(now, TTL, touch_interval)
