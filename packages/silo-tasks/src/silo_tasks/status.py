"""Where a run stands in its life."""

from __future__ import annotations

from enum import Enum

RUNNING = "Running"
"""Message of a run that has begun and has set no message yet."""


class Status(str, Enum):
    """Status of a task: idle, then queued, running, and one of the three ends.

    It is a `str` as well, so that it goes into JSON as its value.
    """

    IDLE = "idle"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    is_final: bool
    """Whether the run is over and will not change any more."""
    is_active: bool
    """Whether the run waits in a queue or is running."""

    def __init__(self, value: str) -> None:
        self.is_final = value in ("succeeded", "failed", "cancelled")
        self.is_active = value in ("queued", "running")

    def __str__(self) -> str:
        # Otherwise an f-string gives the value or the name, depending on the version of Python.
        return str(self.value)
