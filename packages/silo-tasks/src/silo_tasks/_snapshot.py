"""The state of a run at one moment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from silo_tasks.state import TaskState, snapshot

if TYPE_CHECKING:
    from silo_tasks._progress import Scope
    from silo_tasks._run import Run

_FIELD = re.compile(r"\{(n|total|percent|rate|eta)\}")


def state_of(run: Run) -> TaskState:
    """Take the state: a few numbers under the lock, and a view of the log."""
    settings = run.settings
    with run.lock:
        status = run.status
        progress = run.progress
        percent = progress.percent()
        scope = progress.counted()
        now = run.ended if run.ended is not None else settings.mono()
        n = scope.done if scope is not None else 0
        total = scope.total if scope is not None else None
        rate = eta = None
        if run.began is not None and run.ended is None:
            eta = run.pace.eta(now, run.began, percent)
            if scope is not None and progress.is_open(scope):
                rate = run.pace.rate(now, scope)
        message, told_in = run.message, run.message_scope
        view, last_seq, dropped = run.log.view()
        if "{" in message:
            counts = scope if told_in is None else progress.counted(told_in)
            message = fill(message, counts, percent, rate, eta)
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


def fill(message: str, counts: Scope | None, percent: float, rate: float | None, eta: float | None) -> str:
    """Put the numbers into a message. Only these five plain names are known; any other brace stays as it is."""
    n = 0 if counts is None else counts.done
    total = None if counts is None else counts.total
    values = {
        "n": str(n),
        "total": "?" if total is None else str(max(total, n)),
        "percent": f"{percent:.0f}",
        "rate": "?" if rate is None else f"{rate:.1f}",
        "eta": "?" if eta is None else duration(eta),
    }
    return _FIELD.sub(lambda match: values[match[1]], message)


def duration(seconds: float) -> str:
    """Seconds as `4:05` or `1:04:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
