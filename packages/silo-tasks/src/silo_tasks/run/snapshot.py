"""The state of a run at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..progress.rate import rate_of, time_left
from ..progress.scopes import Scope
from ..progress.steps import StepState, closed
from ..state import UNREAD, TaskState, snapshot
from ..status import Status
from ..text import duration, rounded
from .reported import ReportedRun
from .run import Run

_OF_LOG = ("last_seq", "dropped", "private_count", "_view")


class Shared(NamedTuple):
    """What all looks at a run share until a report changes more than a count."""

    fields: dict[str, Any]
    """The fields of the state. Those that move while the run is active are replaced at each look."""
    steps: tuple[StepState, ...]
    scopes: Sequence[Scope]
    """The open scopes, innermost first; none if nothing moves: the run is over, or another process reports it."""
    counted: Scope | None
    """The scope whose counts are shown."""
    said_in: Scope | None
    """The scope in which the message was set."""
    last: list[tuple[Any, ...] | None]
    """One item: what the last look has counted, and what it has made of that; None before the first look."""


def state_of(run: Run) -> TaskState:
    """Return the state of a run at this moment. Takes the lock only if a report has changed more than a count.

    A look without the lock is of one moment: neither the run nor its log has changed between its beginning and its end.
    """
    progress, log = run.progress, run.log
    now = run.settings.mono()
    shared: Shared | None = progress.shared
    if shared:
        view = log.view()
        fields = _fields(run, shared, now)
        if progress.shared is shared and log.last_seq == view.last_seq:
            return snapshot(view, fields)
    # A signal handler, or code that a garbage collection calls, may look in the middle of a report of this thread.
    reports = run.lock._is_owned()  # type: ignore[attr-defined]
    with run.lock:
        shared = progress.shared
        if not shared:
            progress.shared = False
            shared = _shared_of(run)
            # A garbage collection may have closed a loop of this run meanwhile, which has reset it.
            if progress.shared is False and not reports:
                progress.shared = shared
        return snapshot(log.view(), _fields(run, shared, now))


def _shared_of(run: Run) -> Shared:
    """Return what the next looks have in common. Called under the lock."""
    status, failure, progress = run.status, run.failure, run.progress
    fields: dict[str, Any] = {
        "running": status.is_active,
        "progress": 0.0,
        "message": run.message,
        "logs": UNREAD,
        "complete": status is Status.SUCCEEDED,
        "error": None if failure is None else failure.text,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "name": run.settings.name,
        "status": status,
        "run": run.number,
        "n": 0,
        "total": None,
        "steps": None,
        "rate": None,
        "eta": None,
        "elapsed": 0.0,
        "error_type": None if failure is None else failure.error_type,
        "error_public": failure is not None and failure.public,
        "private_logs": UNREAD,
        "last_seq": 0,
        "dropped": 0,
        "private_count": 0,
        "_view": None,
    }
    if isinstance(run, ReportedRun) and run.latest is not None:
        return Shared(fields, _take_over(fields, run.latest), (), None, None, [None])
    shared = Shared(fields, run.steps.records, progress.scopes(), progress.counted(), run.message_scope, [None])
    if run.ended is None:
        return shared
    # Without the four fields that ``snapshot()`` sets, this takes half the memory for as long as the run is kept.
    kept = {key: value for key, value in _fields(run, shared, run.ended).items() if key not in _OF_LOG}
    kept["steps"] = None
    return Shared(kept, shared.steps, (), None, None, [None])


def _take_over(fields: dict[str, Any], latest: TaskState) -> tuple[StepState, ...]:
    """Put what another process has reported last into the fields. Return the steps."""
    status: Status = fields["status"]
    succeeded = status is Status.SUCCEEDED
    fields["progress"] = 100.0 if succeeded else latest.progress
    fields["n"], fields["total"], fields["elapsed"] = latest.n, latest.total, latest.elapsed
    if status.is_final:
        return closed(latest.steps, fields["finished_at"], failed=not succeeded)
    fields["rate"], fields["eta"] = latest.rate, latest.eta
    return tuple(latest.steps)


def _fields(run: Run, shared: Shared, now: float) -> dict[str, Any]:
    """Return the fields of a state at the time ``now``."""
    fields, steps, scopes, scope, said_in, last = shared
    fields = fields.copy()
    fields["steps"] = [*steps]
    if not scopes:
        return fields
    progress = run.progress
    # Each count is read once, so that the numbers of a state agree with one another.
    counted: list[tuple[Scope, int]] = []
    by_hand = 0.0
    for each in scopes:
        counted.append((each, each.done if each.counts else 0))
        if each.percent:
            by_hand = max(by_hand, each.reached_by_hand())
    seen = counted, by_hand, progress.reached
    n, rate, eta = 0, None, None
    if scope is not None:
        n = counted[0][1] if scope is scopes[0] else scope.done
    if run.began is not None:
        elapsed = now - run.began
        fields["elapsed"] = elapsed if elapsed > 0 else 0.0
        if run.ended is None:
            if scope is not None and not scope.closed:
                fields["rate"] = rate = rate_of(scope, n, now)
            fields["eta"] = eta = time_left(counted, now, rate if scope is scopes[0] else None)
    before = last[0]
    if before is not None and before[0] == seen:
        _, fields["progress"], fields["n"], fields["total"], fields["message"] = before
        return fields
    fields["progress"] = percent = progress.percent(counted, by_hand, shared)
    total = None
    if scope is not None:
        total = scope.total
        fields["n"], fields["total"] = n, total if total is None or total > n else n
    message = fields["message"]
    if "{" in message:
        left = 0.0 if fields["complete"] else eta
        if said_in is None or said_in is scope or not said_in.counts:
            fields["message"] = fill(message, n, total, percent, rate, left)
        else:
            fields["message"] = fill(message, said_in.done, said_in.total, percent, rate, left)
        if "{rate}" in message or "{eta}" in message:
            # They move on even while no count does.
            return fields
    last[0] = seen, percent, fields["n"], fields["total"], fields["message"]
    return fields


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
