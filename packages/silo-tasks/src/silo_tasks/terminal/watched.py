"""What can be followed in a terminal."""

from __future__ import annotations

from typing import Protocol

from ..state import TaskState


class Watched(Protocol):
    """A ``BackgroundTask``, or anything else that knows the state of a run."""

    @property
    def state(self) -> TaskState:
        """The run at this moment."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds for the end of the run, and return whether it is over."""
