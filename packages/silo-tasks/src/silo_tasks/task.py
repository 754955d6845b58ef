"""``BackgroundTask``: a function that runs in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec

from .checks import settings_of
from .errors import Cancelled, TaskError, TaskRunning
from .fork import reset_after_fork
from .importing import importing
from .log.lines import LogLine
from .reporting import Reporter
from .run.callbacks import call_back
from .run.context import current_run
from .run.idle import IdleRun
from .run.local import LocalRun
from .run.outcome import CANCELLED, not_over
from .run.public_errors import PublicErrors
from .run.run import Run
from .run.target import check_target
from .status import RUNNING, Status

if TYPE_CHECKING:
    from typing_extensions import Self

    from .runners.base import Runner
    from .runners.message import Message
    from .state import TaskState
    from .stores.base import TaskStore

P = ParamSpec("P")

_state_of: Callable[[Run], TaskState] | None = None
"""``state_of()``, once a caller has looked at a state."""

_shared_runner: Runner | None = None
"""The runner of tasks without a runner of their own, once such a task has been started."""


class BackgroundTask(Reporter):
    """Runs one function at a time in the background, and has its state, log and result.

    Making a task is cheap and starts nothing, so it can be kept in the state of a session. Every ``start()`` is a new
    run; reports of an old run never reach the state of a newer one.

    Args:
        name: Name of the task, for people and logs.
        timeout: Seconds that a run may take, counted from when it begins. After that, the run reads as failed in every
            process; its code is stopped when it next reports or takes an item.
        max_logs: Number of newest log lines that are kept, in up to 2,200 bytes each on average.
        runner: The runner that executes runs; None is the shared ``ThreadRunner``.
        store: The task store where other processes find the task. None is the store of the runner, if it has one.
        owner: Owner of the task; with the name, the key in the store.
        clock: Returns seconds since the epoch, for tests. By default, durations are measured by a monotonic clock, so
            that setting the system's time moves no deadline; they follow ``clock`` if it is given.
        public_errors: Classes of exceptions, or one class, whose text clients may read in
            ``state.to_dict(public=True)``; subclasses count. The text of any other exception may hold secrets, such as
            the address of a database with its password.

    Raises:
        ValueError: ``timeout`` is not positive, or ``max_logs`` is negative.
        TypeError: ``public_errors`` holds anything but classes of exceptions, or another argument is of the wrong kind;
            the message says what to give.
    """

    def __init__(
        self,
        name: str = "task",
        *,
        timeout: float | None = None,
        max_logs: int = 1000,
        runner: Runner | None = None,
        store: TaskStore | None = None,
        owner: str = "",
        clock: Callable[[], float] = time.time,
        public_errors: PublicErrors = (),
    ) -> None:
        self._settings = settings_of(name, timeout, max_logs, runner, store, owner, clock, public_errors)
        self._runner = runner
        self._lock = threading.RLock()
        self._key = object()
        self._run: Run = IdleRun(self._settings, self._key)
        reset_after_fork(self)

    @classmethod
    def attach(cls, name: str, store: TaskStore, owner: str = "") -> Self | None:
        """Return a task that any process has started, to watch its newest run, cancel it or wait for its result.

        Args:
            name: Name of the task.
            store: The task store with the task's record.
            owner: Owner of the task.

        Returns:
            The task, whose ``start()`` runs a function in this process; None if the store has no run of the task.

        Raises:
            TypeError: ``store`` is not a task store.
        """
        from .fitting import check_store
        from .run.remote import RemoteRun

        check_store(store)
        found = store.read(owner, name)
        if found is None:
            return None
        token, record = found
        task = cls(name, store=store, owner=owner)
        run = RemoteRun(store, task._settings, task._key, task=task)
        run.continue_from(token, record.get("run", 1), record.get("first_seq", 1) - 1)
        run.status = Status.QUEUED
        run.note_stored()
        run.report(record)
        task._run = run
        return task

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._run.after_fork()

    @property
    def name(self) -> str:
        """Name of the task."""
        return self._settings.name

    @property
    def label(self) -> str:
        """The task's name in the log of the server: its name in quotes, unless it was set to another text."""
        return self._settings.label

    @label.setter
    def label(self, label: str) -> None:
        self._settings = self._settings._replace(label=label)
        self._mine().settings = self._settings

    def start(self, target: Callable[Concatenate[Self, P], Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run ``target(task, *args, **kwargs)`` in the background.

        A target that returns has succeeded; one that raises has failed.

        Raises:
            TaskRunning: The task is queued or running, in this process or, according to its store, in another one.
            QueueFull: The queue of the runner is full. The task and its record are as before.
            RunnerUnavailable: The task queue or the store cannot be reached. The task is as before.
            TaskError: The runner cannot execute the target.
            TypeError: The target is not a plain function, or an argument cannot be sent to the process that would run
                it; the message names the argument.
        """
        check_target(target)
        runner = self._runner or _shared_runner or _import_shared_runner()
        now = self._settings.clock()
        self._run.refresh()
        with self._lock:
            previous = self._at_rest("start")
            run = self._next_run(runner, previous, target, args, kwargs)
            if previous.callbacks:
                run.callbacks = previous.take_callbacks()
            run.enqueue(runner.waiting, now)
            self._run = run
        try:
            self._submit(runner, run, previous)
        finally:
            if run.callbacks:
                run.follow()

    def _next_run(self, runner: Runner, previous: Run, *call: Any) -> Run:
        settings = self._settings
        if not runner.remote:
            return LocalRun(settings, self._key, previous, self, *call)
        # Here, and not in a thread that follows the run: a process forked during an import could not repeat it.
        from .run.remote import RemoteRun
        from .run.reported import ReportedRun

        if runner.store is None or settings.store is None:
            return ReportedRun(settings, self._key, previous, self, *call)
        return RemoteRun(settings.store, settings, self._key, previous, self, *call)

    def _submit(self, runner: Runner, run: Run, previous: Run) -> None:
        """Store the run and give it to its runner. If the runner does not accept it, the task is as before."""
        store = self._settings.store
        publication = None
        if store is not None:
            with importing:
                from .run.publishing import Publication

            publication = Publication(store, run)
        try:
            if publication is not None:
                publication.begin(previous, runner.max_wait)
            if not run.status.is_final:
                runner._submit_run(run)
        except BaseException as error:
            # A runner may raise what the run raised; then the run was executed after all.
            if not run.end(CANCELLED, only_from=Status.QUEUED, withdrawn=True):
                if isinstance(error, TaskError) and run.status is Status.CANCELLED:
                    # The run was cancelled on its way to the runner.
                    return
                raise
            if publication is not None:
                publication.drop()
            with self._lock:
                # Unless another caller has started or reset the task since: the new run has its callbacks then.
                if self._run is run:
                    previous.callbacks = run.take_callbacks()
                    self._run = previous
            if publication is not None and publication.begun:
                publication.withdraw(previous)
            raise

    def _at_rest(self, action: str) -> Run:
        newest = self._run
        if self._mine() is not newest:
            # Code of a run that was given up cannot start or reset its successor.
            raise Cancelled
        if newest.status.is_active:
            raise TaskRunning(self.name, newest.status.value, action)
        return newest

    def _adopt(self, message: Message, target: Callable[..., Any]) -> LocalRun:
        """Make the run of a message the newest one, in the process that executes it. Return that run."""
        self._settings = self._settings._replace(public_errors=frozenset(message.public_errors))
        run = LocalRun(self._settings, self._key, None, self, target, tuple(message.args), dict(message.kwargs))
        run.continue_from(message.token, message.number, message.last_seq)
        run.enqueue(RUNNING, self._settings.clock())
        self._run = run
        return run

    def reset(self) -> None:
        """Forget the last run. The task is idle again, with an empty log.

        Raises:
            TaskRunning: The task is queued or running.
        """
        self._run.refresh()
        with self._lock:
            previous = self._at_rest("reset")
            run = Run(self._settings, self._key, previous)
            run.callbacks = previous.take_callbacks()
            self._run = run

    def cancel(self, *, abandon: bool = False, kill_after: float | None = None) -> bool:
        """Ask the run to stop.

        A queued run is cancelled at once. A running one stops when it next takes an item from ``track()``, reports
        something, or passes a ``checkpoint()``. If it returns before that, it has succeeded.

        Args:
            abandon: Whether the run reads as cancelled at once. The task can then be started again, while the old code
                may still run up to its next item.
            kill_after: Seconds after which the process of the run is killed if its code has not stopped. Needs a runner
                with processes, such as ``ProcessRunner``.

        Returns:
            Whether the run was queued or running.

        Raises:
            TaskError: ``kill_after`` is given, and the runner cannot kill. The run was not asked to stop.
            RunnerUnavailable: The run is on a worker, and the task store cannot be reached.
            ValueError: ``kill_after`` is negative.
        """
        run, runner = self._mine(), self._runner
        if kill_after is None:
            runner = None
        elif not kill_after >= 0:
            raise ValueError("kill_after must be 0 or more")
        elif runner is None or not runner.can_kill:
            raise TaskError(f"the run of task {self.name!r} cannot be killed: that takes a ProcessRunner")
        asked = run.cancel()
        if abandon:
            run.give_up(CANCELLED)
        if runner is not None and kill_after is not None:
            asked = runner.kill(run.token, kill_after) or asked
        return asked

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run is over.

        Args:
            timeout: Seconds to wait; None for no limit.

        Returns:
            Whether the run is over. True also if nothing was started.

        Raises:
            TaskError: The run would wait for itself.
        """
        run = self._run
        run.refresh_to_wait()
        return not self._must_wait(run) or run.wait(run.done, timeout)

    async def wait_async(self, timeout: float | None = None) -> bool:
        """Wait as ``wait()`` does, in a coroutine: the asyncio loop goes on meanwhile, and no thread is used.

        Cancelling the coroutine ends the waiting; the run goes on.
        """
        # Here, so that a program without a loop does not import asyncio.
        from .run.waiting import passed, refreshed

        run = await refreshed(self._run)
        return not self._must_wait(run) or await passed(run, run.done, timeout)

    def _must_wait(self, run: Run) -> bool:
        if run.status.is_active and run.is_here():
            raise TaskError(f"task {self.name!r} would wait for itself")
        return run.status.is_active

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the run and return what its target returned. From a worker, the value comes back as JSON gives it.

        Args:
            timeout: Seconds to wait; None for no limit.

        Raises:
            TaskFailed: The run failed. The exception that ended it is the ``__cause__``, if it was raised in this
                process.
            TaskTimeout: The run took longer than its ``timeout``.
            TaskLost: The process of the run was killed or cannot reach the store.
            TaskCancelled: The run was cancelled.
            TimeoutError: The run is not over after ``timeout`` seconds.
            TaskError: Nothing was started, or the run would wait for itself, or it succeeded on a worker and its value
                was not kept.
        """
        run = self._run
        run.refresh_to_wait()
        self._check_started(run)
        end = None if timeout is None else time.monotonic() + timeout
        over = run.wait(run.done, timeout)
        if over and run.status is Status.SUCCEEDED:
            # A target that called complete() goes on until it returns its value.
            over = run.wait(run.value_ready, None if end is None else max(0.0, end - time.monotonic()))
        if not over:
            raise not_over(self.name, timeout)
        return run.result()

    async def result_async(self, timeout: float | None = None) -> Any:
        """Return what ``result()`` returns, in a coroutine: the asyncio loop goes on meanwhile, and no thread is used.

        Cancelling the coroutine ends the waiting; the run goes on.
        """
        from .run.waiting import refreshed, value_of

        run = await refreshed(self._run)
        self._check_started(run)
        return await value_of(run, timeout)

    def _check_started(self, run: Run) -> None:
        if run.status is Status.IDLE:
            raise TaskError(f"task {self.name!r} has not been started")
        # A callback of a run that called complete() is not its code, but the run waits for it.
        if run.executing and (run.thread == threading.get_ident() or run.is_here()):
            raise TaskError(f"task {self.name!r} would wait for itself")

    def on_done(self, callback: Callable[[BackgroundTask], object]) -> None:
        """Call ``callback(task)`` once, when the run is over; at once if it is over already.

        On an idle task, the callback waits for the next run. The thread that ended the run calls it, with no lock held.
        An error of the callback is logged, and affects nothing else.

        Raises:
            TypeError: The callback is not callable.
        """
        if not callable(callback):
            raise TypeError(f"on_done() takes a function, as in on_done(print), not a {type(callback).__name__}")
        with self._lock:
            # A start() takes over the callbacks of the previous run under this lock.
            added = self._run.add_callback(callback)
        if not added:
            call_back([callback], self)

    @property
    def state(self) -> TaskState:
        """A snapshot of the newest run."""
        # Without ``_refreshed()``: with many watchers, the time of one more call is noticeable.
        run = self._run
        run.refresh()
        return (_state_of or _import_state_of())(run)

    def _refreshed(self) -> Run:
        run = self._run
        run.refresh()
        return run

    @property
    def is_running(self) -> bool:
        """Whether a run is queued or running."""
        return self._refreshed().status.is_active

    @property
    def is_complete(self) -> bool:
        """Whether the run succeeded."""
        return self._refreshed().status is Status.SUCCEEDED

    @property
    def is_failed(self) -> bool:
        """Whether the run failed."""
        return self._refreshed().status is Status.FAILED

    def logs(self, since: int = 0) -> list[LogLine]:
        """Return the kept log lines newer than line number ``since``, oldest first.

        Numbers continue from run to run, so a client that passes the last number it has seen misses no new line.
        """
        return self._refreshed().log.view().since(since)

    def __repr__(self) -> str:
        return f"<BackgroundTask {self.name!r} {self._run.status.value}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a BackgroundTask is a live object: it can be neither copied nor pickled. "
            "Keep it in this process's memory, and store task.state.to_dict() where a record is enough."
        )


def _import_state_of() -> Callable[[Run], TaskState]:
    """Import what makes a ``TaskState``. It needs dataclasses, which take longer than this package."""
    global _state_of
    with importing:
        from .run.snapshot import state_of

    _state_of = state_of
    return state_of


def _import_shared_runner() -> Runner:
    """Import the shared runner, with the logging module, whose import takes as long as that of this package."""
    global _shared_runner
    with importing:
        from .runners.thread import default_runner

    _shared_runner = runner = default_runner()
    return runner


def current_task() -> BackgroundTask | None:
    """Return the task whose function is running here; None outside any task.

    The task belongs to the context, not to the thread: code in an ``asyncio`` loop that the function started finds it.
    A thread that the function starts finds it only if it runs in a copy of the context
    (``contextvars.copy_context().run``).
    """
    run = current_run.get()
    task: BackgroundTask | None = None if run is None else run.task
    return task
