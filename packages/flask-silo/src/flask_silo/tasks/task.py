"""A function that runs in the background for a session."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from silo_store import Life
from silo_tasks import BackgroundTask, Runner, Status, TaskRunning, TaskState, default_runner
from silo_tasks.run.checks import explain_call, name_of
from silo_tasks.runners.queue import QueueRunner

from ..deployment import SHARE
from .records import TaskRecords
from .runs import HostedTask, LatestRun, TaskCall

if TYPE_CHECKING:
    from ..ext import Silo

logger = logging.getLogger("flask_silo")

P = ParamSpec("P")
R = TypeVar("R")

SETTLE_TIMEOUT = 2.0
"""Seconds for which `SessionTask.result` waits until other processes see the end of the run too."""


class SessionTask(Generic[P, R]):
    """A function that runs in the background for the session of the request; made by `Silo.task`.

    Calling it runs the function at once, as if it were not decorated. In a request that has a session, the log warns
    of that once for each task in each process, as `start()` may have been meant. A view can call the function itself,
    `__wrapped__`, without a warning.
    """

    def __init__(self, silo: Silo, function: Callable[P, R], name: str, options: dict[str, Any]) -> None:
        BackgroundTask(name, **options)  # it refuses what is wrong: here, and not in the first request
        functools.update_wrapper(self, function)  # first: it takes over the function's own attributes
        self.name = name
        self._silo = silo
        self._function = function
        self._signature = inspect.signature(function)
        self._options = options
        self._warned_in = 0

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._warned_in != os.getpid() and self._silo.current_request() is not None:
            self._warned_in = os.getpid()
            logger.warning(
                "task %r was called and runs inside the request, whose client waits for it. %s.start(...) runs it in "
                "the background; %s.__wrapped__(...) calls it without this warning",
                self.name,
                *2 * [name_of(self._function)],
            )
        return self._function(*args, **kwargs)

    @property
    def runner(self) -> Runner | None:
        """Where it runs; None is the threads that all tasks share."""
        runner: Runner | None = self._options["runner"]
        return runner

    def start(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Run the function in the background once the request has succeeded and its changes are saved.

        If the view fails, it never starts. If too many tasks are waiting, or the task queue cannot be reached, the
        client gets a 503; if another request starts it at the same moment, a 409. What the view changed is saved by
        then.

        Raises:
            TypeError: the arguments do not fit the function, or one cannot be sent to a worker; the message names the
                task and its parameters, or the argument.
            ValueError: the arguments are too large for the task queue; the message names the largest.
            TaskRunning: it runs already for this session, or this request started it before.
            RuntimeError: there is no request with a session, its response is on its way already, or workers cannot
                reach the sessions.
        """
        self._check(args, kwargs)
        if self.runner is not None:
            self.runner.check(self._function, args, kwargs, given=0)
        request = self._silo.request_session
        if request.closed:
            raise RuntimeError("the response is on its way: start the task before the view returns")
        session = request.begin()
        tasks = self._silo.binding.runs
        # What the session said when the view began may have changed: then a second look says so.
        if self.name in request.jobs or (self._look().running and self._look().running):
            raise TaskRunning(self.name)
        if isinstance(self.runner, QueueRunner) and not request.store.backend.shared:
            raise RuntimeError(f"workers cannot reach sessions that are in this process's memory: {SHARE}")
        task = tasks.make(session.sid, session.uid, self.name, self._options)
        life = Life(session.sid, session.uid)
        request.jobs[self.name] = functools.partial(tasks.begin, life, task, TaskCall(self, args, kwargs))

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            text = f"task {self.name!r}: {explain_call(self._function, error, given=0)}"
            if next(iter(self._signature.parameters), None) == "task":
                text += (
                    ". A function of @silo.task is not given its task: leave out the parameter 'task', and ask for the "
                    "task with silo_tasks.current_task()"
                )
            raise TypeError(text) from None

    def _look(self) -> LatestRun:
        """Find the newest run: in this process, or in what the store knows of all processes."""
        silo = self._silo
        tasks = silo.binding.runs
        if silo.here.store.backend.live:
            uid = silo.uid
            return LatestRun(tasks.find(uid, self.name) if uid else None)
        record = silo.here.record(self.name)
        return tasks.newest(record, self.name) if record is not None else LatestRun(None)

    @property
    def task(self) -> BackgroundTask | None:
        """The session's latest task of this function, wherever it runs; None before its first start."""
        return self._attached(self._look())

    def _attached(self, newest: LatestRun) -> BackgroundTask | None:
        if newest.hosted is not None or newest.life is None:
            return newest.hosted
        records = TaskRecords(self._silo.here.store, newest.life.sid)
        return BackgroundTask.attach(self.name, records, newest.life.uid)

    @property
    def state(self) -> TaskState:
        """How far it is; an idle state before its first start. Neither waits nor begins a session.

        Where processes share sessions, all see the same: what the run stored last, half a second ago at most. The
        first look in a request costs nothing if the request has loaded its session.
        """
        request = self._silo.current_request()
        if request is not None and self.name in request.jobs:
            message = (self.runner or default_runner()).waiting
            return TaskState(name=self.name, running=True, status=Status.QUEUED, message=message)
        return self._look().state or TaskState(name=self.name)

    def cancel(self) -> bool:
        """Ask it to stop at the next item; what has not started never will. False where there is nothing to stop.

        A run in another process hears of it within half a second.
        """
        request = self._silo.current_request()
        if request is not None and request.jobs.pop(self.name, None) is not None:
            return True
        task = self.task
        return task is not None and task.cancel()

    def result(self, timeout: float | None = None) -> R:
        """Wait for what the function returned.

        A writing request that has asked for state keeps its turn while it waits: a task that edits the same session
        cannot go on then. Wait in a reading request.

        Raises:
            TaskFailed: it raised.
            TaskCancelled: it was cancelled.
            TimeoutError: it was not done in ``timeout`` seconds.
            TooManyWaiters: the task runs, and ``max_waiters`` requests wait already.
            TaskError: it ran in another process and returned something that its record cannot hold: let the task put
                that into the session's state or files.
            RuntimeError: it was never started for this session, or this very request starts it.
        """
        request = self._silo.current_request()
        if request is not None and self.name in request.jobs:
            text = f"task {self.name!r} begins when this request has succeeded: ask for its result in a later one"
            raise RuntimeError(text)
        loaded = request.session if request is not None else None
        newest = self._look()
        task = self._attached(newest)
        if task is None:
            raise RuntimeError(f"task {self.name!r} was not started for this session")
        waits = newest.running and (timeout is None or timeout > 0)
        try:
            with self._silo.binding.waiting(self._silo.here.sid) if waits else nullcontext():
                value: R = task.result(timeout)
        finally:
            if request is not None and loaded is None:
                request.session = None  # what was loaded to find the task is of the past
            if isinstance(task, HostedTask) and task.records is not None and not task.is_running:
                task.records.settled.wait(SETTLE_TIMEOUT)
        return value
