"""Where a run stands in its life."""

from __future__ import annotations

from enum import Enum


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

    @property
    def is_final(self) -> bool:
        """Whether the run is over and will not change any more."""
        return self in _FINAL

    @property
    def is_active(self) -> bool:
        """Whether the run waits in a queue or is running."""
        return self in _ACTIVE


_FINAL = frozenset((Status.SUCCEEDED, Status.FAILED, Status.CANCELLED))
_ACTIVE = frozenset((Status.QUEUED, Status.RUNNING))
