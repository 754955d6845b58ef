"""Renders a state as text for a terminal."""

from __future__ import annotations

import unicodedata

from ..progress.steps import StepState
from ..state import TaskState
from ..status import RUNNING, Status
from ..text import duration, rounded

BAR = 30
"""Greatest length of the bar, in characters."""

SPEED = 10
"""Characters per second by which the mark in a bar without a percentage moves."""

MINUTE = 60.0
"""Seconds without a line after which ``LineWriter`` writes one."""

MARKS = {"pending": "-", "running": ">", "done": "+", "failed": "!"}
"""The mark of a step, by its status."""


def bar(state: TaskState, size: int = BAR) -> str:
    """Return the bar alone. While it is unknown how much of the work is done, a mark moves to and fro in it."""
    if is_unknown(state):
        length = max(1, size // 5)
        way = size - length
        at = int(state.elapsed * SPEED) % (2 * way) if way > 0 else 0
        at = min(at, 2 * way - at)
        return "[" + "-" * at + "=" * length + "-" * (way - at) + "]"
    full = max(0, min(size, int(size * state.progress / 100)))
    mark = {Status.FAILED: "!", Status.CANCELLED: "x"}.get(state.status, "#")
    return "[" + mark * full + "-" * (size - full) + "]"


def is_unknown(state: TaskState) -> bool:
    """Return whether it is unknown how much of its work a running task has done: no total, no percent and no plan."""
    if not state.running or state.status is Status.QUEUED:
        return False
    if state.total is not None and state.n < state.total and rounded(state.progress) >= 100:
        # After a loop that has filled the whole bar, the next loop has a total, but no share of the bar.
        return True
    if state.progress or state.total is not None:
        return False
    return all(step.status != "pending" for step in state.steps)


def line(state: TaskState) -> str:
    """Return a state as one line of text."""
    # After a minute, work of unknown length shows at least the time.
    time = _time_left(state) or ([_elapsed(state)] if state.elapsed >= MINUTE else [])
    return _joined(_head(state, BAR), _counts(state), time, [" / ".join(_open_steps(state)), _message(state)])


def reached(state: TaskState, seen: TaskState) -> str:
    """Return how far a run has come, as the end of a sentence: `` at 41% 1200/5500 in Aggregate: Row 1200``.

    Args:
        state: The state now.
        seen: The state that was shown last, perhaps before the end of the run, which closes steps and replaces the
            message.
    """
    count = f"{state.n}/{state.total}" if state.total is not None else f"{state.n} items" if state.n else ""
    percent = f"{rounded(state.progress):.0f}%" if state.progress or state.total is not None else ""
    where = " ".join(text for text in (percent, count) if text)
    steps, said = _last_open_steps(state), _message(seen)
    moved = seen.n != state.n and any(char.isdigit() for char in said)
    if said == RUNNING or moved or steps != _last_open_steps(seen):
        # The message belongs to an earlier moment.
        said = ""
    inside = f" in {' / '.join(steps)}" if steps else ""
    text = f" at {where}" if where else f" after {duration(state.elapsed)}"
    return text + inside + (f": {said}" if said else "")


def drawing(state: TaskState, columns: int, rows: int) -> list[tuple[str, str]]:
    """Return lines that fit the terminal, each with the status of its step, or "" if it shows no step.

    The first line is the run's. If there are more steps than rows, those around the running one are drawn.
    """
    size = columns - 1
    # Work of unknown length shows at least the time.
    numbers = [*([] if state.steps else _counts(state)), *(_time_left(state) or [duration(state.elapsed)])]
    # On a narrow terminal the bar leaves room for the numbers.
    room = size - len(_joined(_head(state, 0), numbers))
    head = _joined(_head(state, max(5, min(BAR, columns * 3 // 8, room))), numbers)
    inner = next((i for i in reversed(range(len(state.steps))) if state.steps[i].status == "running"), None)
    said = _message(state) if inner is None else ""
    lines = [(f"{head} {said}" if said else head, "")]
    if state.status is Status.FAILED and len(lines[0][0]) > size and rows > 1:
        lines = [(head, ""), (f"  {said}", "")]
        rows -= 1
    chosen = _chosen_steps(state.steps, rows - 1)
    for i in chosen:
        step = state.steps[i]
        mark = "  " * (step.depth + 1) + MARKS.get(step.status, "?")
        numbers = [_time_of_step(step, state), *(_counts(state) if i == inner else [])]
        # A long name leaves room for the numbers as well.
        name = fit(printable(step.name), max(8, size - len(_joined([mark, ""], numbers)) - 1)).rstrip()
        lines.append((_joined([mark, name], numbers, [_message(state)] if i == inner else []), step.status))
    if len(chosen) < min(rows - 1, len(state.steps)):
        lines.append((f"  {len(state.steps) - len(chosen)} more steps", "pending"))
    return [(fit(text, size), status) for text, status in lines]


def _chosen_steps(steps: list[StepState], room: int) -> list[int]:
    if len(steps) <= room:
        return list(range(len(steps)))
    begun = [i for i, step in enumerate(steps) if step.status != "pending"]
    running = [i for i in begun if steps[i].status == "running"]
    focus = (running or begun or [0])[-1]
    # One line says how many steps are left out, unless there is room for one line only.
    nearest = sorted(range(len(steps)), key=lambda i: (steps[i].status != "running", abs(i - focus)))
    return sorted(nearest[: room - 1 if room > 1 else max(0, room)])


def _joined(*parts: list[str]) -> str:
    return " ".join(text for part in parts for text in part if text)


def _head(state: TaskState, size: int) -> list[str]:
    return [bar(state, size), "" if is_unknown(state) else f"{rounded(state.progress):3.0f}%"]


def _counts(state: TaskState) -> list[str]:
    count = f"{state.n}/{state.total}" if state.total is not None else str(state.n or "")
    return [count, "" if state.rate is None else _per_time(state.rate)]


def _per_time(rate: float) -> str:
    for each, unit in ((1, "s"), (60, "min")):
        if rate * each >= 0.1 or not rate:
            return f"{rate * each:.1f}/{unit}"
    return f"{rate * 3600:.1f}/h"


def _time_left(state: TaskState) -> list[str]:
    if state.eta is not None:
        return [f"{duration(state.eta)} left"]
    return [] if state.running else [duration(state.elapsed)]


def _elapsed(state: TaskState) -> str:
    """Return the time since the start, as a text that cannot be taken for the time left."""
    return f"after {duration(state.elapsed)}"


def _time_of_step(step: StepState, state: TaskState) -> str:
    if step.started_at is None:
        return ""
    ended = step.finished_at
    if ended is None:
        ended = (state.started_at or 0.0) + state.elapsed
    return duration(max(0.0, ended - step.started_at))


def _open_steps(state: TaskState) -> list[str]:
    return [printable(step.name) for step in state.steps if step.status == "running"]


def _last_open_steps(state: TaskState) -> list[str]:
    """Return the names of the steps that are open, or were open when the run ended."""
    if state.running:
        return _open_steps(state)
    begun = max((step.started_at or 0.0 for step in state.steps), default=0.0)
    return [
        printable(step.name) for step in state.steps if step.status == "failed" and (step.finished_at or 0.0) >= begun
    ]


def _message(state: TaskState) -> str:
    if state.status is Status.FAILED and state.error:
        return printable(f"Failed: {_error(state)}")
    if state.message == RUNNING and (state.n or state.progress):
        return ""
    message = printable(state.message)
    # The name of the open step is shown already.
    return "" if message in _open_steps(state)[-1:] else message


def _error(state: TaskState) -> str:
    error, kind = state.error or "", state.error_type
    # The text of many exceptions is meaningless without their class. A text for clients needs no class.
    return error if kind is None or state.error_public or error == kind else f"{kind}: {error}"


def worth_a_line(state: TaskState) -> tuple[int, str]:
    """Return a value that differs from that of the last line if the state is worth another line."""
    # Without digits: otherwise the message of every item would differ.
    words = "\n".join([*_open_steps(state), _message(state)])
    return int(state.progress // 10), "".join(char for char in words if not char.isdigit())


def printable(text: str) -> str:
    """Return a text with a blank for each control character, which must not reach the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def fit(text: str, columns: int) -> str:
    """Return the beginning of a text that fits into the columns: a line that wraps could not be drawn over."""
    if text.isascii():
        return text[: max(0, columns)]
    for i, char in enumerate(text):
        columns -= _width(char)
        if columns < 0:
            return text[:i]
    return text


def _width(char: str) -> int:
    if unicodedata.east_asian_width(char) in "FW":
        return 2
    return 0 if unicodedata.category(char) in ("Mn", "Me") else 1
