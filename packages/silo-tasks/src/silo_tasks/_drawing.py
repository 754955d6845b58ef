"""What a watcher in a terminal sees of a state, as text."""

from __future__ import annotations

import unicodedata

from silo_tasks._snapshot import duration
from silo_tasks.state import StepState, TaskState, rounded
from silo_tasks.status import RUNNING, Status

BAR = 30
"""Characters of the bar, at most."""

MARKS = {"pending": "-", "running": ">", "done": "+", "failed": "!"}
"""How a step begins, by its status."""


def bar(state: TaskState, size: int = BAR) -> str:
    """The bar alone."""
    full = max(0, min(size, int(size * state.progress / 100)))
    mark = {Status.FAILED: "!", Status.CANCELLED: "x"}.get(state.status, "#")
    return "[" + mark * full + "-" * (size - full) + "]"


def line(state: TaskState) -> str:
    """All of a state in one line of text."""
    return _joined(_head(state, BAR), _counts(state), _time(state), [" / ".join(_open(state)), _said(state)])


def drawing(state: TaskState, columns: int, rows: int) -> list[tuple[str, str]]:
    """Lines that fit the terminal, each with the status of its step, or "" for what is no step.

    The first one is the run's. Of more steps than there are rows, those around the running one are drawn.
    """
    head, size = _head(state, max(5, min(BAR, columns * 3 // 8))), columns - 1
    # Work without a known end shows at least that time passes.
    time = _time(state) or [duration(state.elapsed)]
    if not state.steps:
        return [(fit(_joined(head, _counts(state), time, [_said(state)]), size), "")]
    inner = next((i for i in reversed(range(len(state.steps))) if state.steps[i].status == "running"), None)
    lines = [(_joined(head, time, [_said(state)] if inner is None else []), "")]
    chosen = _chosen(state.steps, rows - 1)
    for i in chosen:
        step = state.steps[i]
        text = ["  " * (step.depth + 1) + f"{MARKS.get(step.status, '?')} {plain(step.name)}", _time_of(step, state)]
        lines.append((_joined(text, [*_counts(state), _said(state)] if i == inner else []), step.status))
    if len(chosen) < min(rows - 1, len(state.steps)):
        lines.append((f"  {len(state.steps) - len(chosen)} more steps", "pending"))
    return [(fit(text, size), status) for text, status in lines]


def _chosen(steps: list[StepState], room: int) -> list[int]:
    if len(steps) <= room:
        return list(range(len(steps)))
    begun = [i for i, step in enumerate(steps) if step.status != "pending"]
    running = [i for i in begun if steps[i].status == "running"]
    focus = (running or begun or [0])[-1]
    # One line says how many are left out, unless there is none to spare.
    nearest = sorted(range(len(steps)), key=lambda i: (steps[i].status != "running", abs(i - focus)))
    return sorted(nearest[: room - 1 if room > 1 else max(0, room)])


def _joined(*parts: list[str]) -> str:
    return " ".join(text for part in parts for text in part if text)


def _head(state: TaskState, size: int) -> list[str]:
    return [bar(state, size), f"{rounded(state.progress):3.0f}%"]


def _counts(state: TaskState) -> list[str]:
    count = f"{state.n}/{state.total}" if state.total is not None else str(state.n or "")
    return [count, "" if state.rate is None else _pace(state.rate)]


def _pace(rate: float) -> str:
    for each, unit in ((1, "s"), (60, "min")):
        if rate * each >= 0.1 or not rate:
            return f"{rate * each:.1f}/{unit}"
    return f"{rate * 3600:.1f}/h"


def _time(state: TaskState) -> list[str]:
    if state.eta is not None:
        return [f"{duration(state.eta)} left"]
    return [] if state.running else [duration(state.elapsed)]


def _time_of(step: StepState, state: TaskState) -> str:
    if step.started_at is None:
        return ""
    ended = step.finished_at
    if ended is None:
        ended = (state.started_at or 0.0) + state.elapsed
    return duration(max(0.0, ended - step.started_at))


def _open(state: TaskState) -> list[str]:
    return [plain(step.name) for step in state.steps if step.status == "running"]


def _said(state: TaskState) -> str:
    if state.message == RUNNING and (state.n or state.progress):
        return ""
    message = plain(state.message)
    # A step that has begun says its name.
    return "" if message in _open(state)[-1:] else message


def note(state: TaskState) -> tuple[int, str]:
    """What must differ for a state to be worth a new line."""
    # With its numbers, the message of every item would be a new one.
    words = "\n".join([*_open(state), _said(state)])
    return int(state.progress // 10), "".join(char for char in words if not char.isdigit())


def plain(text: str) -> str:
    """Somebody's text without the control characters that must not reach the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def fit(text: str, columns: int) -> str:
    """The beginning of a text that fills no more than so many columns: a line that wraps cannot be drawn over."""
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
