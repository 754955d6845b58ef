"""Watch a task in a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Protocol, TextIO

from silo_tasks._drawing import bar, drawing, line, note, plain
from silo_tasks.state import TaskState
from silo_tasks.status import Status

__all__ = ["Watched", "bar", "follow", "line"]

COLORS = {"done": "32", "failed": "31", "running": "1", "pending": "2"}
"""How the line of a step is drawn, by its status: green, red, bold, dim."""


class Watched(Protocol):
    """What can be followed: a `BackgroundTask`, or whatever knows the state of a run elsewhere."""

    @property
    def state(self) -> TaskState:
        """The run at this moment."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds until the run is over; whether it is."""


def follow(task: Watched, file: TextIO | None = None, *, interval: float = 0.1, logs: bool = True) -> TaskState:
    """Draw a moving bar, the steps, the message, the rate and the time left, until the run is over.

    On a terminal the drawing is renewed in its place, and log lines appear above it. Elsewhere, and on a terminal that
    cannot move its cursor (`TERM=dumb`), a line is written whenever a new ten percent, step or message is reached, so
    that a log file stays short. Nothing is coloured where `NO_COLOR` is set.

    What else is written to the terminal meanwhile, as by `print()`, disturbs the drawing: use `task.log()` instead.

    Args:
        task: What to watch.
        file: Where to draw; None is standard error.
        interval: Seconds between two looks.
        logs: Whether to write the log lines of the run as well.

    Returns:
        The last state.
    """
    out: TextIO | None = sys.stderr if file is None else file
    if out is None:
        # A process can be without standard error.
        task.wait()
        return task.state
    moving = out.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    paper = Screen(out) if moving else Paper(out)
    seen: int | None = None
    while True:
        over = task.wait(interval)
        state = task.state
        paper.show(state, _new_lines(state, seen) if logs else [])
        seen = state.last_seq
        if over or not state.running:
            return state


def _new_lines(state: TaskState, seen: int | None) -> list[str]:
    count = len(state.logs) if seen is None else state.last_seq - seen
    new = state._newest_logs(count)
    # A record from elsewhere holds only the newest lines, and a busy task may drop lines between two looks.
    missing = [f"({count - len(new)} lines left out)"] if count > len(new) else []
    return [*missing, *(plain(line) for text in new for line in text.expandtabs().splitlines() or [""])]


class Paper:
    """Where what is written stays: lines, one below the other."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self._last: tuple[int, str] | None = None

    def show(self, state: TaskState, logs: list[str]) -> None:
        """Write the log lines, and one for the state when it is worth it."""
        lines = logs
        if not state.running or note(state) != self._last:
            self._last = note(state)
            lines = [*logs, line(state)]
        self.write("".join(text + "\n" for text in lines))

    def write(self, text: str) -> None:
        """Write what the encoding of the file knows, and a mark for what it does not."""
        encoding = getattr(self.out, "encoding", None) or "utf-8"
        self.out.write(text.encode(encoding, "replace").decode(encoding))
        self.out.flush()


class Screen(Paper):
    """A terminal, on which the last drawing is drawn over. The cursor stays below it."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._rows = 0
        self._colors = {} if os.environ.get("NO_COLOR") else COLORS

    def show(self, state: TaskState, logs: list[str]) -> None:
        """Write the log lines over the last drawing, and draw it anew below them."""
        columns, rows = self._size()
        frame = drawing(state, columns, max(1, rows - 1))
        # The traceback that is logged often comes to this very terminal, and is not to be drawn over.
        up = self._rows if state.status is not Status.FAILED else 0
        back = f"\r\x1b[{up}A" if up else "\r"
        above = "\x1b[J" + "".join(text + "\r\n" for text in logs) if logs else ""
        below = "".join(self._colored(text, status) + "\x1b[K\r\n" for text, status in frame)
        # Should the terminal be narrower by now, the lines are cut there and do not wrap.
        self.write(f"{back}{above}\x1b[?7l{below}\x1b[J\x1b[?7h")
        self._rows = len(frame)

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
