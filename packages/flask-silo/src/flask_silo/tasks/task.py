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
from silo_tasks import (
    BackgroundTask,
    Runner,
    Status,
    TaskRunning,
    TaskState,
    check_target,
    default_runner,
    explain_call,
)
from silo_tasks.runners.queue import QueueRunner

from ..deployment import SHARE
from .execution import TaskCall
from .runs import LatestRun

if TYPE_CHECKING:
    from ..ext import Silo

logger = logging.getLogger("flask_silo")

P = ParamSpec("P")
R = TypeVar("R")


class SessionTask(Generic[P, R]):
    """A function that runs in the background for the session of the request; ``Silo.task`` makes it.

    Calling the task runs the function at once, as if it were not decorated. In a request that has a session the log
    warns of that, once for each task in each process, because ``start()`` may have been meant. ``__wrapped__`` is the
    function itself, which can be called without a warning.

    Args:
        silo: The extension that has the sessions.
        function: The function.
        name: The name of the task; the function's name by default.
        options: Arguments of ``BackgroundTask``, the runner among them.

    Attributes:
        name: The name of the task.
    """

    def __init__(self, silo: Silo, function: Callable[P, R], name: str | None, options: dict[str, Any]) -> None:
        check_target(function, "@silo.task")
        name = name or function.__name__
        BackgroundTask(name, **options)  # refuses wrong options here, not in the first request
        functools.update_wrapper(self, function)  # first: it takes over the function's own attributes
        self.name = name
        self._silo = silo
        self._function = function
        self._signature = inspect.signature(function)
        self._options = options
        self._warned_in = 0

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._warned_in != os.getpid() and self._silo.current.find_request() is not None:
            self._warned_in = os.getpid()
            logger.warning(
                "task %r was called and runs inside the request, whose client waits for it. %s.start(...) runs it in "
                "the background; %s.__wrapped__(...) calls it without this warning",
                self.name,
                *2 * [getattr(self._function, "__name__", self.name)],
            )
        return self._function(*args, **kwargs)

    @property
    def runner(self) -> Runner | None:
        """Where it runs; None for the threads that all tasks share."""
        runner: Runner | None = self._options["runner"]
        return runner

    def start(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Run the function in the background once the request has succeeded and its changes are saved.

        If the view fails, it never starts. If too many tasks are waiting, or the task queue cannot be reached, the
        client gets a 503; if another request starts it at the same moment, a 409. What the view changed is saved by
        then.

        Raises:
            TypeError: The arguments do not fit the function, or one of them cannot be sent to a worker. The message
                names the task and its parameters, or the argument.
            ValueError: The arguments are too large for the task queue. The message names the largest.
            TaskRunning: The task is running for this session, or this request has started it.
            RuntimeError: There is no request with a session, the response has started, or workers cannot reach the
                sessions.
        """
        self._check(args, kwargs)
        if self.runner is not None:
            self.runner.check(self._function, args, kwargs, given=0)
        request = self._silo.current.request
        if request.closed:
            raise RuntimeError("the response has started: start the task before the view returns")
        session = request.begin()
        # The first look may read the session as it was loaded. A run that was running then may have ended since.
        if self.name in request.jobs or (self._look().running and self._look().running):
            raise TaskRunning(self.name)
        if isinstance(self.runner, QueueRunner) and not request.store.backend.shared:
            raise RuntimeError(f"workers cannot reach sessions in the memory of this process: {SHARE}")
        runs, life = self._silo.binding.runs, Life(session.sid, session.uid)
        request.jobs[self.name] = functools.partial(runs.begin, life, self.call(args, kwargs), self._options)

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskCall:
        """Return what a run with these arguments calls."""
        return TaskCall(self.name, self._function, args, kwargs)

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
        """Look up the latest run: in this process, or in the stored record of the session."""
        silo = self._silo
        runs = silo.binding.runs
        if silo.current.session.store.backend.live:
            uid = silo.uid
            return LatestRun(runs.find(uid, self.name) if uid else None)
        record = silo.current.session.record(self.name)
        return runs.latest(record, self.name) if record is not None else LatestRun(None)

    @property
    def task(self) -> BackgroundTask | None:
        """The session's latest task of this function, in whichever process it runs; None before its first start."""
        return self._silo.binding.runs.task(self.name, self._look())

    @property
    def state(self) -> TaskState:
        """The state of the latest run; an idle state before the first start. Reading it begins no session.

        Where processes share sessions, each process sees the state that the run stored last, half a second ago at
        most. If the request has loaded its session, the first look in it does not read the store again.
        """
        request = self._silo.current.find_request()
        if request is not None and self.name in request.jobs:
            message = (self.runner or default_runner()).waiting
            return TaskState(name=self.name, running=True, status=Status.QUEUED, message=message)
        return self._look().state or TaskState(name=self.name)

    def cancel(self) -> bool:
        """Ask the task to stop at the next item. A run that is still queued never begins.

        A run in another process gets the request within half a second.

        Returns:
            True if there was a run to stop.
        """
        request = self._silo.current.find_request()
        if request is not None and request.jobs.pop(self.name, None) is not None:
            return True
        task = self.task
        return task is not None and task.cancel()

    def result(self, timeout: float | None = None) -> R:
        """Wait for the task and return what its function returned.

        A writing request that has asked for state keeps the write lock while it waits: a task that edits the same
        session cannot go on then. Wait in a reading request.

        Args:
            timeout: Seconds to wait; None for no limit.

        Raises:
            TaskFailed: The function raised.
            TaskCancelled: The task was cancelled.
            TimeoutError: The task has not ended in ``timeout`` seconds.
            TooManyWaiters: The task is running, and ``max_waiters`` requests are waiting.
            TaskError: The task ran in another process and returned a value that its record cannot hold. Let the task
                put the value into the session's state or files.
            RuntimeError: The task was never started for this session, or this request starts it.
        """
        request = self._silo.current.find_request()
        if request is not None and self.name in request.jobs:
            text = f"task {self.name!r} begins when this request has succeeded: ask for its result in a later one"
            raise RuntimeError(text)
        loaded = request.session if request is not None else None
        latest = self._look()
        task = self._silo.binding.runs.task(self.name, latest)
        if task is None:
            raise RuntimeError(f"task {self.name!r} was not started for this session")
        waits = latest.running and (timeout is None or timeout > 0)
        try:
            with self._silo.binding.waiting(self._silo.current.session.sid) if waits else nullcontext():
                value: R = task.result(timeout)
        finally:
            if request is not None:  # what was read to find the task may have changed meanwhile
                request.look_again()
                if loaded is None:
                    request.session = None
            if latest.hosted is not None:
                latest.hosted.settle()
        return value
