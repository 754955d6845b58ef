"""The state of a run at one moment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from silo_tasks._meter import Pace
from silo_tasks.state import TaskState, rounded, snapshot

if TYPE_CHECKING:
    from silo_tasks._run import Run


def state_of(run: Run) -> TaskState:
    """Take the state: a few numbers under the lock, and a view of the log."""
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
            pace = run.pace
            if pace is None:
                pace = run.pace = Pace()
            eta = pace.eta(now, run.began, percent)
            if scope is not None and not scope.closed:
                rate = pace.rate(now, scope, n)
        message, told_in = run.message, run.message_scope
        view, last_seq, dropped = run.log.view()
        if "{" in message:
            if told_in is None or told_in is scope or not told_in.counts:
                message = fill(message, n, total, percent, rate, eta)
            else:
                message = fill(message, told_in.done, told_in.total, percent, rate, eta)
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
            last_seq=last_seq,
            dropped=dropped,
        )


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


def duration(seconds: float) -> str:
    """Seconds as `4:05` or `1:04:05`, `?` when nobody can tell."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
