"""The record of a run: its state, log and value for other processes."""

from __future__ import annotations

from typing import Any

from ..log.lines import LogView, line_of
from ..stores.stored_run import TaskRecord
from .outcome import MAX_VALUE, NOT_KEPT
from .run import Run
from .snapshot import state_of

MAX_LOGS = 50
"""Log lines in a record."""

MAX_TRACEBACK = 4000
"""Characters of a traceback in a record: its end, where the exception is."""


def record_of(run: Run) -> TaskRecord:
    """Return the record of a run for a store: its state as plain values, and what ``logs()`` and ``result()`` need.

    ``log`` holds the newest ``MAX_LOGS`` lines as (seq, time, level, text, public), and ``first_seq`` the number of the
    run's first line. A run that succeeded has its value in ``value``, as JSON gives it back, if that takes up to
    ``MAX_VALUE`` characters. A failed run has the end of its traceback in ``traceback``. ``returning`` is True if the
    run has called ``complete()`` and its function has not returned yet.
    """
    record, view = _state_and_log(run)
    record["log"] = [line_of(entry) for entry in view.newest(MAX_LOGS)]
    if record["complete"] and not run.value_ready.is_set:
        record["returning"] = True
    elif record["complete"]:
        value = _plain(run.value)
        if value is not NOT_KEPT:
            record["value"] = value
    if run.failure is not None and run.failure.traceback:
        record["traceback"] = run.failure.traceback[-MAX_TRACEBACK:]
    return record


def news_of(run: Run, since: int) -> TaskRecord:
    """Return the record that a child process sends to its parent.

    Unlike that of ``record_of()``, it has every kept line after number ``since``, the whole traceback, and no value.
    """
    record, view = _state_and_log(run)
    record["log"] = view.since(since)
    record["traceback"] = "" if run.failure is None else run.failure.traceback
    return record


def _state_and_log(run: Run) -> tuple[TaskRecord, LogView]:
    state = state_of(run)
    view: LogView = state.__dict__["_view"]
    record = state.to_dict(max_logs=0)
    del record["logs"], record["private_logs"], record["dropped"]
    record["first_seq"] = view.first_seq
    return record, view


def _plain(value: Any) -> Any:
    """Return a value as it comes back from JSON; ``NOT_KEPT`` if JSON cannot hold it, or it takes too long."""
    import json  # a run without a store does not need it

    parts, size = [], 0
    try:
        # Piece by piece, so that a large value costs no more than the largest that is kept.
        for part in json.JSONEncoder(allow_nan=False).iterencode(value):
            parts.append(part)
            size += len(part)
            if size > MAX_VALUE:
                return NOT_KEPT
        return json.loads("".join(parts))
    except Exception:  # noqa: BLE001 - whatever a class of the user's does
        return NOT_KEPT
