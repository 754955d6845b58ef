"""Writes a followed run: as lines that stay, or as a drawing that is renewed in place."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from ..state import TaskState
from .drawing import MINUTE, drawing, line, worth_a_line
from .other_output import OutputAbove

COLORS = {"done": "32", "failed": "31", "running": "1", "pending": "2"}
"""The colour code of a step's line, by the step's status: green, red, bold, dim."""


class LineWriter:
    """Writes lines, one below the other.

    Args:
        out: The file to write to.
        clock: Returns seconds, for the line that is written after each minute without one.

    Attributes:
        shown: The state that was shown last; None before the first.
    """

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.out = out
        self.shown: TaskState | None = None
        self._clock = clock
        self._wrote = clock()
        self._last: tuple[int, str] | None = None

    def show(self, state: TaskState, logs: list[str]) -> None:
        """Write the log lines, and a line for the state if it has changed enough."""
        self.shown, now, lines = state, self._clock(), logs
        stage = worth_a_line(state)
        if not state.running or stage != self._last or (not logs and now - self._wrote >= MINUTE):
            self._last = stage
            lines = [*logs, line(state)]
        if lines:
            self._wrote = now
            self.write("".join(text + "\n" for text in lines))

    def write_line(self, text: str) -> None:
        """Write a line after the last state was shown."""
        self.write(text + "\n")

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show a run as long as the context is open."""
        yield

    def write(self, text: str) -> None:
        """Write a text, with "?" for each character that the encoding of the file lacks."""
        encoding = getattr(self.out, "encoding", None) or "utf-8"
        self.out.write(text.encode(encoding, "replace").decode(encoding))
        if hasattr(self.out, "flush"):
            self.out.flush()


class TerminalWriter(LineWriter):
    """Draws over the last drawing on a terminal. The cursor stays below it."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._lock = threading.RLock()
        self._rows = 0
        self._frame = ""
        self._busy = False
        """Whether the drawing or a line above it is being written. Guarded by the lock."""
        self._colors = {} if os.environ.get("NO_COLOR") else COLORS

    def show(self, state: TaskState, logs: list[str]) -> None:
        """Write the log lines over the last drawing, and draw the state below them."""
        self.shown = state
        columns, rows = self._size()
        lines = drawing(state, columns, max(1, rows - 1))
        above = "\x1b[J" + "".join(text + "\r\n" for text in logs) if logs else ""
        below = "".join(self._colored(text, status) + "\x1b[K\r\n" for text, status in lines)
        # No wrapping while it is written, in case the terminal has become narrower.
        frame = f"\x1b[?7l{below}\x1b[J\x1b[?7h"
        with self._busy_writing():
            self.write(self._back() + above + frame)
            self._rows, self._frame = len(lines), frame

    def write_line(self, text: str) -> None:
        """Write a line after the last drawing, over the ``^C`` that Ctrl-C leaves at the cursor."""
        self.write(f"\r\x1b[K{text}\n")

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Draw a run as long as the context is open. Output of other code appears above it meanwhile."""
        with OutputAbove(self.out, self):
            yield

    def insert(self, write: Callable[[], object] | None) -> bool:
        """Call ``write``, if given, to write lines above the drawing. Return False if the drawing itself is writing."""
        with self._lock:
            if self._busy:
                return False
            if write is None:
                return True
            with self._busy_writing():
                if self._rows:
                    self.write(f"{self._back()}\x1b[J")
                try:
                    write()
                finally:
                    if self._rows:
                        self.write(f"\r{self._frame}")
            return True

    def after_fork(self) -> None:
        """Begin with a free lock, in a forked child."""
        self._lock, self._busy = threading.RLock(), False

    @contextmanager
    def _busy_writing(self) -> Iterator[None]:
        with self._lock:
            before, self._busy = self._busy, True
            try:
                yield
            finally:
                self._busy = before

    def _back(self) -> str:
        return f"\r\x1b[{self._rows}A" if self._rows else "\r"

    def _colored(self, text: str, status: str) -> str:
        color = self._colors.get(status)
        return text if color is None else f"\x1b[{color}m{text}\x1b[0m"

    def _size(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(self.out.fileno())
        except (AttributeError, OSError, ValueError):
            columns = rows = 0
        # Some terminals do not know their size.
        default = shutil.get_terminal_size()
        return columns or default.columns, rows or default.lines
