"""``Run``, one run of a task: how it begins, stops and ends.

Each ``start()`` makes a new run. Code of a run that was given up still reports to its own run, never to the newer one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import TaskError, TaskTimeout
from ..log.lines import LogRing
from ..logger import get_logger
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

# Every run reads them. Before Python 3.12, ``Status.QUEUED`` takes twenty times as long as a global of the module.
_IDLE, _QUEUED, _RUNNING, _SUCCEEDED = Status.IDLE, Status.QUEUED, Status.RUNNING, Status.SUCCEEDED

_NOTHING: Mapping[str, Any] = {}


class Run:
    """One run of a task.

    Attributes are written by the code of the run or under its lock, and read by any thread.

    Args:
        settings: The settings that all runs of the task share.
        key: Identifies the task: the code of a run finds its own run by it.
        previous: The previous run of the task.
        task: The first argument of the function and of callbacks; None for a run that is never started.
        function: The function to call.
        args: Positional arguments after the task.
        kwargs: Keyword arguments.

    Attributes:
        executing: Whether the function is being executed, here or in a process that has already reported the end of the
            run.
        thread: The thread that executes the run; None if no thread of this process does.
        done: Set when the run is over.
        value_ready: Set when the run is over and its value, if it has one, is there. A run that called ``complete()``
            is over before its function returns.
        began, ended: When the run began and ended, by the clock for durations.
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
    """Whether only a task store connects this process to the run, so that a refresh may take a while."""

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
        self.settings: Settings = settings
        self.key: object = key
        # Dropped once the run has nothing to do: the reference cycle would keep the task alive.
        self.task: Any = task
        self.function: Callable[..., Any] | None = function
        self.args: tuple[Any, ...] = args
        self.kwargs: Mapping[str, Any] = _NOTHING if kwargs is None else kwargs
        # Reentrant: a garbage collection inside the lock may close a loop of this run.
        self.lock: threading.RLock = threading.RLock()
        self.progress: Progress = Progress(self.lock)
        self.steps: Steps = Steps()
        self.number: int = int(started) if previous is None else previous.number + started
        self.log: LogRing = LogRing(settings.max_logs, self.lock, 0 if previous is None else previous.last_seq)
        # After a reset the store still holds the record of the previous run.
        self._token: str | None = None if previous is None or started else previous._token
        self.stop: Stop = Stop(self.lock)
        if started:
            self.stop.direct = previous is None or previous.number == 0
        self.status: Status = _IDLE
        self.message: str = ""
        self.message_scope: Scope | None = None
        self.failure: Failure | None = None
        self.value: Any = None
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.began: float | None = None
        self.ended: float | None = None
        self.done: Latch = Latch()
        self.value_ready: Latch = Latch()
        self.callbacks: list[Callback] = []
        self.executing: bool = False
        self.thread: int | None = None

    def continue_from(self, token: str, number: int, last_seq: int) -> None:
        """Continue the numbering and the log of the previous run, whichever process ran it."""
        self.progress.shared = None
        self._token, self.number = token, number
        self.log = LogRing(self.settings.max_logs, self.lock, last_seq)

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.settings.name

    @property
    def label(self) -> str:
        """The task's name in the log of the server."""
        return self.settings.label

    @property
    def owner(self) -> str:
        """Owner of the task."""
        return self.settings.owner

    @property
    def last_seq(self) -> int:
        """Number of the last log line."""
        return self.log.last_seq

    @property
    def token(self) -> str:
        """Identifies this run. Made at the first access."""
        with self.lock:
            if self._token is None:
                self._token = os.urandom(16).hex()  # as ``secrets`` does, whose import takes milliseconds
            return self._token

    def enqueue(self, message: str, now: float) -> None:
        """Queue the run, with a message such as "Waiting for a thread"."""
        self.progress.shared = None
        self.message, self.started_at, self.status = message, now, _QUEUED

    def begin(self, thread: int | None = None) -> bool:
        """Begin to run, with the deadline counted from now.

        Args:
            thread: The thread that executes the run; None if another process does.

        Returns:
            False if the run was cancelled before.
        """
        # For a remote run, the worker applies the deadline: the run may have ended long before this process sees that.
        timeout = None if self.is_remote else self.settings.timeout
        started_at, now = self.settings.clock(), self.settings.mono()
        with self.lock:
            if self.status is not _QUEUED:
                return False
            self.progress.shared = None
            self.status = _RUNNING
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
        # Called without the lock: an argument may run code of the user when its last reference is dropped.
        self.task, self.function, self.args, self.kwargs = None, None, (), _NOTHING

    def is_closed(self) -> bool:
        """Return whether the run takes no more reports.

        Raises:
            Cancelled: The caller is code of this run, which must stop.
        """
        # Other code that reports to the run, such as a watcher, must not be stopped.
        if self.stop.wanted and self.is_here():
            self.stop.check()
        return self.status.is_final

    def is_here(self) -> bool:
        """Return whether the calling code belongs to this run."""
        return False

    def say(self, message: str) -> None:
        """Set the message. Its counts are those of the innermost scope."""
        with self.lock:
            # The run may have ended since the caller checked.
            if not self.status.is_final:
                self.progress.shared = None
                self.message, self.message_scope = cut(message), self.progress.top

    def end(
        self, outcome: Outcome, *, only_from: Status | None = None, withdrawn: bool = False, detach: bool = False
    ) -> bool:
        """End the run, unless it is over, and call its callbacks.

        Args:
            outcome: How the run ends.
            only_from: End the run only if it has this status.
            withdrawn: Keep the callbacks for the next run, because no runner has accepted this one.
            detach: Call the callbacks in a new thread, if one can be started.

        Returns:
            Whether this call ended the run.
        """
        # Outside the lock, because a clock may be code of the user.
        ended = self.settings.mono()
        finished_at = self.settings.clock() if outcome.finished_at is None else outcome.finished_at
        callbacks: list[Callback] | None = None
        with self.lock:
            if self.status.is_final or (only_from is not None and self.status is not only_from):
                return False
            task, reason = self.task, self.stop.reason
            # If nothing was started, callbacks wait for the next run.
            if task is not None and not withdrawn:
                callbacks = self.callbacks
                if callbacks:
                    self.callbacks = []
            alarm = self._close(outcome, ended, finished_at)
        if alarm is not None:
            alarm.cancel()
        if reason is not None and outcome.status is Status.CANCELLED and not withdrawn:
            log_loss(self.label, self.token, reason)
        self._release()
        if callbacks:
            # A callback must not delay the thread that reads the records of many runs.
            call_back(callbacks, task, detach=detach or self.is_remote)
        return True

    def _close(self, outcome: Outcome, ended: float, finished_at: float) -> Any:
        """Set how the run has ended. Called under the lock. Return the alarm to cancel without the lock."""
        status, message, failure, _ = outcome
        succeeded = status is _SUCCEEDED
        self.progress.shared = None
        self.status, self.ended, self.finished_at = status, ended, finished_at
        if self.steps.records:
            self.steps.records = closed(self.steps.records, finished_at, failed=not succeeded)
        self.progress.end(done=succeeded)
        if failure is not None:
            self.failure = failure
            message = failure.shown if message is None else message
        if succeeded and message is None and self.message_scope is None:
            self.message = "Done"
        elif message is not None:
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
        """Remove and return the callbacks. The caller calls them or gives them to another run."""
        # The list changes hands in one step, so that no callback is called twice.
        with self.lock:
            callbacks, self.callbacks = self.callbacks, []
            return callbacks

    def add_callback(self, callback: Callback) -> bool:
        """Add a callback. Return False if the run is over, so that the caller must call it at once."""
        with self.lock:
            added = not self.status.is_final
            if added:
                self.callbacks.append(callback)
        if added:
            self.follow()
        return added

    def fail(self, error: BaseException | str, cause: BaseException | None) -> None:
        """End the run as failed, on request of its code.

        An exception is logged at ERROR, because clients may not read its text; a text for clients is logged at INFO.
        """
        failure = failure_of(error, self.settings.public_errors, cause)
        if self.end(Outcome(Status.FAILED, failure=failure)):
            raised, logger = isinstance(error, BaseException), get_logger()
            log, text = (logger.error, failure.logged) if raised else (logger.info, failure.text)
            log(FAILED, self.label, short(self.token), text, exc_info=failure.exception)

    def cancel(self, *, detach: bool = False) -> bool:
        """Ask the run to stop. A queued run ends at once and never runs.

        Args:
            detach: Call the callbacks in a new thread, if one can be started.

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
        """End a running run for its watchers now. Its code is asked to stop, and its reports are ignored."""
        ended = self.end(outcome, only_from=Status.RUNNING, detach=True)
        if ended:
            self.stop.request()
            self._pass_on_stop()
        return ended

    def _pass_on_stop(self) -> None:
        """Ask the process that executes the run to stop it, if that is another process."""

    def will_stop(self, reason: str) -> None:
        """Note why the run is about to be stopped. The reason is logged if the stop ends the run."""
        with self.lock:
            if self.status.is_active and not self.stop.wanted:
                self.stop.reason = reason

    def left_behind(self) -> None:
        """Log that the run is lost, if it is still active when its process ends."""
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
        """Update the run before it is read: fail it if its deadline has passed."""
        deadline = self.stop.deadline
        if deadline is not None and self.status is Status.RUNNING and self.settings.mono() >= deadline:
            error = TaskTimeout(f"took longer than {self.settings.timeout:.10g} seconds", "TaskTimeout")
            if self.give_up(Outcome(Status.FAILED, failure=failure_of(error, self.settings.public_errors))):
                get_logger().warning(FAILED, self.label, short(self.token), error)

    def on_alarm(self) -> None:
        """Fail the run if its deadline has passed. With an injected clock, it may not have."""
        self.refresh()
        if self.settings.timeout is not None and not self.status.is_final:
            self.stop.set_alarm(self.settings.timeout, self.on_alarm)

    def refresh_to_wait(self) -> None:
        """Refresh before waiting, unless that cannot help."""
        self.refresh()

    def wait(self, latch: Latch, timeout: float | None) -> bool:
        """Wait up to ``timeout`` seconds (None: no limit) for ``done`` or ``value_ready``. Return whether it is set."""
        return latch.wait(timeout)

    def follow(self) -> None:
        """Make sure that the end of the run reaches waiting callbacks and coroutines."""

    @property
    def is_settled(self) -> bool:
        """Whether the run is over, and its store has or will get the same end."""
        return self.status.is_final and self.value_ready.is_set

    def result(self) -> Any:
        """Return the value of a finished run, or raise the error for how it ended; see ``result_of``."""
        return result_of(self.name, self.status, self.failure, self.value)

    def renew_locks(self) -> None:
        """Start with free locks."""
        self.lock = self.stop.lock = self.progress.lock = self.log.lock = threading.RLock()

    def after_fork(self) -> None:
        """Fail a run whose thread stayed in the parent. No callback is called: the parent does that."""
        self.renew_locks()
        if self.status is Status.IDLE or self.is_here():
            # Nothing had begun, or the code of this run has forked and goes on here.
            return
        self.done, self.value_ready = Latch(), Latch()
        self.callbacks, self.executing = [], False
        self.stop.forget_alarm()
        if self.status.is_active:
            # The run itself goes on in the parent, and is not lost.
            failure = Failure("the process was forked while it ran", "TaskLost", public=True)
            self.end(Outcome(Status.FAILED, failure=failure))
        else:
            # The thread in the parent may have been about to set the latches.
            self._release()
