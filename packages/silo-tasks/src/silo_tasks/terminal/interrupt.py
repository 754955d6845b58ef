"""The lines about a run whose follower Ctrl-C has ended."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import TaskCancelled
from ..runners import thread
from ..status import Status
from .drawing import line, reached

if TYPE_CHECKING:
    from ..console import Watched
    from ..state import TaskState
    from .writers import Paper

_left: list[Left] = []
"""The last interruption of each task."""


class Left:
    """Says what becomes of a run that is no longer followed: that the process waits for it, or where it was cancelled.

    Args:
        task: The task.
        paper: Where its follower wrote.
        seen: The run as its follower saw it last.
    """

    def __init__(self, task: Watched, paper: Paper, seen: TaskState) -> None:
        self.task = task
        self.seen = seen
        self._paper = paper
        self._lock = threading.Lock()
        self._waited = self._told = False

    def wait(self) -> None:
        """Say that the process waits for the run, unless another process executes it."""
        run = getattr(self.task, "_run", None)
        if run is not None and run.away is not None:
            return
        state = self.task.state
        if state.running and state.run == self.seen.run and not self._told:
            self._waited, self.seen = True, state
            self._say(f"Waiting for {state.name!r}{reached(state, state)} (Ctrl-C again: end at once)")

    def end(self, _: object = None) -> None:
        """Say once how the run has ended, if it was cancelled or the process has waited for it."""
        state = self.task.state
        with self._lock:
            told, self._told = self._told, True
        if told or state.running or state.run != self.seen.run:
            return
        if state.status is Status.CANCELLED:
            self._say(f"Cancelled{reached(state, self.seen)}")
        elif self._waited:
            self._say(line(state))

    @property
    def is_cancelled(self) -> bool:
        """Whether the run was cancelled."""
        state = self.task.state
        return state.status is Status.CANCELLED and state.run == self.seen.run

    def drop(self) -> None:
        """Say nothing more."""
        with self._lock:
            self._told = True

    def _say(self, text: str) -> None:
        # Where it is written may be closed by now.
        with contextlib.suppress(OSError, ValueError):
            self._paper.say(text)


def leave(task: Watched, paper: Paper) -> None:
    """Arrange for the lines about a run that is no longer followed."""
    left = Left(task, paper, paper.seen or task.state)
    _left[:] = [*(each for each in _left if each.task is not task), left]
    if _wait not in thread.before_waiting:
        thread.before_waiting.append(_wait)
        sys.excepthook = partial(_hook, sys.excepthook)
    on_done = getattr(task, "on_done", None)
    if on_done is not None and left.seen.running:
        on_done(left.end)


def forget(task: Watched) -> None:
    """Say nothing more of a task: it is followed again."""
    for left in _left:
        if left.task is task:
            left.drop()


def _wait() -> None:
    for left in list(_left):
        left.wait()


def _hook(
    hook: Callable[[type[BaseException], BaseException, TracebackType | None], object],
    kind: type[BaseException],
    error: BaseException,
    traceback: TracebackType | None,
) -> None:
    """Print one line instead of the traceback of a `TaskCancelled`, if Ctrl-C has ended the drawing of that run."""
    cancelled = [left for left in _left if left.is_cancelled] if isinstance(error, TaskCancelled) else []
    for left in cancelled:
        left.end()
    if not cancelled:
        hook(kind, error, traceback)
