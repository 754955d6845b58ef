"""One run of a task: how it begins, ends and is told to stop, here or elsewhere.

Each `start()` makes a new run. A run that was given up keeps its own record, so whatever its code still reports lands
there, where nobody looks, and never in the run that took its place.
"""

from __future__ import annotations

import logging
import threading
from contextvars import copy_context
from typing import Any

from ..errors import Cancelled, TaskCancelled, TaskError, TaskFailed, TaskLost, TaskTimeout
from ..log.lines import view_of
from ..loss import log_loss, reason_of, short
from ..progress.steps import closed
from ..state import TaskState
from ..status import RUNNING, Status
from ..stores.stored_run import TaskRecord
from ..text import cut, describe
from ..timer import deadlines
from .checks import explained
from .context import current_run
from .failure import (
    LAZY,
    Callback,
    call_back,
    has_begun,
    is_bare_key,
    let_go,
    only_cancelled,
    traceback_of,
    with_type,
)
from .job import Job
from .latch import Latch
from .own_code import OwnCode
from .public_errors import is_public
from .snapshot import MAX_VALUE, NOT_KEPT

logger = logging.getLogger("silo_tasks")

FAILED = "Task %s (run %s) failed: %s"
"""The log message of a run that has failed."""


class Run(OwnCode):
    """One run."""

    __slots__ = ()

    def job(self) -> Job:
        """Return what a runner gets."""
        settings = self.settings
        with self.lock:
            function, args, kwargs = self.function, self.args, self.kwargs
        if function is None:
            raise TaskError(f"task {self.name!r} has nothing to run: its run is over")
        return Job(
            self,
            settings.name,
            settings.label,
            settings.owner,
            self.number,
            function,
            args,
            kwargs,
            settings.timeout,
            settings.max_logs,
            self.log.last_seq,
            settings.public_errors,
        )

    def execute(self) -> None:
        """Run the target to its end in this thread; nothing when the run was cancelled before."""
        if self.function is None or not self.begin(here=True):
            return
        try:
            # A context of its own: what the target sets in context variables ends with it.
            copy_context().run(self._execute)
        finally:
            self.executing = False
            self._forget_call()
            if self.exception is not None:
                let_go(self.exception)
            # A run that called `complete()` may have logged lines since.
            self.log.trim()
            self.returned.set()

    def begin(self, *, here: bool = False) -> bool:
        """Be running, with the deadline counted from now; False when the run was cancelled before.

        Args:
            here: Whether this thread executes the target.
        """
        started_at, now = self.settings.clock(), self.settings.mono()
        # A run that nobody here is told of may have ended long before its deadline: its worker applies it.
        timeout = self.settings.timeout if self.away is None else None
        with self.lock:
            if self.status is not Status.QUEUED:
                return False
            self.status = Status.RUNNING
            if not self.said:
                self.message = RUNNING
            self.executing = here
            self.thread = threading.get_ident() if here else None
            self.started_at = started_at
            self.began = self.progress.base.opened = now
            if timeout is not None:
                self.deadline = now + timeout
        if timeout is not None:
            self._set_alarm(timeout)
        return True

    def _execute(self) -> None:
        self.parent = current_run.get()
        current_run.set(self)
        function, args, kwargs = self.function, (self.task, *self.args), self.kwargs
        assert function is not None
        try:
            value = function(*args, **kwargs)
            if isinstance(value, LAZY) and not has_begun(value):
                raise TypeError("the target of a task is a plain function, without yield; it may call asyncio.run()")
        except Cancelled:
            self.finish(Status.CANCELLED, message="Cancelled")
        except KeyboardInterrupt as error:
            self.crash(error)
            raise
        except BaseException as error:  # noqa: BLE001 - crash() logs it
            if only_cancelled(error):
                self.finish(Status.CANCELLED, message="Cancelled")
            else:
                self.crash(explained(error, function, args, kwargs))
        else:
            # From here on nothing is executed, so that a callback may ask for the result.
            self.value, self.executing = value, False
            self.finish(Status.SUCCEEDED)
            if self.status is not Status.SUCCEEDED:
                self.value = None
        finally:
            self.parent = None
            # What was raised holds this frame, and must not hold the arguments with it.
            del function, args, kwargs

    # The ends of a run.

    def finish(
        self,
        status: Status,
        *,
        expect: Status | None = None,
        message: str | None = None,
        error: BaseException | str | None = None,
        cause: BaseException | None = None,
        error_type: str | None = None,
        details: str = "",
        public: bool | None = None,
        finished_at: float | None = None,
        detach: bool = False,
        quiet: bool = False,
    ) -> bool:
        """End the run, once; whether this call ended it.

        Args:
            status: The final status.
            expect: End it only from this status.
            message: Replaces the message.
            error: What went wrong.
            cause: The exception behind it.
            error_type: Name of its class, where it was raised elsewhere.
            details: Its traceback, likewise.
            public: Whether clients may read what went wrong; None decides by its class.
            finished_at: When it ended, where that was elsewhere; None is now.
            detach: Call the callbacks in a thread of their own, if one can be had.
            quiet: Keep the callbacks, for a run that was never accepted.
        """
        text = None if error is None else describe(error)
        if isinstance(error, BaseException):
            cause = error
        if cause is not None:
            details = traceback_of(cause)
        if public is None:
            public = error is not None and is_public(error, self.settings.public_errors)
        # A text that clients may read stays as it was written.
        told = with_type(text, type(error).__name__) if text and not public and is_bare_key(error) else text
        ended = self.settings.mono()
        if finished_at is None:
            finished_at = self.settings.clock()
        with self.lock:
            if self.status.is_final or (expect is not None and self.status is not expect):
                return False
            self.status, self.stop, self.direct = status, True, False
            self.ended, self.finished_at = ended, finished_at
            if self.steps.records:
                self.steps.records = closed(self.steps.records, finished_at, failed=status is not Status.SUCCEEDED)
            self.progress.end(done=status is Status.SUCCEEDED)
            if status is Status.SUCCEEDED and message is None and not self.said:
                message = "Done"
            if text is not None:
                self.error, self.error_type, self.traceback = text, error_type, details
                self.error_public = public
                if message is None:
                    message = f"Failed: {told}"
            if cause is not None:
                self.error_type, self.exception = type(cause).__name__, cause
            if message is not None:
                self.message, self.message_scope = cut(message), None
            task, alarm, self._alarm = self.task, self._alarm, None
            stopped_by, self.stopped_by = self.stopped_by, None
            callbacks: list[Callback] = []
            # Where nothing was started, they wait for the next run.
            if not quiet and task is not None:
                callbacks, self.callbacks = self.callbacks, callbacks
            executing = self.executing
            if not executing:
                self._forget_call()
        if alarm is not None:
            alarm.cancel()
        if stopped_by is not None and status is Status.CANCELLED:
            log_loss(self.label, self.token, stopped_by)
        self.log.trim()
        if not executing:
            self.returned.set()
        self.done.set()
        if callbacks and task is not None:
            # Whoever looks at a run elsewhere has more to do than to call back, the publisher's thread above all.
            detach = detach or self.away is not None
            if detach:
                try:
                    threading.Thread(target=call_back, args=(callbacks, task), daemon=True).start()
                except RuntimeError:
                    # No thread can be had, as at interpreter exit.
                    detach = False
            if not detach:
                call_back(callbacks, task)
        return True

    def take_callbacks(self) -> list[Callback]:
        """Hand the callbacks over to whoever calls them."""
        # The list changes hands in one step, so that no callback is called twice.
        with self.lock:
            callbacks, self.callbacks = self.callbacks, []
            return callbacks

    def add_callback(self, callback: Callback) -> bool:
        """Add a callback; False when the run is over and it has to be called at once."""
        with self.lock:
            added = not self.status.is_final
            if added:
                self.callbacks.append(callback)
        if added:
            self.follow()
        return added

    def crash(self, error: BaseException) -> None:
        """End the run by an exception of its code."""
        # The first frame is ours. Not by the attribute: a frozen dataclass does not let it be set.
        traceback = error.__traceback__
        BaseException.with_traceback(error, traceback and traceback.tb_next)
        if self.finish(Status.FAILED, error=error):
            if isinstance(error, TaskLost) and isinstance(error.__cause__, SystemExit):
                # By the signal that its worker was sent.
                self._log_loss(reason_of(error.error))
            else:
                told = with_type(self.error or "", self.error_type)
                logger.error(FAILED, self.label, short(self.token), told, exc_info=error)
        else:
            logger.warning("Task %s (run %s) raised after its end", self.label, short(self.token), exc_info=error)

    def fail(self, error: BaseException | str, cause: BaseException | None) -> None:
        """End the run as failed, as its code asks.

        An exception is logged at ERROR, as clients may not read its text; a text for clients is logged at INFO.
        """
        if self.finish(Status.FAILED, error=error, cause=cause):
            cause = self.exception
            level = logging.ERROR if isinstance(error, BaseException) else logging.INFO
            told = with_type(self.error or "", self.error_type if isinstance(error, BaseException) else None)
            logger.log(level, FAILED, self.label, short(self.token), told, exc_info=cause)

    def cancel(self, *, detach: bool = False) -> bool:
        """Ask the run to stop; whether it was queued or running. A queued run ends at once and never runs.

        Args:
            detach: Call the callbacks in a thread of their own, if one can be had.
        """
        if self.away is not None:
            return self.away.cancel()
        if self.finish(Status.CANCELLED, expect=Status.QUEUED, message="Cancelled", detach=detach):
            return True
        return self._stop()

    def _stop(self) -> bool:
        with self.lock:
            running = self.status is Status.RUNNING
            if running:
                self._must_stop = True
                self._arm()
        on_stop = self.on_stop
        if running and on_stop is not None:
            on_stop()
        return running

    def give_up(self, status: Status, message: str | None, error: BaseException | None) -> bool:
        """End a running run for its watchers now; its code is told to stop and can report nothing any more."""
        ended = self.finish(status, expect=Status.RUNNING, message=message, error=error, detach=True)
        if ended:
            with self.lock:
                self._must_stop = True
                self._arm()
            on_stop = self.on_stop
            if on_stop is not None:
                on_stop()
        return ended

    def lose(self, reason: str, *, public: bool = True) -> None:
        """Fail a run that no thread or process will finish."""
        if not self.finish(Status.FAILED, error=reason, error_type="TaskLost", public=public):
            self._never_returns()
        elif self.away is None:
            # Many processes may see the end of a run that another process executes.
            log_loss(self.label, self.token, reason_of(reason))

    def killed(self) -> None:
        """End a run whose process was killed because it did not stop."""
        if not self.finish(Status.CANCELLED, message="Cancelled"):
            self._never_returns()

    def _never_returns(self) -> None:
        """Let go who waits for the value of a run that called `complete()` and did not come to its end."""
        with self.lock:
            if self.executing:
                self.value, self.executing = NOT_KEPT, False
                self._forget_call()
        self.returned.set()

    # A run that is executed elsewhere.

    def report(self, record: TaskRecord, value: Any = NOT_KEPT) -> None:
        """Show what was heard of a run that is executed elsewhere; the record of its end ends it here.

        Args:
            record: What its worker has stored or sent.
            value: What it returned, where that came with the record of its end.
        """
        shown = TaskState.from_dict(record)
        if shown.status is not Status.QUEUED:
            self.begin()
        with self.lock:
            self.log.follow(view_of(record))
            if self.status.is_final:
                if self.executing and not record.get("returning"):
                    self.value, self.executing = record.get("value", value), False
                    self._forget_call()
                    self.returned.set()
                return
            if not shown.status.is_final and self.shown is not None and shown.elapsed < self.shown.elapsed:
                # Two looked at once, and this is the older of what they saw.
                return
            self.executing = record.get("returning", False)
            self.shown = shown
            self.message, self.message_scope, self.started_at = shown.message, None, shown.started_at
            if shown.status is Status.SUCCEEDED:
                self.value = record.get("value", value)
        if shown.status.is_final:
            self.finish(
                shown.status,
                message=shown.message,
                error=shown.error,
                error_type=shown.error_type,
                details=record.get("traceback", ""),
                public=shown.error_public,
                finished_at=shown.finished_at,
            )

    def renew_locks(self) -> None:
        """Begin with free locks, in a forked child."""
        self.lock = self.progress.lock = self.log.lock = threading.RLock()

    def after_fork(self) -> None:
        """Fail a run whose thread stayed in the parent. No callback is called: that is for the parent to do."""
        self.renew_locks()
        if self.status is Status.IDLE or self.is_here():
            # Nobody had begun, or this very code forked, and goes on here.
            return
        if self.away is not None and self.status.is_active:
            # It goes on where it is; this child may look at it too.
            self.done, self.returned, self.callbacks = Latch(), Latch(), []
            self.away.after_fork()
            return
        self.done, self.returned = Latch(), Latch()
        self.callbacks, self._alarm, self.executing = [], None, False
        if self.status.is_active:
            # The run itself goes on in the parent, and is not lost.
            text = "the process was forked while it ran"
            self.finish(Status.FAILED, error=text, error_type="TaskLost", public=True)
        else:
            # The thread may have been about to say so.
            self._forget_call()
            self.done.set()
            self.returned.set()

    # The deadline.

    def wait(self, latch: Latch, timeout: float | None) -> bool:
        """Wait for `done` or `returned`, wherever the run is executed."""
        return latch.wait(timeout) if self.away is None else self.away.wait(latch, timeout)

    def follow(self) -> None:
        """See to it that callbacks and coroutines that wait for the end of a run elsewhere are told."""
        if self.away is not None:
            self.away.keep_looking()

    def refresh(self) -> None:
        """See what has changed by itself: the record of a run elsewhere, or a deadline that has passed."""
        if self.away is not None:
            self.away.look()
        else:
            self.expire_if_due()

    def expire_if_due(self) -> None:
        """Fail the run if its deadline has passed, so that a reader never sees an overdue run as running."""
        if self.deadline is not None and self.status is Status.RUNNING and self.settings.mono() >= self.deadline:
            seconds = self.settings.timeout
            error = TaskTimeout(f"took longer than {seconds:.10g} seconds", "TaskTimeout")
            if self.give_up(Status.FAILED, None, error):
                logger.warning(FAILED, self.label, short(self.token), error)

    def on_alarm(self) -> None:
        """The deadline should have come; with an injected clock it may not have."""
        self.expire_if_due()
        if self.settings.timeout is not None and not self.status.is_final:
            self._set_alarm(self.settings.timeout)

    def _set_alarm(self, delay: float) -> None:
        alarm = deadlines.call_later(delay, self.on_alarm)
        with self.lock:
            if not self.status.is_final:
                self._alarm = alarm
                return
        alarm.cancel()

    # What became of it.

    def not_over(self, timeout: float | None) -> TimeoutError:
        """What is raised to somebody whose waiting ran out."""
        return TimeoutError(f"task {self.name!r} is not over after {timeout or 0:.10g} seconds")

    def outcome(self) -> Any:
        """The value of a finished run.

        Raises:
            TaskFailed: It failed.
            TaskCancelled: It was cancelled.
            TaskError: It succeeded elsewhere, and its value could not be kept.
        """
        if self.status is Status.CANCELLED:
            raise TaskCancelled(self.name)
        if self.status is Status.FAILED:
            kind = TaskFailed
            if self.exception is None or isinstance(self.exception, TaskFailed):
                kind = {"TaskTimeout": TaskTimeout, "TaskLost": TaskLost}.get(self.error_type or "", TaskFailed)
            failed = kind(self.error or "", self.error_type, self.traceback)
            failed.public = self.error_public
            raise failed from self.exception
        if self.value is NOT_KEPT:
            raise TaskError(
                f"task {self.name!r} has succeeded elsewhere, and what it returned was not kept: it is no plain value "
                f"that takes up to {MAX_VALUE} characters of JSON. Put large results into a file or a store"
            )
        return self.value
