"""The run to which the running code belongs."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol

from ..fork import reset_after_fork


class CurrentRun(Protocol):
    """A run, as its own code finds it."""

    @property
    def key(self) -> object:
        """Identifies the task: an object that all its runs share."""

    @property
    def task(self) -> Any:
        """The task; None once the run has nothing to do."""

    @property
    def parent(self) -> CurrentRun | None:
        """The run whose code executes this one, if there is one."""

    def renew_locks(self) -> None:
        """Start with free locks, in a forked child."""


current_run: ContextVar[CurrentRun | None] = ContextVar("silo_tasks.current_run", default=None)
"""The innermost run whose code is running. It follows the context, not the thread."""


class _InChild:
    """Renews the locks of the runs whose code has forked. A run that was given up can be found only from its code."""

    def _after_fork(self) -> None:
        run = current_run.get()
        while run is not None:
            run.renew_locks()
            run = run.parent


_in_child = _InChild()
reset_after_fork(_in_child)
