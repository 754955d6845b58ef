"""The status of a run."""

from __future__ import annotations

from enum import Enum

RUNNING = "Running"
"""Message of a run that has begun and has set no message yet."""


class Status(str, Enum):
    """The status of a task: idle, queued or running, or one of three final ones.

    A member is a ``str`` too, so that JSON can hold it.
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
        # Otherwise it depends on the version of Python whether an f-string has the value or the name.
        return str(self.value)
