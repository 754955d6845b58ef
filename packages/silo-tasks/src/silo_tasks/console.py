"""Watch a task in a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import TextIO

from silo_tasks._snapshot import duration
from silo_tasks.state import TaskState, rounded
from silo_tasks.status import Status
from silo_tasks.task import BackgroundTask

BAR = 30
"""Characters of the bar."""


def follow(task: BackgroundTask, file: TextIO | None = None, *, interval: float = 0.1) -> TaskState:
    """Draw a moving bar with message, rate and time left, until the run is over.

    On a terminal one line is drawn again and again. Elsewhere a line is written whenever a new ten percent or a new
    message is reached, so that a log file stays short.

    Args:
        task: What to watch.
        file: Where to draw; None is standard error.
        interval: Seconds between two looks.

    Returns:
        The last state.
    """
    out = sys.stderr if file is None else file
    moving = out.isatty()
    last: tuple[int, str] | None = None
    while True:
        over = task.wait(interval)
        state = task.state
        if moving:
            out.write("\r" + _fit(line(state), out) + "\x1b[K")
        elif over or (int(state.progress // 10), _words(state)) != last:
            last = int(state.progress // 10), _words(state)
            out.write(line(state) + "\n")
        if over:
            out.write("\n" if moving else "")
            out.flush()
            return state
        out.flush()


def line(state: TaskState) -> str:
    """One line of text for a state."""
    parts = [bar(state), f"{rounded(state.progress):3.0f}%"]
    if state.total is not None:
        parts.append(f"{state.n}/{state.total}")
    elif state.n:
        parts.append(str(state.n))
    if state.rate is not None:
        parts.append(f"{state.rate:.1f}/s")
    if state.eta is not None:
        parts.append(f"{duration(state.eta)} left")
    elif not state.running:
        parts.append(duration(state.elapsed))
    # A message is somebody's data: what it may hold of control characters must not reach the terminal.
    message = "".join(char if char.isprintable() else " " for char in state.message)
    return " ".join([*parts, message]).rstrip()


def bar(state: TaskState) -> str:
    """The bar alone."""
    full = int(BAR * state.progress / 100)
    mark = {Status.FAILED: "!", Status.CANCELLED: "x"}.get(state.status, "#")
    return "[" + mark * full + "-" * (BAR - full) + "]"


def _words(state: TaskState) -> str:
    # With its numbers, the message of every item would be a new one.
    return "".join(char for char in state.message if not char.isdigit())


def _fit(text: str, out: TextIO) -> str:
    # A line that wraps cannot be drawn over.
    left = _columns(out) - 1
    for i, char in enumerate(text):
        left -= 2 if unicodedata.east_asian_width(char) in "FW" else 1
        if left < 0:
            return text[:i]
    return text


def _columns(out: TextIO) -> int:
    try:
        columns = os.get_terminal_size(out.fileno()).columns
    except (AttributeError, OSError, ValueError):
        columns = 0
    # Some terminals do not know their size.
    return columns or shutil.get_terminal_size().columns
