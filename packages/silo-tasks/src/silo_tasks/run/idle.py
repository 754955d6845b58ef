"""The run of a task that was never started."""

from __future__ import annotations

import threading
from typing import Any

from ..fork import reset_after_fork
from ..status import Status
from .run import Run
from .settings import Settings

_IDLE = Status.IDLE


class IdleRun(Run):
    """A run that becomes a ``Run`` when one of its parts is first used.

    Most tasks are started before that, and making the parts takes more time than making the rest of a task.
    """

    __slots__ = ()

    def __init__(self, settings: Settings, key: object) -> None:
        self.settings, self.key = settings, key
        self.status, self.number, self.callbacks = _IDLE, 0, []

    def __getattr__(self, name: str) -> Any:
        # Only called for an attribute that is missing.
        with _making.lock:
            # Another thread may have made the parts meanwhile.
            if isinstance(self, IdleRun):
                made = Run(self.settings, self.key)
                for part in _PARTS:
                    setattr(self, part, getattr(made, part))
                self.__class__ = Run  # type: ignore[assignment]
        return getattr(self, name)

    @property
    def last_seq(self) -> int:
        """Number of the last log line."""
        return 0

    def refresh(self) -> None:
        """Do nothing: nothing was started."""

    def after_fork(self) -> None:
        """Do nothing: there is no lock yet."""


_PARTS = [name for name in Run.__slots__ if name not in ("settings", "key", "status", "number", "callbacks")]


class _Making:
    """The lock under which the parts of any ``IdleRun`` are made."""

    def __init__(self) -> None:
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        # Reentrant: a garbage collection inside the lock may use another task.
        self.lock = threading.RLock()


_making = _Making()
