"""Background tasks that belong to a session."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from flask import Flask
from silo_store import Hold, SessionExpired, SessionStore
from silo_store.fork import reset_after_fork
from silo_tasks import BackgroundTask, Status, TaskRunning, TaskState

from .visit import current_visit

if TYPE_CHECKING:
    from .ext import Silo

__all__ = ["BackgroundTask", "SessionTask", "SessionTasks", "TaskState", "current_hold"]

P = ParamSpec("P")
R = TypeVar("R")


_holding: ContextVar[Hold | None] = ContextVar("silo_task_hold", default=None)


def current_hold() -> Hold | None:
    """Return the hold on the session that the running task works for, None outside a task."""
    return _holding.get()


class SessionTasks:
    """The tasks of one application's sessions: at most one of each name for each session."""

    def __init__(self, app: Flask, store: SessionStore) -> None:
        self._app = app
        self._store = store
        self._tasks: dict[str, dict[str, BackgroundTask]] = {}
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Begin with a free lock."""
        self._lock = threading.Lock()

    def find(self, uid: str | None, name: str) -> BackgroundTask | None:
        """Return the session's task of that name, if it was ever started."""
        return self._tasks.get(uid or "", {}).get(name)

    def begin(self, sid: str, uid: str, task: BackgroundTask, run: Callable[[], Any]) -> None:
        """Start a task for a session. While it runs, the session does not expire.

        Raises:
            SessionExpired: the session is over.
            TaskRunning: a task of that name runs already.
            QueueFull: too many tasks are waiting.
        """
        hold = self._store.hold(sid)
        try:
            if hold.uid != uid:
                raise SessionExpired(sid)
            with self._lock:
                tasks = self._tasks.setdefault(uid, {})
                before = tasks.get(task.name)
                if before is not None and before.is_running:
                    raise TaskRunning(f"task {task.name!r} is already running")
                tasks[task.name] = task
            try:
                task.start(self._target, hold, run)
            except BaseException:
                tasks.pop(task.name)
                if before is not None:
                    tasks[task.name] = before
                raise
        except BaseException:
            hold.release()
            raise
        task.on_done(lambda _task: hold.release())
        if self._tasks.get(uid) is not tasks:  # the session ended just now
            task.cancel()

    def _target(self, _task: BackgroundTask, hold: Hold, run: Callable[[], Any]) -> Any:
        token = _holding.set(hold)
        try:
            with self._app.app_context():
                return run()
        finally:
            _holding.reset(token)

    def end(self, uid: str) -> None:
        """Cancel and forget the tasks of a session that ended."""
        with self._lock:
            tasks = self._tasks.pop(uid, {})
        for task in tasks.values():
            task.cancel()


class SessionTask(Generic[P, R]):
    """A function that runs in the background for the session of the request; made by `Silo.task`.

    Calling it runs the function here and now, as if it were not decorated.
    """

    def __init__(self, silo: Silo, function: Callable[P, R], name: str, options: dict[str, Any]) -> None:
        self.name = name
        self._silo = silo
        self._function = function
        self._signature = inspect.signature(function)
        self._options = options
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)

    def start(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Run the function in the background once the request has succeeded and its changes are saved.

        If the view fails, it never starts. If too many tasks are waiting, the client gets a 503; what the view changed
        is saved by then.

        Raises:
            TypeError: the arguments do not fit the function; the message names the one.
            TaskRunning: it runs already for this session, or this request started it before.
            RuntimeError: there is no request with a session, or its response is on its way already.
        """
        self._signature.bind(*args, **kwargs)
        visit = self._silo.visit
        if visit.closed:
            raise RuntimeError("the response is on its way: start the task before the view returns")
        session = visit.begun()
        tasks = self._silo.binding.tasks
        running = tasks.find(session.uid, self.name)
        if self.name in visit.jobs or (running is not None and running.is_running):
            raise TaskRunning(f"task {self.name!r} is already running")
        task = BackgroundTask(self.name, **self._options)
        run = functools.partial(self._function, *args, **kwargs)
        visit.jobs[self.name] = functools.partial(tasks.begin, session.sid, session.uid, task, run)

    @property
    def task(self) -> BackgroundTask | None:
        """The session's latest task of this function; None before its first start."""
        uid = self._silo.uid
        return self._silo.binding.tasks.find(uid, self.name) if uid else None

    @property
    def state(self) -> TaskState:
        """How far it is; an idle state before its first start. Neither waits nor begins a session."""
        visit = current_visit()
        if visit is not None and self.name in visit.jobs:
            return TaskState(name=self.name, running=True, status=Status.QUEUED)
        task = self.task
        return task.state if task is not None else TaskState(name=self.name)

    def cancel(self) -> bool:
        """Ask it to stop at the next item; what has not started never will. False where there is nothing to stop."""
        visit = current_visit()
        if visit is not None and visit.jobs.pop(self.name, None) is not None:
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
            RuntimeError: it was never started for this session.
        """
        task = self.task
        if task is None:
            raise RuntimeError(f"task {self.name!r} was not started for this session")
        value: R = task.result(timeout)
        return value
