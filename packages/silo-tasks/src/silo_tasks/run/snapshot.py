"""The state of a run at one moment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..log.lines import LogView, line_of
from ..progress.rate import rate_of, time_left
from ..progress.steps import closed
from ..state import TaskState, snapshot
from ..status import Status
from ..text import duration, rounded

if TYPE_CHECKING:
    from ..stores.stored_run import TaskRecord
    from .run import Run

NOT_KEPT = object()
"""The value of a run elsewhere that returned something which its record could not hold."""

MAX_LOGS = 50
"""Log lines in a record."""

MAX_TRACEBACK = 4000
"""Characters of a traceback in a record: its end, where the exception is."""

MAX_VALUE = 65_536
"""Characters of JSON that the value of a run may take in its record."""

_ENCODER = json.JSONEncoder(allow_nan=False)


def state_of(run: Run) -> TaskState:
    """Take the state: a few numbers under the lock, and a view of the log."""
    if run.shown is not None:
        return _state_elsewhere(run, run.shown)
    settings = run.settings
    looked_at = settings.mono()
    with run.lock:
        status = run.status
        progress = run.progress
        percent = progress.percent()
        scope = progress.counted()
        now = run.ended if run.ended is not None else looked_at
        n = scope.done if scope is not None else 0
        total = scope.total if scope is not None else None
        rate = eta = None
        if run.began is not None and run.ended is None:
            eta = time_left(progress.top, now)
            if scope is not None and not scope.closed:
                rate = rate_of(scope, now)
        message, told_in = run.message, run.message_scope
        view = run.log.view()
        if "{" in message:
            left = 0.0 if status is Status.SUCCEEDED else eta
            if told_in is None or told_in is scope or not told_in.counts:
                message = fill(message, n, total, percent, rate, left)
            else:
                message = fill(message, told_in.done, told_in.total, percent, rate, left)
        return snapshot(
            view,
            running=status.is_active,
            progress=percent,
            message=message,
            complete=status == "succeeded",
            error=run.error,
            started_at=run.started_at,
            finished_at=run.finished_at,
            name=settings.name,
            status=status,
            run=run.number,
            n=n,
            total=max(total, n) if total is not None else None,
            steps=list(run.steps.records),
            rate=rate,
            eta=eta,
            elapsed=0.0 if run.began is None else max(0.0, now - run.began),
            error_type=run.error_type,
            error_public=run.error_public,
        )


def _state_elsewhere(run: Run, shown: TaskState) -> TaskState:
    """Take the state of a run that is executed elsewhere: what was last heard of it, and how it ended for this side."""
    with run.lock:
        status, over = run.status, run.status.is_final
        view = run.log.view()
        return snapshot(
            view,
            running=status.is_active,
            progress=100.0 if status is Status.SUCCEEDED else shown.progress,
            message=run.message,
            complete=status is Status.SUCCEEDED,
            error=run.error,
            started_at=run.started_at,
            finished_at=run.finished_at,
            name=run.settings.name,
            status=status,
            run=run.number,
            n=shown.n,
            total=shown.total,
            steps=list(closed(shown.steps, run.finished_at, failed=status is not Status.SUCCEEDED))
            if over
            else shown.steps,
            rate=None if over else shown.rate,
            eta=None if over else shown.eta,
            elapsed=shown.elapsed,
            error_type=run.error_type,
            error_public=run.error_public,
        )


def record_of(run: Run) -> TaskRecord:
    """Take what a store keeps of a run: its state as plain values, and what `logs()` and `result()` need elsewhere.

    `log` holds the newest `MAX_LOGS` lines as (seq, time, level, text, public), and `first_seq` the number of the run's
    first line. At the end of the run `value` is what it returned, as JSON gives it back, where that takes up to
    `MAX_VALUE` characters, and `traceback` the end of a failed one's. `returning` says that a run which called
    `complete()` has not returned yet.
    """
    record, view = _state_and_log(run)
    record["log"] = [line_of(entry) for entry in view.newest(MAX_LOGS)]
    if record["complete"] and not run.returned.is_set:
        record["returning"] = True
    elif record["complete"]:
        value = _plain(run.value)
        if value is not NOT_KEPT:
            record["value"] = value
    if run.traceback:
        record["traceback"] = run.traceback[-MAX_TRACEBACK:]
    return record


def news_of(run: Run, since: int) -> TaskRecord:
    """Take what a child process tells of its run.

    Unlike `record_of()` it has every kept line after number `since`, the whole traceback, and no value.
    """
    record, view = _state_and_log(run)
    record["log"] = view.since(since)
    record["traceback"] = run.traceback
    return record


def _state_and_log(run: Run) -> tuple[TaskRecord, LogView]:
    state = state_of(run)
    view: LogView = state.__dict__["_view"]
    record = state.to_dict(max_logs=0)
    del record["logs"], record["private_logs"], record["dropped"]
    record["first_seq"] = view.first_seq
    return record, view


def _plain(value: Any) -> Any:
    """The value as JSON gives it back; NOT_KEPT where it would not, or takes too long."""
    parts, size = [], 0
    try:
        # Piece by piece, so that a large value costs no more than what may be kept.
        for part in _ENCODER.iterencode(value):
            parts.append(part)
            size += len(part)
            if size > MAX_VALUE:
                return NOT_KEPT
        return json.loads("".join(parts))
    except Exception:  # noqa: BLE001 - whatever a class of the user's does
        return NOT_KEPT


def fill(message: str, n: int, total: int | None, percent: float, rate: float | None, eta: float | None) -> str:
    """Put the numbers into a message.

    Only these five plain names are known, and any other brace stays as it is. `str.format` would let a message that
    holds somebody's data reach attributes, raise, or ask for a width of a gigabyte.
    """
    if "{n}" in message:
        message = message.replace("{n}", str(n))
    if "{total}" in message:
        message = message.replace("{total}", "?" if total is None else str(max(total, n)))
    if "{percent}" in message:
        message = message.replace("{percent}", f"{rounded(percent):.0f}")
    if "{rate}" in message:
        message = message.replace("{rate}", "?" if rate is None else f"{rate:.1f}")
    if "{eta}" in message:
        message = message.replace("{eta}", "?" if eta is None else duration(eta))
    return message
