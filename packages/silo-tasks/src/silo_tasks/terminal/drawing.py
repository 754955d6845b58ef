"""What a watcher in a terminal sees of a state, as text."""

from __future__ import annotations

import unicodedata

from ..run.snapshot import duration
from ..state import StepState, TaskState, rounded
from ..status import RUNNING, Status

BAR = 30
"""Characters of the bar, at most."""

SPEED = 10
"""Characters by which the mark in a bar without a percentage moves in a second."""

MINUTE = 60.0
"""Seconds without a line after which another one is written, where there is no terminal."""

MARKS = {"pending": "-", "running": ">", "done": "+", "failed": "!"}
"""How a step begins, by its status."""


def bar(state: TaskState, size: int = BAR) -> str:
    """The bar alone. A mark moves to and fro in it while the share of work that is done is unknown."""
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
    """Whether a run goes on and its done share is unknown: it has no total, no percent, and no plan."""
    if not state.running or state.status is Status.QUEUED:
        return False
    if state.total is not None and state.n < state.total and rounded(state.progress) >= 100:
        # A loop after one that had filled the whole bar: it has a total, but no share of the bar.
        return True
    if state.progress or state.total is not None:
        return False
    return all(step.status != "pending" for step in state.steps)


def line(state: TaskState) -> str:
    """All of a state in one line of text."""
    # After a minute, work without a known end shows at least that time passes.
    time = _time(state) or ([_passed(state)] if state.elapsed >= MINUTE else [])
    return _joined(_head(state, BAR), _counts(state), time, [" / ".join(_open(state)), _said(state)])


def reached(state: TaskState, seen: TaskState) -> str:
    """How far a run has come, as the end of a sentence: ` at 41% 1200/5500 in Aggregate: Row 1200`.

    Args:
        state: The run.
        seen: The run as it was last seen, before it may have ended: an end closes the steps and replaces the message.
    """
    count = f"{state.n}/{state.total}" if state.total is not None else f"{state.n} items" if state.n else ""
    percent = f"{rounded(state.progress):.0f}%" if state.progress or state.total is not None else ""
    where = " ".join(text for text in (percent, count) if text)
    steps, said = _open_last(state), _said(seen)
    moved = seen.n != state.n and any(char.isdigit() for char in said)
    if said == RUNNING or moved or steps != _open_last(seen):
        # The message belongs to an earlier moment.
        said = ""
    inside = f" in {' / '.join(steps)}" if steps else ""
    text = f" at {where}" if where else f" after {duration(state.elapsed)}"
    return text + inside + (f": {said}" if said else "")


def drawing(state: TaskState, columns: int, rows: int) -> list[tuple[str, str]]:
    """Lines that fit the terminal, each with the status of its step, or "" for what is no step.

    The first one is the run's. Of more steps than there are rows, those around the running one are drawn.
    """
    size = columns - 1
    # Work without a known end shows at least that time passes.
    numbers = [*([] if state.steps else _counts(state)), *(_time(state) or [duration(state.elapsed)])]
    # On a narrow terminal the bar leaves room for the numbers.
    room = size - len(_joined(_head(state, 0), numbers))
    head = _joined(_head(state, max(5, min(BAR, columns * 3 // 8, room))), numbers)
    inner = next((i for i in reversed(range(len(state.steps))) if state.steps[i].status == "running"), None)
    said = _said(state) if inner is None else ""
    lines = [(f"{head} {said}" if said else head, "")]
    if state.status is Status.FAILED and len(lines[0][0]) > size and rows > 1:
        lines = [(head, ""), (f"  {said}", "")]
        rows -= 1
    chosen = _chosen(state.steps, rows - 1)
    for i in chosen:
        step = state.steps[i]
        mark = "  " * (step.depth + 1) + MARKS.get(step.status, "?")
        numbers = [_time_of(step, state), *(_counts(state) if i == inner else [])]
        # A long name leaves room for the numbers as well.
        name = fit(plain(step.name), max(8, size - len(_joined([mark, ""], numbers)) - 1)).rstrip()
        lines.append((_joined([mark, name], numbers, [_said(state)] if i == inner else []), step.status))
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
    return [bar(state, size), "" if is_unknown(state) else f"{rounded(state.progress):3.0f}%"]


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


def _passed(state: TaskState) -> str:
    """Time since the start, in words that tell it from the time left."""
    return f"after {duration(state.elapsed)}"


def _time_of(step: StepState, state: TaskState) -> str:
    if step.started_at is None:
        return ""
    ended = step.finished_at
    if ended is None:
        ended = (state.started_at or 0.0) + state.elapsed
    return duration(max(0.0, ended - step.started_at))


def _open(state: TaskState) -> list[str]:
    return [plain(step.name) for step in state.steps if step.status == "running"]


def _open_last(state: TaskState) -> list[str]:
    """Names of the steps that are open, or were when the run ended: what ends a step early ends the run."""
    if state.running:
        return _open(state)
    begun = max((step.started_at or 0.0 for step in state.steps), default=0.0)
    return [plain(step.name) for step in state.steps if step.status == "failed" and (step.finished_at or 0.0) >= begun]


def _said(state: TaskState) -> str:
    if state.status is Status.FAILED and state.error:
        return plain(f"Failed: {_error(state)}")
    if state.message == RUNNING and (state.n or state.progress):
        return ""
    message = plain(state.message)
    # A step that has begun says its name.
    return "" if message in _open(state)[-1:] else message


def _error(state: TaskState) -> str:
    error, kind = state.error or "", state.error_type
    # The text of many exceptions means nothing without their class. A text for people needs none.
    return error if kind is None or state.error_public or error == kind else f"{kind}: {error}"


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
