"""The state of a run at one moment."""

from __future__ import annotations

from typing import Any

from ..progress.rate import rate_of, time_left
from ..progress.steps import closed
from ..state import TaskState, snapshot
from ..status import Status
from ..text import duration, rounded
from .reported import ReportedRun
from .run import Run


def state_of(run: Run) -> TaskState:
    """Return the state of a run at this moment: a few numbers, taken under the lock, and a view of the log."""
    if isinstance(run, ReportedRun) and run.latest is not None:
        return _reported_state(run, run.latest)
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
        message, said_in = run.message, run.message_scope
        failure = run.failure
        view = run.log.view()
        if "{" in message:
            left = 0.0 if status is Status.SUCCEEDED else eta
            if said_in is None or said_in is scope or not said_in.counts:
                message = fill(message, n, total, percent, rate, left)
            else:
                message = fill(message, said_in.done, said_in.total, percent, rate, left)
        # Not as keyword arguments, which would take a fifth of the time to collect.
        fields: dict[str, Any] = {
            "running": status.is_active,
            "progress": percent,
            "message": message,
            "complete": status == "succeeded",
            "error": None if failure is None else failure.text,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "name": settings.name,
            "status": status,
            "run": run.number,
            "n": n,
            "total": max(total, n) if total is not None else None,
            "steps": list(run.steps.records),
            "rate": rate,
            "eta": eta,
            "elapsed": 0.0 if run.began is None else max(0.0, now - run.began),
            "error_type": None if failure is None else failure.error_type,
            "error_public": failure is not None and failure.public,
        }
        return snapshot(view, fields)


def _reported_state(run: Run, latest: TaskState) -> TaskState:
    """Return the state of a run in another process: its last report, and how the run has ended here."""
    with run.lock:
        status, over = run.status, run.status.is_final
        view, failure = run.log.view(), run.failure
        fields: dict[str, Any] = {
            "running": status.is_active,
            "progress": 100.0 if status is Status.SUCCEEDED else latest.progress,
            "message": run.message,
            "complete": status is Status.SUCCEEDED,
            "error": None if failure is None else failure.text,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "name": run.settings.name,
            "status": status,
            "run": run.number,
            "n": latest.n,
            "total": latest.total,
            "steps": list(closed(latest.steps, run.finished_at, failed=status is not Status.SUCCEEDED))
            if over
            else latest.steps,
            "rate": None if over else latest.rate,
            "eta": None if over else latest.eta,
            "elapsed": latest.elapsed,
            "error_type": None if failure is None else failure.error_type,
            "error_public": failure is not None and failure.public,
        }
        return snapshot(view, fields)


def fill(message: str, n: int, total: int | None, percent: float, rate: float | None, eta: float | None) -> str:
    """Put the numbers into a message.

    Only these five names are replaced; any other brace stays as it is. A message may hold data from a client, with
    which ``str.format`` could reach attributes, raise, or make a text of a gigabyte.
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
