"""One run of a task: it begins, ends once, and is told to stop.

Each ``start()`` makes a new run. A run that was given up keeps its own record, so whatever its code still reports goes
there, where no caller looks, and never into the run that took its place.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import TaskError, TaskTimeout
from ..log.lines import LogRing
from ..loss import log_loss, short
from ..progress.scopes import Progress, Scope
from ..progress.steps import Steps, closed
from ..status import RUNNING, Status
from ..text import cut
from .callbacks import Callback, call_back
from .failure import FAILED, Failure, failure_of
from .latch import Latch
from .outcome import CANCELLED, Outcome, result_of
from .settings import Settings
from .stopping import Stop

logger = logging.getLogger("silo_tasks")


class Run:
    """One run of a task.

    Attributes are written by the code of the run or under its lock, and read by any thread.

    Args:
        settings: What all runs of the task share.
        key: Names the task: the code of a run finds its own run by it.
        previous: The run before this one.
        task: What the function gets first and callbacks get; None for a run that is never started.
        function: The function to call.
        args: Its arguments after the task.
        kwargs: Its keyword arguments.

    Attributes:
        executing: Whether its function is being executed, here or in a process that has reported its end already.
        thread: The thread that executes it; None if none of this process does.
        done: Set when the run is over.
        value_ready: Set when the run is over and its value, if it has one, is there. A run that called ``complete()``
            is over before its function returns.
        began, ended: When it began and ended, by the clock for durations.
    """

    # Otherwise a run takes 64 bytes more, and 1,400 with 30 attributes, whose dict no longer shares its keys.
    __slots__ = (
        "_token",
        "args",
        "began",
        "callbacks",
        "done",
        "ended",
        "executing",
        "failure",
        "finished_at",
        "function",
        "key",
        "kwargs",
        "lock",
        "log",
        "message",
        "message_scope",
        "number",
        "progress",
        "settings",
        "started_at",
        "status",
        "steps",
        "stop",
        "task",
        "thread",
        "value",
        "value_ready",
    )

    is_remote = False
    """Whether only a task store connects this process to the run. Asking it may take a while."""

    def __init__(
        self,
        settings: Settings,
        key: object,
        previous: Run | None = None,
        task: Any = None,
        function: Callable[..., Any] | None = None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        started = task is not None
        self.settings = settings
        self.key = key
        # Kept only while the run has something to do, as a cycle would keep the task alive.
        self.task = task
        self.function = function
        self.args = args
        self.kwargs: Mapping[str, Any] = kwargs or {}
        # Reentrant: a garbage collection inside the lock may close a loop of this run.
        self.lock = threading.RLock()
        self.progress = Progress(self.lock)
        self.steps = Steps()
        self.number: int = int(started) if previous is None else previous.number + started
        self.log: LogRing = LogRing(settings.max_logs, self.lock, 0 if previous is None else previous.log.last_seq)
        # After a reset the store still holds the record of the previous run.
        self._token: str | None = None if previous is None or started else previous._token
        self.stop = Stop(self.lock, direct=started and (previous is None or previous.number == 0))
        self.status = Status.IDLE
        self.message = ""
        self.message_scope: Scope | None = None
        self.failure: Failure | None = None
        self.value: Any = None
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.began: float | None = None
        self.ended: float | None = None
        self.done = Latch()
        self.value_ready = Latch()
        self.callbacks: list[Callback] = []
        self.executing = False
        self.thread: int | None = None

    def continue_from(self, token: str, number: int, last_seq: int) -> None:
        """Continue the numbering and the log of the previous run, whichever process ran it."""
        self._token, self.number = token, number
        self.log = LogRing(self.settings.max_logs, self.lock, last_seq)

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.settings.name

    @property
    def label(self) -> str:
        """What the log of the server calls the task."""
        return self.settings.label

    @property
    def owner(self) -> str:
        """Whose task it is."""
        return self.settings.owner

    @property
    def token(self) -> str:
        """Names this run and no other; made when it is first asked for."""
        with self.lock:
            if self._token is None:
                self._token = secrets.token_hex(16)
            return self._token

    def enqueue(self, message: str, now: float) -> None:
        """Wait for a runner, with the message that says so."""
        self.message, self.started_at, self.status = message, now, Status.QUEUED

    def begin(self, thread: int | None = None) -> bool:
        """Begin to run, with the deadline counted from now.

        Args:
            thread: The thread that executes it; None if another process does.

        Returns:
            False if the run was cancelled before.
        """
        # A worker applies the deadline: the run may have ended long before it is looked at here.
        timeout = None if self.is_remote else self.settings.timeout
        started_at, now = self.settings.clock(), self.settings.mono()
        with self.lock:
            if self.status is not Status.QUEUED:
                return False
            self.status = Status.RUNNING
            if self.message_scope is None:
                self.message = RUNNING
            self.executing, self.thread = thread is not None, thread
            self.started_at = started_at
            self.began = self.progress.base.opened = now
            if timeout is not None:
                self.stop.deadline = now + timeout
        if timeout is not None:
            self.stop.set_alarm(timeout, self.on_alarm)
        return True

    def execute(self) -> None:
        """Run the function to its end in this thread, as only a ``LocalRun`` can."""
        raise TaskError(f"task {self.name!r} is executed by another process")

    def _drop_call(self) -> None:
        # Called without the lock: an argument may run code of the user's when its last reference goes.
        self.task, self.function, self.args, self.kwargs = None, None, (), {}

    def is_closed(self) -> bool:
        """Return whether the run takes no more reports.

        Raises:
            Cancelled: The caller is code of this run, which must stop.
        """
        # A watcher that reports something is not to be stopped.
        if self.stop.wanted and self.is_here():
            self.stop.check()
        return self.status.is_final

    def is_here(self) -> bool:
        """Return whether the calling code belongs to this run."""
        return False

    def say(self, message: str) -> None:
        """Set the message, as said in the innermost scope."""
        with self.lock:
            # The run may have ended since the caller has looked.
            if not self.status.is_final:
                self.message, self.message_scope = cut(message), self.progress.top

    def end(
        self, outcome: Outcome, *, only_from: Status | None = None, withdrawn: bool = False, detach: bool = False
    ) -> bool:
        """End the run, unless it is over, and call its callbacks.

        Args:
            outcome: How it ends.
            only_from: End it only if this is its status.
            withdrawn: Keep the callbacks for the next run, as no runner has accepted this one.
            detach: Call the callbacks in a thread of their own, if the system gives one.

        Returns:
            Whether this call ended it.
        """
        # Clocks are code of the user's, for which no lock is held.
        ended = self.settings.mono()
        finished_at = self.settings.clock() if outcome.finished_at is None else outcome.finished_at
        callbacks: list[Callback] = []
        with self.lock:
            if self.status.is_final or (only_from is not None and self.status is not only_from):
                return False
            task, reason = self.task, self.stop.reason
            # Where nothing was started, callbacks wait for the next run.
            if task is not None and not withdrawn:
                callbacks, self.callbacks = self.callbacks, callbacks
            alarm = self._close(outcome, ended, finished_at)
        if alarm is not None:
            alarm.cancel()
        if reason is not None and outcome.status is Status.CANCELLED and not withdrawn:
            log_loss(self.label, self.token, reason)
        self._release()
        if callbacks:
            # A thread that looks at the records of many runs is not held up by a callback of one.
            call_back(callbacks, task, detach=detach or self.is_remote)
        return True

    def _close(self, outcome: Outcome, ended: float, finished_at: float) -> Any:
        """Take over how the run has ended. Called under the lock; returns the alarm to cancel without it."""
        status, message, failure, _ = outcome
        succeeded = status is Status.SUCCEEDED
        self.status, self.ended, self.finished_at = status, ended, finished_at
        if self.steps.records:
            self.steps.records = closed(self.steps.records, finished_at, failed=not succeeded)
        self.progress.end(done=succeeded)
        if failure is not None:
            self.failure = failure
            message = failure.shown if message is None else message
        elif succeeded and message is None and self.message_scope is None:
            message = "Done"
        if message is not None:
            self.message, self.message_scope = cut(message), None
        return self.stop.close()

    def _release(self) -> None:
        """Wake up the callers that wait for the end."""
        self.log.trim()
        if not self.executing:
            self._drop_call()
            self.value_ready.set()
        self.done.set()

    def take_callbacks(self) -> list[Callback]:
        """Hand the callbacks over to the caller, who calls them or gives them to another run."""
        # The list changes hands in one step, so that no callback is called twice.
        with self.lock:
            callbacks, self.callbacks = self.callbacks, []
            return callbacks

    def add_callback(self, callback: Callback) -> bool:
        """Add a callback; False when the run is over and the caller has to call it at once."""
        with self.lock:
            added = not self.status.is_final
            if added:
                self.callbacks.append(callback)
        if added:
            self.follow()
        return added

    def fail(self, error: BaseException | str, cause: BaseException | None) -> None:
        """End the run as failed, as its code asks.

        An exception is logged at ERROR, as clients may not read its text; a text for clients is logged at INFO.
        """
        failure = failure_of(error, self.settings.public_errors, cause)
        if self.end(Outcome(Status.FAILED, failure=failure)):
            raised = isinstance(error, BaseException)
            level, text = (logging.ERROR, failure.logged) if raised else (logging.INFO, failure.text)
            logger.log(level, FAILED, self.label, short(self.token), text, exc_info=failure.exception)

    def cancel(self, *, detach: bool = False) -> bool:
        """Ask the run to stop. A queued run ends at once and never runs.

        Args:
            detach: Call the callbacks in a thread of their own, if the system gives one.

        Returns:
            Whether the run was queued or running.
        """
        if self.end(CANCELLED, only_from=Status.QUEUED, detach=detach):
            return True
        with self.lock:
            running = self.status is Status.RUNNING
            if running:
                self.stop.request()
        if running:
            self._pass_on_stop()
        return running

    def give_up(self, outcome: Outcome) -> bool:
        """End a running run for its watchers now; its code is told to stop, and its reports are ignored."""
        ended = self.end(outcome, only_from=Status.RUNNING, detach=True)
        if ended:
            self.stop.request()
            self._pass_on_stop()
        return ended

    def _pass_on_stop(self) -> None:
        """Tell the process that executes the run to stop it, if that is another one."""

    def will_stop(self, reason: str) -> None:
        """Note why the run is about to be stopped. The reason is logged if the stop ends it."""
        with self.lock:
            if self.status.is_active and not self.stop.wanted:
                self.stop.reason = reason

    def left_behind(self) -> None:
        """Log that the run is lost, if it is still at work when its process ends."""
        with self.lock:
            noted, self.stop.reason = self.stop.reason, None
        if noted is not None and self.status.is_active:
            self._log_loss("its process ended before it was over")

    def _log_loss(self, reason: str) -> None:
        """Log that the run is lost, unless another process has."""
        store = self.settings.store
        if store is not None:
            store.log_loss(self.owner, self.name, self.token, reason, label=self.label)
        else:
            log_loss(self.label, self.token, reason)

    def refresh(self) -> None:
        """Fail the run if its deadline has passed, so that a reader never sees an overdue run as running."""
        deadline = self.stop.deadline
        if deadline is not None and self.status is Status.RUNNING and self.settings.mono() >= deadline:
            error = TaskTimeout(f"took longer than {self.settings.timeout:.10g} seconds", "TaskTimeout")
            if self.give_up(Outcome(Status.FAILED, failure=failure_of(error, self.settings.public_errors))):
                logger.warning(FAILED, self.label, short(self.token), error)

    def on_alarm(self) -> None:
        """Fail the run if its deadline has passed; with an injected clock it may not have."""
        self.refresh()
        if self.settings.timeout is not None and not self.status.is_final:
            self.stop.set_alarm(self.settings.timeout, self.on_alarm)

    def refresh_to_wait(self) -> None:
        """Refresh before waiting, where that can save the waiting."""
        self.refresh()

    def wait(self, latch: Latch, timeout: float | None) -> bool:
        """Wait up to ``timeout`` seconds (None: no limit) for ``done`` or ``value_ready``; return whether it is set."""
        return latch.wait(timeout)

    def follow(self) -> None:
        """Make sure that callbacks and coroutines that wait for the end are told of it."""

    @property
    def is_settled(self) -> bool:
        """Whether the run is over, and its store has or will get the same end."""
        return self.status.is_final and self.value_ready.is_set

    def result(self) -> Any:
        """Return the value of a finished run, or raise what became of it; see ``result_of``."""
        return result_of(self.name, self.status, self.failure, self.value)

    def renew_locks(self) -> None:
        """Start with free locks."""
        self.lock = self.stop.lock = self.progress.lock = self.log.lock = threading.RLock()

    def after_fork(self) -> None:
        """Fail a run whose thread stayed in the parent. No callback is called: the parent does that."""
        self.renew_locks()
        if self.status is Status.IDLE or self.is_here():
            # Nothing had begun, or this very code forked, and goes on here.
            return
        self.done, self.value_ready = Latch(), Latch()
        self.callbacks, self.executing = [], False
        self.stop.forget_alarm()
        if self.status.is_active:
            # The run itself goes on in the parent, and is not lost.
            failure = Failure("the process was forked while it ran", "TaskLost", public=True)
            self.end(Outcome(Status.FAILED, failure=failure))
        else:
            # The thread may have been about to set them.
            self._release()
