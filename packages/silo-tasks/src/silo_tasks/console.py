"""Shows a task in a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

from .checks import check_number
from .state import TaskState
from .terminal.drawing import bar, line, printable
from .terminal.interrupt import interrupted, resumed
from .terminal.other_output import OutputAbove
from .terminal.watched import Watched
from .terminal.writers import LineWriter, TerminalWriter

__all__ = ["Watched", "bar", "follow", "line"]


def follow(
    task: Watched,
    file: TextIO | None = None,
    *,
    interval: float = 0.1,
    logs: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> TaskState:
    """Draw a moving bar, the steps, the message, the rate and the time left, until the run is over.

    On a terminal, the drawing is renewed in place, and log lines appear above it. Output of the program appears above
    it too, line by line: ``print()`` in any thread, handlers of ``logging``, warnings and tracebacks. Output of other
    processes and of C code is not seen, and the drawing may overwrite it.

    If there is no terminal, if it cannot move its cursor (``TERM=dumb``), or if another task is drawn on it, only a
    line is written for each ten percent, step and message, and after each minute without a line. ``NO_COLOR`` turns
    colours off.

    Ctrl-C ends the drawing, not the task. If the run is cancelled then, a line says how far it had come. Otherwise the
    process waits for the run as at any exit, and a line says so.

    Args:
        task: The task to follow.
        file: The text file to draw on; None is standard error.
        interval: Seconds between two reads of the state.
        logs: Whether to write the lines of the run's log too. False suits a program whose handlers already print the
            lines that ``task.logging()`` copies.
        clock: Returns seconds, for the line that is written after each minute without one.

    Returns:
        The last state.

    Raises:
        TypeError: ``task`` is not one task, for example a list of tasks; or ``file`` is not an open file, for example a
            path; or ``interval`` is not a number.
        ValueError: ``interval`` is not positive.
    """
    _check(task)
    check_number("interval", interval, " of seconds")
    if not interval > 0:
        raise ValueError("interval must be positive")
    out: TextIO | None = sys.stderr if file is None else file
    if out is None:
        # A process may have no standard error.
        task.wait()
        return task.state
    if not callable(getattr(out, "write", None)):
        raise TypeError(f"file must be open for text, as sys.stderr, not {_kind(out)}: follow(task, file)")
    resumed(task)
    # An object in place of standard error often has only ``write()``.
    tty = hasattr(out, "isatty") and out.isatty()
    moving = tty and os.environ.get("TERM") not in ("dumb", "unknown") and not OutputAbove.is_drawn_on(out)
    writer = TerminalWriter(out) if moving else LineWriter(out, clock)
    try:
        return _show(task, writer, interval, logs=logs)
    except KeyboardInterrupt as interrupt:
        interrupted(task, writer)
        # The line of this function in which Ctrl-C arrived tells the user nothing.
        raise interrupt.with_traceback(None) from None


def _check(task: object) -> None:
    waits = not isinstance(task, type) and callable(getattr(task, "wait", None))
    # Reading the state may read a store.
    if waits and (hasattr(type(task), "state") or hasattr(task, "state")):
        return
    hint = "start it first: task.start(function, ...), then follow(task)"
    if task is None:
        hint = "BackgroundTask.attach() returns None if the store has no run of that name"
    elif isinstance(task, (list, tuple, set, dict, frozenset)):
        hint = "follow them one after the other: for task in tasks: follow(task)"
    raise TypeError(f"follow() takes one BackgroundTask, not {_kind(task)}: {hint}")


def _kind(value: object) -> str:
    if value is None:
        return "None"
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _show(task: Watched, writer: LineWriter, interval: float, *, logs: bool) -> TaskState:
    seen: int | None = None
    with writer.showing():
        while True:
            over = task.wait(interval)
            state = task.state
            writer.show(state, _new_lines(state, seen) if logs else [])
            seen = state.last_seq
            if over or not state.running:
                return state


def _new_lines(state: TaskState, seen: int | None) -> list[str]:
    count = len(state.logs) if seen is None else state.last_seq - seen
    new = state._newest_logs(count)
    # A stored record holds only the newest lines, and a busy task may drop lines between two reads.
    missing = [f"({count - len(new)} lines left out)"] if count > len(new) else []
    return [*missing, *(printable(line) for text in new for line in text.expandtabs().splitlines() or [""])]
