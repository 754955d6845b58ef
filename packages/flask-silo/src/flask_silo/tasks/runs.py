"""The runs of sessions' tasks in one process: where they are found, held and ended."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from flask import Flask
from silo_store import Hold, Life, Record, SessionExpired, SessionStore, StoreUnavailable, short
from silo_tasks import BackgroundTask, Cancelled, Status, StoredRun, TaskRunning, TaskState
from silo_tasks.runners.queue import QueueRunner

from ..fork import reset_after_fork
from .records import TaskRecords, label_of, stored_run
from .session import working_for
from .worker import TaskAddress, serve

if TYPE_CHECKING:
    from .task import SessionTask

logger = logging.getLogger("flask_silo")

MAX_FINISHED = 256
"""Finished runs whose values a process keeps, where other processes may end the sessions without telling it."""

MAX_MOVES = 3
"""How often a session is looked for that gets another id just when its task begins."""


class HostedTask(BackgroundTask):
    """A session's task in this process.

    Attributes:
        records: where other processes see it; None where there are none.
    """

    records: TaskRecords | None = None


class TaskCall(NamedTuple):
    """What a run has to do."""

    task: SessionTask[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class LatestRun(NamedTuple):
    """The newest run of a task."""

    hosted: HostedTask | None
    """It itself, where it is one of this process."""
    stored: StoredRun | None = None
    """What is stored of it, where sessions are kept as copies."""
    life: Life | None = None
    """The life of the session that it belongs to, where something is stored."""

    @property
    def running(self) -> bool:
        """Whether it is queued or running."""
        if self.stored is not None:
            return self.stored.running
        return self.hosted is not None and self.hosted.is_running

    @property
    def state(self) -> TaskState | None:
        """How far it is; None before the first."""
        if self.stored is not None:
            return TaskState.from_dict(self.stored.record)
        return self.hosted.state if self.hosted is not None else None


class SessionRuns:
    """The tasks of one application's sessions in this process: at most one of each name for each session."""

    def __init__(self, app: Flask, store: SessionStore) -> None:
        self._app = app
        self._store = store
        self._tasks: dict[str, dict[str, HostedTask]] = {}
        self._over: deque[tuple[str, weakref.ref[HostedTask]]] = deque()
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin with a free lock."""
        self._lock = threading.Lock()

    def find(self, uid: str | None, name: str) -> HostedTask | None:
        """Return the session's task of that name, if it was ever started here."""
        return self._tasks.get(uid or "", {}).get(name)

    def newest(self, record: Record, name: str) -> LatestRun:
        """Find a task's newest run in what the store has of a session: one of this process, or of another one."""
        if self._store.backend.live:
            return LatestRun(self.find(record.uid, name))
        stored = stored_run(record, name)
        if stored is None:
            return LatestRun(None)
        hosted = self.find(record.uid, name)
        if hosted is not None and (hosted.records is None or hosted.records.token != stored.token):
            hosted = None
        if hosted is None or not hosted.is_running:  # here it is known to live
            records = TaskRecords(self._store, record.sid)
            stored = records.current(record.uid, name, stored, self._store.moment().now)
        return LatestRun(hosted, stored, Life(record.sid, record.uid))

    def client_state(self, state: TaskState) -> dict[str, Any]:
        """Return a state as clients get it: its public form, or all of it while the application is debugged."""
        return state.to_dict(public=not self._app.debug)

    def make(self, sid: str, uid: str, name: str, options: dict[str, Any]) -> HostedTask:
        """Make a task for a session."""
        if self._store.backend.live:
            return self.find(uid, name) or HostedTask(name, **options)
        records = TaskRecords(self._store, sid)
        hosted = HostedTask(name, store=records, owner=uid, **options)
        hosted.records = records
        return hosted

    def begin(self, life: Life, task: HostedTask, call: TaskCall) -> None:
        """Start a task for a session. While it runs, the session does not expire.

        Raises:
            SessionExpired: the session is over.
            TaskRunning: a task of that name runs already.
            QueueFull: too many tasks are waiting.
            RunnerUnavailable: the task queue cannot be reached.
        """
        sid, uid = life
        runner = call.task.runner
        task.label = label_of(task.name, sid)
        if isinstance(runner, QueueRunner):
            # Its worker holds the session while it works.
            try:
                task.start(serve, self._address(life, task.name), *call.args, **call.kwargs)
            except TaskRunning:
                if self._store.attached(*life) is None:
                    raise SessionExpired(sid) from None
                raise
            return
        hold = self._hold(life)
        try:
            if task.records is None:
                with self._lock:  # of two requests that begin at once, the task itself knows which is first
                    task = self._tasks.setdefault(uid, {}).setdefault(task.name, task)
            if runner is not None and runner.remote:
                task.start(serve, self._address(life, task.name), *call.args, **call.kwargs)
            else:
                task.start(self._target, hold, call)
        except BaseException:
            with self._lock:
                tasks = self._tasks.get(uid, {})
                if tasks.get(task.name) is task and task.state.status is Status.IDLE:
                    self._forget(uid, task.name)
            hold.release()
            raise
        with self._lock:
            self._tasks.setdefault(uid, {})[task.name] = task
        task.on_done(lambda _task: self._done(uid, task, hold))
        if task.records is None and self._store.attached(hold.sid, uid) is None:
            self.end(uid)  # it ended just now; where there are records, the run finds that out by its own

    def _forget(self, uid: str, name: str) -> None:
        del self._tasks[uid][name]
        if not self._tasks[uid]:
            del self._tasks[uid]

    def _hold(self, life: Life) -> Hold:
        """Hold a life, also where its session has another id by now.

        Raises:
            SessionExpired: it is over.
        """
        sid, uid = life
        for _ in range(MAX_MOVES):
            with suppress(SessionExpired):
                hold = self._store.hold(sid)
                if hold.uid == uid:
                    hold.sids.add(life.sid)
                    return hold
                hold.release()
            record = self._store.attached(sid, uid)
            if record is None:
                break
            sid = record.sid
        raise SessionExpired(life.sid)

    def _address(self, life: Life, name: str) -> TaskAddress:
        sid, uid = life if self._store.backend.shared else (None, None)
        return TaskAddress(app=self._app.import_name, task=name, sid=sid, uid=uid)

    def _target(self, task: BackgroundTask, hold: Hold | None, call: TaskCall) -> Any:
        if hold is None:
            return self._execute(hold, call)
        task.label = label_of(call.task.name, hold.sid)
        try:
            return self._execute(hold, call)
        except Exception as error:
            if not self._is_over(hold, error):
                raise
            # The session is gone, as after a reset, so the task cannot go on. It is not at fault.
            kind = type(error).__name__
            logger.info("task %s was cancelled, as its session has ended (%s: %s)", task.label, kind, error)
            raise Cancelled from None
        finally:
            task.label = label_of(call.task.name, hold.sid)  # the session may have another id now

    def _is_over(self, hold: Hold, error: Exception) -> bool:
        if isinstance(error, SessionExpired) and error.sid in {hold.sid, *hold.sids}:
            return True
        try:
            return self._store.attached(hold.sid, hold.uid) is None
        except StoreUnavailable:
            return False

    def _execute(self, hold: Hold | None, call: TaskCall) -> Any:
        lock = self._store.locks.held(hold.sid) if hold is not None else None
        try:
            with working_for(hold), self._app.app_context():
                return call.task(*call.args, **call.kwargs)
        finally:
            if lock is not None and lock.session is not None:  # what it did stays, whatever becomes of the request
                self._store.write_back(lock.session, lock)

    def serve(
        self,
        task: BackgroundTask,
        address: TaskAddress,
        declared: SessionTask[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a task that another process has started for a session. While it runs, the session does not expire."""
        call, sid, uid = TaskCall(declared, args, kwargs), address["sid"], address["uid"]
        if sid is None or uid is None:
            return self._target(task, None, call)
        try:
            hold = self._hold(Life(sid, uid))
        except SessionExpired:
            raise Cancelled from None
        try:
            return self._target(task, hold, call)
        finally:
            self._release(hold, declared.name)

    def _done(self, uid: str, task: HostedTask, hold: Hold) -> None:
        if task.records is not None:
            with self._lock:
                self._over.append((uid, weakref.ref(task)))
                if len(self._over) > MAX_FINISHED:
                    self._drop(*self._over.popleft())
        self._release(hold, task.name)

    def _release(self, hold: Hold, name: str) -> None:
        """Release what held the session of a task that has ended. A store that is away now changes nothing of that."""
        try:
            hold.release()
        except StoreUnavailable as error:
            logger.warning("session %s was not renewed when its task %r ended: %s", short(hold.sid), name, error)

    def _drop(self, uid: str, task: weakref.ref[HostedTask]) -> None:
        tasks, old = self._tasks.get(uid, {}), task()
        if old is not None and tasks.get(old.name) is old:
            self._forget(uid, old.name)

    def end(self, uid: str) -> None:
        """Cancel and forget the tasks of a session that ended."""
        with self._lock:
            tasks = self._tasks.pop(uid, {})
        for task in tasks.values():
            task.cancel()
