"""The status of a run."""

from __future__ import annotations

from enum import Enum

RUNNING = "Running"
"""Message of a run that has begun and has set no message yet."""


class Status(str, Enum):
    """The status of a task: idle, queued, running, and one of three ends.

    It is a ``str`` too, so JSON holds its value.
    """

    IDLE = "idle"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    is_final: bool
    """Whether the run is over."""
    is_active: bool
    """Whether the run is queued or running."""

    def __init__(self, value: str) -> None:
        self.is_final = value in ("succeeded", "failed", "cancelled")
        self.is_active = value in ("queued", "running")

    def __str__(self) -> str:
        # Otherwise the version of Python decides whether an f-string gives the value or the name.
        return str(self.value)
