"""The runs of sessions' tasks: those of this process, and those that other processes have stored."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from flask import Flask
from silo_store import Hold, Life, Record, SessionExpired, SessionStore
from silo_tasks import BackgroundTask, Runner, Status, StoredRun, TaskRunning, TaskState
from silo_tasks.runners.queue import QueueRunner

from ..fork import reset_after_fork
from .execution import Executor, TaskCall
from .records import TaskRecords, label_of, stored_run
from .worker import TaskAddress, serve

MAX_FINISHED = 256
"""How many finished runs a process keeps, with their values, if other processes may end their sessions."""

SETTLE_TIMEOUT = 2.0
"""Seconds for which ``HostedTask.settle`` waits."""


class HostedTask(BackgroundTask):
    """A session's task that this process has started.

    Args:
        name: The name of the task.
        records: Its records in the session store, which other processes read; None if sessions are live objects.
        uid: The uid of its session, if there are records.
        runner: The runner; None for the default one.
        options: Further arguments of ``BackgroundTask``.

    Attributes:
        records: As given.
        runs_on: The runner; None for the default one.
    """

    def __init__(
        self, name: str, *, records: TaskRecords | None = None, uid: str = "", runner: Runner | None, **options: Any
    ) -> None:
        super().__init__(name, store=records, owner=uid, runner=runner, **options)
        self.records = records
        self.runs_on = runner

    def settle(self) -> None:
        """Wait until other processes see the end of the run too, for two seconds at most."""
        if self.records is not None and not self.is_running:
            self.records.settled.wait(SETTLE_TIMEOUT)


class LatestRun(NamedTuple):
    """The latest run of a task."""

    hosted: HostedTask | None
    """The task of this process, if this process has started the run."""
    stored: StoredRun | None = None
    """The stored record of the run, if sessions are kept as copies."""
    life: Life | None = None
    """The life of its session, if something is stored."""

    @property
    def running(self) -> bool:
        """Whether the run is queued or running."""
        if self.stored is not None:
            return self.stored.running
        return self.hosted is not None and self.hosted.is_running

    @property
    def state(self) -> TaskState | None:
        """The state of the run; None before the first run."""
        if self.stored is not None:
            return TaskState.from_dict(self.stored.record)
        return self.hosted.state if self.hosted is not None else None


class SessionRuns:
    """The runs of one application's sessions: at most one of each task for each session.

    Args:
        app: The application.
        store: The store of its sessions.

    Attributes:
        executor: Executes those runs that this process executes.
        on_change: Called with the uid of a session after this process has begun a run of one of its tasks, has seen the
            end of such a run, or has ended the session.
    """

    def __init__(self, app: Flask, store: SessionStore) -> None:
        self.executor: Executor = Executor(app, store)
        self.on_change: Callable[[str], object] = lambda _uid: None
        self._app_name = app.import_name
        self._store = store
        self._tasks: dict[str, dict[str, HostedTask]] = {}
        self._finished: deque[tuple[str, weakref.ref[HostedTask]]] = deque()
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin with a free lock."""
        self._lock = threading.Lock()

    def find(self, uid: str | None, name: str) -> HostedTask | None:
        """Return a session's task, if this process has started it."""
        return self._tasks.get(uid or "", {}).get(name)

    def latest(self, record: Record, name: str) -> LatestRun:
        """Return the latest run of a task, in whichever process it runs, from the stored record of its session."""
        if self._store.backend.live:
            return LatestRun(self.find(record.uid, name))
        stored = stored_run(record, name)
        if stored is None:
            return LatestRun(None)
        hosted = self.find(record.uid, name)
        if hosted is not None and (hosted.records is None or hosted.records.token != stored.token):
            hosted = None
        if hosted is None or not hosted.is_running:  # a run that this process sees running cannot be lost
            records = TaskRecords(self._store, record.sid)
            stored = records.current(record.uid, name, stored, self._store.moment().now)
        return LatestRun(hosted, stored, Life(record.sid, record.uid))

    def task(self, name: str, latest: LatestRun) -> BackgroundTask | None:
        """Return a task by its latest run; None before the first run."""
        if latest.hosted is not None or latest.life is None:
            return latest.hosted
        return BackgroundTask.attach(name, TaskRecords(self._store, latest.life.sid), latest.life.uid)

    def begin(self, life: Life, call: TaskCall, options: dict[str, Any]) -> None:
        """Start a run for a session. While it runs, the session does not expire.

        Args:
            life: The life of the session.
            call: What to call.
            options: Arguments of ``BackgroundTask``, the runner among them.

        Raises:
            SessionExpired: The session has ended.
            TaskRunning: A run of the task is queued or running.
            QueueFull: Too many tasks are waiting.
            RunnerUnavailable: The task queue cannot be reached.
        """
        task = self._make(life, call.name, options)
        if not isinstance(task.runs_on, QueueRunner):
            self._host(life, task, call)
        else:
            try:
                self._send(life, task, call)  # the worker holds the session while it works
            except TaskRunning:
                if self._store.attached(*life) is None:
                    raise SessionExpired(life.sid) from None
                raise
        self.on_change(life.uid)

    def _make(self, life: Life, name: str, options: dict[str, Any]) -> HostedTask:
        if self._store.backend.live:
            task = self.find(life.uid, name) or HostedTask(name, **options)
        else:
            task = HostedTask(name, records=TaskRecords(self._store, life.sid), uid=life.uid, **options)
        task.label = label_of(name, life.sid)
        return task

    def _send(self, life: Life, task: HostedTask, call: TaskCall) -> None:
        sid, uid = life if self._store.backend.shared else (None, None)
        address = TaskAddress(app=self._app_name, task=call.name, sid=sid, uid=uid)
        task.start(serve, address, *call.args, **call.kwargs)

    def _host(self, life: Life, task: HostedTask, call: TaskCall) -> None:
        uid, name = life.uid, call.name
        hold = self.executor.hold(life)
        try:
            if task.records is None:
                with self._lock:  # if two requests begin at once, ``task.start`` refuses the second
                    task = self._tasks.setdefault(uid, {}).setdefault(name, task)
            if task.runs_on is not None and task.runs_on.remote:
                self._send(life, task, call)
            else:
                task.start(self.executor.execute, hold, call)
        except BaseException:
            with self._lock:
                if self.find(uid, name) is task and task.state.status is Status.IDLE:
                    self._forget(uid, name)
            hold.release()
            raise
        with self._lock:
            self._tasks.setdefault(uid, {})[name] = task
        task.on_done(lambda _task: self._done(uid, task, hold))
        if task.records is None and self._store.attached(hold.sid, uid) is None:
            self.end(uid)  # the session has just ended; a run with records learns that from them

    def _done(self, uid: str, task: HostedTask, hold: Hold) -> None:
        if task.records is not None:
            with self._lock:
                self._finished.append((uid, weakref.ref(task)))
                if len(self._finished) > MAX_FINISHED:
                    self._drop(*self._finished.popleft())
        self.executor.release(hold, task.name)
        self.on_change(uid)

    def _drop(self, uid: str, reference: weakref.ref[HostedTask]) -> None:
        task = reference()
        if task is not None and self.find(uid, task.name) is task:
            self._forget(uid, task.name)

    def _forget(self, uid: str, name: str) -> None:
        del self._tasks[uid][name]
        if not self._tasks[uid]:
            del self._tasks[uid]

    def end(self, uid: str) -> None:
        """Cancel and forget the tasks of a session that has ended."""
        with self._lock:
            tasks = self._tasks.pop(uid, {})
        for task in tasks.values():
            task.cancel()
        self.on_change(uid)
