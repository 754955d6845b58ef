"""The state of a task at one moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any

from .log.lines import LogView, view_of
from .progress.steps import StepState
from .status import Status
from .text import rounded

_TIMES = ("started_at", "finished_at", "rate", "eta", "elapsed")

PRIVATE = "The task failed"
"""The text that clients read in place of a private error."""


UNREAD: Any = object()
"""Stands for a part of a snapshot's log until it is first read."""


@dataclass
class TaskState:
    """The state of a task at one moment: a snapshot, which does not change when the task goes on."""

    running: bool = False
    """Whether a run is queued or running."""
    progress: float = 0.0
    """Percent of the run that is done, 0.0 to 100.0. Within a run, only ``update(progress=)`` can lower it."""
    message: str = ""
    """The last message, cut to ``MAX_LINE`` characters, with its counts filled in. A run that has set none has
    "Waiting for a thread", "Waiting for a process" or "Waiting for a worker" while it is queued, then "Running"."""
    logs: list[str] = field(default_factory=list)
    """The texts of the kept log lines, oldest first."""
    complete: bool = False
    """Whether the run succeeded."""
    error: str | None = None
    """What went wrong, cut to ``MAX_LINE`` characters and never empty, if the run failed; None otherwise."""
    started_at: float | None = None
    """When the run began, in seconds by the task's clock; for a queued run, when ``start()`` was called."""
    finished_at: float | None = None
    """When the run ended, in seconds by the task's clock; None before that."""
    name: str = "task"
    """Name of the task."""
    status: Status = Status.IDLE
    """The status of the run."""
    run: int = 0
    """Number of the run, counted from 1; 0 before the first."""
    n: int = 0
    """Items done in the innermost loop, or in the last one."""
    total: int | None = None
    """Total number of items of that loop; None if it is unknown."""
    steps: list[StepState] = field(default_factory=list)
    """All steps, whether planned, running or ended, in order."""
    rate: float | None = None
    """Items per second; None if nothing is counted."""
    eta: float | None = None
    """Seconds left: those of the running step, by its own rate and total, plus those of the planned steps, by their
    weights. None if they cannot be estimated."""
    elapsed: float = 0.0
    """Seconds that the run has taken."""
    error_type: str | None = None
    """Name of the class of the exception that ended the run; None otherwise."""
    last_seq: int = 0
    """Sequence number of the last log line."""
    dropped: int = 0
    """Log lines of this run that are no longer kept."""
    error_public: bool = False
    """Whether clients may read ``error``: it is the text of ``fail()``, of a timeout, of a lost run, or of an exception
    whose class ``public_errors`` names."""
    private_logs: list[int] | None = None
    """Positions in ``logs`` of the private lines, which were captured from loggers. None if they are unknown: then
    clients may read no line."""
    private_count: int = 0
    """Number of private log lines of this run, kept or not."""

    def to_dict(self, *, max_logs: int = 50, public: bool = False) -> dict[str, Any]:
        """Return the state as plain values that JSON can hold.

        Args:
            max_logs: Number of newest log lines to include.
            public: Whether to return the form for clients. This form has "The task failed" in place of a private error
                and its message, and neither contains nor counts private log lines. ``error_type`` stays.
        """
        if public:
            return self._public(max_logs)
        # A copy with a few replaced values takes half the time of a new dict.
        values = self.__dict__
        record = values.copy()
        view: LogView | None = record.pop("_view", None)
        if len(record) > len(_NAMES):  # attributes of a subclass, or that a caller has added
            record = {name: record[name] for name in _NAMES}
        if view is not None and values["logs"] is UNREAD and not values["private_count"]:
            record["logs"], record["private_logs"] = view.newest_texts(max_logs), []
        else:
            record["logs"], record["private_logs"] = self._newest_logs(max_logs), self._private_in(max_logs)
        record["status"] = values["status"]._value_
        progress, steps = values["progress"], values["steps"]
        if progress:
            record["progress"] = rounded(progress, 1) if isfinite(progress) else 0.0
        elif progress is None:
            record["progress"] = 0.0
        record["steps"] = [step._asdict() for step in steps] if steps else []
        for name in _TIMES:
            value = values[name]
            if value and not isfinite(value):
                record[name] = None
        return record

    def _public(self, max_logs: int) -> dict[str, Any]:
        record = self.to_dict(max_logs=0)
        record["logs"], withheld = self._public_logs(max_logs)
        private = max(self.private_count, withheld)
        # As if the private lines had never been written, so that the numbers agree with the lines.
        record["last_seq"] = max(0, self.last_seq - private)
        record["dropped"] = max(0, self.dropped - (private - withheld))
        record["private_logs"], record["private_count"] = [], 0
        if not self.error_public and (self.error is not None or self.status is Status.FAILED):
            record["error"] = record["message"] = PRIVATE
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> TaskState:
        """Return the state from a record: a dict from ``to_dict()``, or a record of a task store.

        Unknown keys of a newer release are ignored; missing keys get the defaults.

        Raises:
            ValueError: The status is unknown.
        """
        values = {each.name: record[each.name] for each in fields(cls) if each.name in record}
        values["status"] = Status(record.get("status", Status.IDLE))
        if "log" in record:
            view = view_of(record)
            values["logs"], values["private_logs"] = view.texts(), view.private_positions()
            values["dropped"] = view.dropped
        else:
            values["logs"] = list(record.get("logs", ()))
            private = record.get("private_logs")
            values["private_logs"] = None if private is None else list(private)
        values["steps"] = [StepState(*map(step.get, StepState._fields)) for step in record.get("steps", ())]
        return cls(**values)

    def _newest_logs(self, count: int) -> list[str]:
        values = self.__dict__
        view: LogView | None = values.get("_view")
        if view is not None and values["logs"] is UNREAD:
            return view.newest_texts(count)
        return self.logs[-count:] if count > 0 else []

    def _private_in(self, count: int) -> list[int] | None:
        """Return the positions of the private lines among the newest ``count`` lines."""
        values = self.__dict__
        if values.get("_view") is not None and not values["private_count"]:
            return []
        private = self.private_logs
        if not private:
            return private
        left_out = max(0, len(self.logs) - max(0, count))
        return [at - left_out for at in private if at >= left_out]

    def _public_logs(self, count: int) -> tuple[list[str], int]:
        """Return the newest public lines, and the number of private lines that are kept."""
        view: LogView | None = self.__dict__.get("_view")
        if view is not None and not self.private_count:
            return self._newest_logs(count), 0
        if view is not None:
            entries = [entry for entry in view.all() if entry.public]
            withheld = view.stop - view.start - len(entries)
            return [entry.text for entry in entries[max(0, len(entries) - count) :]], withheld
        private = range(len(self.logs)) if self.private_logs is None else set(self.private_logs)
        logs = [text for i, text in enumerate(self.logs) if i not in private]
        return logs[max(0, len(logs) - count) :], len(self.logs) - len(logs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "logs": self.logs, "private_logs": self.private_logs, "_view": None}


