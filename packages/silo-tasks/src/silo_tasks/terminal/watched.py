"""``Watched``, the interface that ``follow()`` needs."""

from __future__ import annotations

from typing import Protocol

from ..state import TaskState


class Watched(Protocol):
    """A ``BackgroundTask``, or another object that has the state of a run."""

    @property
    def state(self) -> TaskState:
        """The state of the run at this moment."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds for the end of the run. Return whether the run is over."""
