"""Writes what happens to a run after Ctrl-C has ended its drawing."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType

from ..errors import TaskCancelled
from ..runners import thread
from ..state import TaskState
from ..status import Status
from .drawing import line, reached
from .watched import Watched
from .writers import LineWriter

_interruptions: list[Interruption] = []
"""The last interruption of each task."""


class Interruption:
    """Writes what happens to a run after Ctrl-C: that the process waits for it, or where it was cancelled.

    Args:
        task: The task.
        writer: The writer that has shown the task.
        seen: The state that was shown last.
    """

    def __init__(self, task: Watched, writer: LineWriter, seen: TaskState) -> None:
        self.task = task
        self.seen: TaskState = seen
        self._writer = writer
        self._lock = threading.Lock()
        self._waited = self._over = False

    def wait(self) -> None:
        """Write that the process waits for the run, unless another process executes it."""
        run = getattr(self.task, "_run", None)
        if run is not None and run.is_remote:
            return
        state = self.task.state
        if state.running and state.run == self.seen.run and not self._over:
            self._waited, self.seen = True, state
            self._write(f"Waiting for {state.name!r}{reached(state, state)} (Ctrl-C again: end at once)")

    def end(self, _: object = None) -> None:
        """Write once how the run has ended, if it was cancelled or the process has waited for it."""
        state = self.task.state
        with self._lock:
            over, self._over = self._over, True
        if over or state.running or state.run != self.seen.run:
            return
        if state.status is Status.CANCELLED:
            self._write(f"Cancelled{reached(state, self.seen)}")
        elif self._waited:
            self._write(line(state))

    @property
    def is_cancelled(self) -> bool:
        """Whether the run was cancelled."""
        state = self.task.state
        return state.status is Status.CANCELLED and state.run == self.seen.run

    def drop(self) -> None:
        """Write nothing more."""
        with self._lock:
            self._over = True

    def _write(self, text: str) -> None:
        # The file may have been closed.
        with contextlib.suppress(OSError, ValueError):
            self._writer.write_line(text)


def interrupted(task: Watched, writer: LineWriter) -> None:
    """Arrange for the lines about a run whose drawing was interrupted."""
    interruption = Interruption(task, writer, writer.shown or task.state)
    _interruptions[:] = [*(each for each in _interruptions if each.task is not task), interruption]
    if _before_waiting not in thread.before_waiting:
        thread.before_waiting.append(_before_waiting)
        sys.excepthook = partial(_hook, sys.excepthook)
    on_done = getattr(task, "on_done", None)
    if on_done is not None and interruption.seen.running:
        on_done(interruption.end)


def resumed(task: Watched) -> None:
    """Drop the lines about a run that is followed again."""
    for each in _interruptions:
        if each.task is task:
            each.drop()


def _before_waiting() -> None:
    for each in list(_interruptions):
        each.wait()


def _hook(
    hook: Callable[[type[BaseException], BaseException, TracebackType | None], object],
    kind: type[BaseException],
    error: BaseException,
    traceback: TracebackType | None,
) -> None:
    """Print one line instead of the traceback of a ``TaskCancelled``, if Ctrl-C has ended the drawing of that run."""
    cancelled = [each for each in _interruptions if each.is_cancelled] if isinstance(error, TaskCancelled) else []
    for each in cancelled:
        each.end()
    if not cancelled:
        hook(kind, error, traceback)