class _LogField:
    """A field of a state that holds a part of its log. A snapshot builds it when it is first read."""

    def __init__(self, name: str, build: Callable[[LogView], list[Any]]) -> None:
        self._name = name
        self._build = build

    def __get__(self, state: TaskState | None, _: type[TaskState] | None = None) -> Any:
        if state is None:
            return self
        values = state.__dict__
        value = values[self._name]
        if value is UNREAD:
            values[self._name] = value = self._build(values["_view"])
        return value

    def __set__(self, state: TaskState, value: Any) -> None:
        state.__dict__[self._name] = value


# Not ``__getattr__``, with which reading any other attribute takes six times as long.
TaskState.logs = _LogField("logs", LogView.texts)  # type: ignore[assignment]
TaskState.private_logs = _LogField("private_logs", LogView.private_positions)  # type: ignore[assignment]


_NAMES = [each.name for each in fields(TaskState)]
_new = TaskState.__new__


def snapshot(view: LogView, fields: dict[str, Any]) -> TaskState:
    """Return a state whose log is built when it is first read, so that its cost does not depend on the log.

    Args:
        view: The log.
        fields: What the state has beside the numbers of its log, with ``UNREAD`` as ``logs`` and ``private_logs``. The
            state keeps this dict.
    """
    state = _new(TaskState)
    fields["last_seq"], fields["dropped"], fields["private_count"] = view.last_seq, view.dropped, view.private
    fields["_view"] = view
    state.__dict__ = fields
    return state
