"""A run that another process executes and reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..log.lines import view_of
from ..loss import log_loss, reason_of
from ..state import TaskState
from ..status import Status
from ..stores.stored_run import TaskRecord
from ..text import describe
from .failure import Failure
from .outcome import CANCELLED, NOT_KEPT, Outcome
from .run import Run


class ReportedRun(Run):
    """A run whose state comes from the records that another process reports.

    Attributes:
        latest: The state that was reported last; None before the first report.
        on_stop: Called, with no lock held, when the run is asked to stop; set by its runner.
    """

    __slots__ = ("latest", "on_stop")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.latest: TaskState | None = None
        self.on_stop: Callable[[], object] | None = None

    def report(self, record: TaskRecord, value: Any = NOT_KEPT) -> None:
        """Take over a record. The record of the run's end ends the run here.

        Args:
            record: The record that the other process has stored or sent.
            value: The return value of the function, if it came with the record of the end.
        """
        state = TaskState.from_dict(record)
        if state.status is not Status.QUEUED:
            self.begin()
        with self.lock:
            self.progress.shared = None
            self.log.follow(view_of(record))
            if over := self.status.is_final:
                returned = self.executing and not record.get("returning")
            elif not state.status.is_final and self.latest is not None and state.elapsed < self.latest.elapsed:
                # Two threads read at the same time, and this is the older record.
                return
            else:
                self.executing = record.get("returning", False)
                self.latest = state
                self.message, self.message_scope, self.started_at = state.message, None, state.started_at
                if state.status is Status.SUCCEEDED:
                    self.value = record.get("value", value)
        if over:
            if returned:
                self._return(record.get("value", value))
        elif state.status.is_final:
            failure = None
            if state.error is not None:
                failure = Failure(state.error, state.error_type, record.get("traceback", ""), state.error_public)
            self.end(Outcome(state.status, state.message, failure, state.finished_at))

    def lose(self, reason: str, *, public: bool = True) -> None:
        """Fail a run that no process will finish.

        Args:
            reason: What happened.
            public: Whether clients may read it.
        """
        if self._fail_as_lost(reason, public=public):
            log_loss(self.label, self.token, reason_of(reason))
        else:
            self._never_returns()

    def _fail_as_lost(self, reason: str, *, public: bool) -> bool:
        return self.end(Outcome(Status.FAILED, failure=Failure(describe(reason), "TaskLost", public=public)))

    def killed(self) -> None:
        """End a run whose process was killed because it did not stop."""
        if not self.end(CANCELLED):
            self._never_returns()

    def _never_returns(self) -> None:
        """Release callers of ``result()``: the run called ``complete()`` but will never return."""
        self._return(NOT_KEPT)

    def _return(self, value: Any) -> None:
        """Take the value of a run that is over and has not returned before."""
        with self.lock:
            if self.executing:
                self.value, self.executing = value, False
        self._drop_call()
        self.value_ready.set()

    def _pass_on_stop(self) -> None:
        on_stop = self.on_stop
        if on_stop is not None:
            on_stop()
