"""Background tasks that belong to a session."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, TypeVar

from flask import Flask
from silo_store import Hold, Life, Record, SessionExpired, SessionStore, StoreUnavailable, short
from silo_store.fork import reset_after_fork
from silo_tasks import BackgroundTask, Cancelled, Runner, Status, TaskRunning, TaskState
from silo_tasks.runner import RemoteRunner
from silo_tasks.runners.engine import EngineRunner
from silo_tasks.slot import Slot

from .task_records import TaskRecords, find_life, slot_in
from .visit import current_visit, visiting
from .worker import Place, serve
from .workers import SHARE

if TYPE_CHECKING:
    from .ext import Silo

__all__ = ["BackgroundTask", "SessionTask", "SessionTasks", "TaskState", "current_hold"]

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("flask_silo")

KEPT = 256
"""Finished runs whose values a process keeps, where other processes may end the sessions without telling it."""

MOVES = 3
"""How often a session is looked for that gets another id just when its task begins."""

SETTLING = 2.0
"""Seconds for which `SessionTask.result` waits until other processes see the end of the run too."""

_holding: ContextVar[Hold | None] = ContextVar("silo_task_hold", default=None)


def current_hold() -> Hold | None:
    """Return the hold on the session that the running task works for, None outside a task."""
    return _holding.get()


class Work(BackgroundTask):
    """A session's task in this process.

    Attributes:
        records: where other processes see it; None where there are none.
    """

    records: TaskRecords | None = None


class SessionTasks:
    """The tasks of one application's sessions in this process: at most one of each name for each session."""

    def __init__(self, app: Flask, store: SessionStore) -> None:
        self._app = app
        self._store = store
        self._tasks: dict[str, dict[str, Work]] = {}
        self._over: deque[tuple[str, weakref.ref[Work]]] = deque()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Begin with a free lock."""
        self._lock = threading.Lock()

    def find(self, uid: str | None, name: str) -> Work | None:
        """Return the session's task of that name, if it was ever started here."""
        return self._tasks.get(uid or "", {}).get(name)

    def newest(self, record: Record, name: str) -> Newest:
        """Find a task's newest run in what the store has of a session: one of this process, or of another one."""
        if self._store.backend.live:
            return Newest(self.find(record.uid, name))
        slot = slot_in(record, name)
        if slot is None:
            return Newest(None)
        work = self.find(record.uid, name)
        if work is not None and (work.records is None or work.records.token != slot.token):
            work = None
        if work is None or not work.is_running:  # here it is known to live
            slot = slot.at(self._store.moment().now, TaskRecords.lease)
        return Newest(work, slot, Life(record.sid, record.uid))

    def make(self, sid: str, uid: str, name: str, options: dict[str, Any]) -> Work:
        """Make a task for a session."""
        if self._store.backend.live:
            return self.find(uid, name) or Work(name, **options)
        records = TaskRecords(self._store, sid)
        work = Work(name, store=records, owner=uid, **options)
        work.records = records
        return work

    def begin(self, life: Life, task: Work, call: Call) -> None:
        """Start a task for a session. While it runs, the session does not expire.

        Raises:
            SessionExpired: the session is over.
            TaskRunning: a task of that name runs already.
            QueueFull: too many tasks are waiting.
            RunnerUnavailable: the task queue cannot be reached.
        """
        sid, uid = life
        runner = call.task.runner
        if isinstance(runner, EngineRunner):
            # Its worker holds the session while it works.
            try:
                task.start(serve, self._place(life, task.name), *call.args, **call.kwargs)
            except TaskRunning:
                if find_life(self._store.backend, life) is None:
                    raise SessionExpired(sid) from None
                raise
            return
        hold = self._hold(life)
        try:
            with self._lock:
                tasks = self._tasks.setdefault(uid, {})
                before = tasks.get(task.name)
                if before is not None and before.is_running and before.records is None:
                    raise TaskRunning(f"task {task.name!r} is already running")
                tasks[task.name] = task
            try:
                if isinstance(runner, RemoteRunner):
                    task.start(serve, self._place(life, task.name), *call.args, **call.kwargs)
                else:
                    task.start(self._target, hold, call)
            except BaseException:
                with self._lock:
                    if before is not None:
                        tasks[task.name] = before
                    else:
                        tasks.pop(task.name)
                        if not tasks and self._tasks.get(uid) is tasks:
                            del self._tasks[uid]  # the session may end in a process that knows nothing of it
                raise
        except BaseException:
            hold.release()
            raise
        task.on_done(lambda _task: self._done(uid, task, hold))
        if self._tasks.get(uid) is not tasks:  # the session ended just now
            task.cancel()

    def _hold(self, life: Life) -> Hold:
        """Hold a life, also where its session has another id by now.

        Raises:
            SessionExpired: it is over.
        """
        sid, uid = life
        for _ in range(MOVES):
            with suppress(SessionExpired):
                hold = self._store.hold(sid)
                if hold.uid == uid:
                    hold.sids.add(life.sid)
                    return hold
                hold.release()
            record = find_life(self._store.backend, Life(sid, uid))
            if record is None:
                break
            sid = record.sid
        raise SessionExpired(life.sid)

    def _place(self, life: Life, name: str) -> Place:
        sid, uid = life if self._store.backend.shared else (None, None)
        return Place(app=self._app.import_name, task=name, sid=sid, uid=uid)

    def _target(self, _task: BackgroundTask, hold: Hold | None, call: Call) -> Any:
        # A run may be executed inside a request, whose view of the session is not the task's.
        visit, token = visiting.set(None), _holding.set(hold)
        turn = self._store.turns.held(hold.sid) if hold is not None else None
        try:
            with self._app.app_context():
                return call.task(*call.args, **call.kwargs)
        finally:
            if turn is not None and turn.session is not None:  # what it did stays, whatever becomes of the request
                self._store.write_back(turn.session, turn)
            _holding.reset(token)
            visiting.reset(visit)

    def serve(
        self,
        task: BackgroundTask,
        place: Place,
        declared: SessionTask[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a task that another process has started for a session. While it runs, the session does not expire."""
        call, sid, uid = Call(declared, args, kwargs), place["sid"], place["uid"]
        if sid is None or uid is None:
            return self._target(task, None, call)
        try:
            hold = self._hold(Life(sid, uid))
        except SessionExpired:
            raise Cancelled from None
        with hold:
            return self._target(task, hold, call)

    def _done(self, uid: str, task: Work, hold: Hold) -> None:
        if task.records is not None:
            with self._lock:
                self._over.append((uid, weakref.ref(task)))
                if len(self._over) > KEPT:
                    self._drop(*self._over.popleft())
        try:
            hold.release()
        except StoreUnavailable as error:
            text = "session %s was not renewed when its task %r ended: %s"
            logger.warning(text, short(hold.sid), task.name, error)

    def _drop(self, uid: str, task: weakref.ref[Work]) -> None:
        tasks, old = self._tasks.get(uid, {}), task()
        if old is not None and tasks.get(old.name) is old:
            del tasks[old.name]
            if not tasks:
                del self._tasks[uid]

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

    @property
    def runner(self) -> Runner | None:
        """Where it runs; None is the threads that all tasks share."""
        runner: Runner | None = self._options["runner"]
        return runner

    def start(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Run the function in the background once the request has succeeded and its changes are saved.

        If the view fails, it never starts. If too many tasks are waiting, or the task queue cannot be reached, the
        client gets a 503; what the view changed is saved by then.

        Raises:
            TypeError: the arguments do not fit the function, or one cannot be sent to a worker; the message names it.
            ValueError: the arguments are too large for the task queue; the message names the largest.
            TaskRunning: it runs already for this session, or this request started it before.
            RuntimeError: there is no request with a session, its response is on its way already, or workers cannot
                reach the sessions.
        """
        self._signature.bind(*args, **kwargs)
        if isinstance(self.runner, RemoteRunner):
            self.runner.check(self._function, args, kwargs, given=0)
        visit = self._silo.visit
        if visit.closed:
            raise RuntimeError("the response is on its way: start the task before the view returns")
        session = visit.begun()
        tasks = self._silo.binding.tasks
        if self.name in visit.jobs or self._look().running:
            raise TaskRunning(f"task {self.name!r} is already running")
        if isinstance(self.runner, EngineRunner) and not visit.store.backend.shared:
            raise RuntimeError(f"workers cannot reach sessions that are in this process's memory: {SHARE}")
        task = tasks.make(session.sid, session.uid, self.name, self._options)
        life = Life(session.sid, session.uid)
        visit.jobs[self.name] = functools.partial(tasks.begin, life, task, Call(self, args, kwargs))

    def _look(self) -> Newest:
        """Find the newest run: in this process, or in what the store knows of all processes."""
        silo = self._silo
        tasks = silo.binding.tasks
        if silo.here.store.backend.live:
            uid = silo.uid
            return Newest(tasks.find(uid, self.name) if uid else None)
        record = self._record()
        return tasks.newest(record, self.name) if record is not None else Newest(None)

    def _record(self) -> Record | None:
        """Return what the store has of the session that the running code works for.

        That is what the request has loaded, for the first look; who looks again wants to know what is new.
        """
        here = self._silo.here
        store = here.store
        if not isinstance(here, Hold):
            session = here.session or here.glance()
            if session is not None and self.name not in here.told:
                here.told += (self.name,)
                return session.origin
        if here.uid is not None:
            return find_life(store.backend, Life(here.sid, here.uid))
        record, at = store.backend.peek(here.sid), store.moment()
        if record is not None and at.now - record.active > at.ttl and store.uid(here.sid) != record.uid:
            return None
        return record

    @property
    def task(self) -> BackgroundTask | None:
        """The session's latest task of this function, wherever it runs; None before its first start."""
        newest = self._look()
        if newest.work is not None or newest.life is None:
            return newest.work
        records = TaskRecords(self._silo.here.store, newest.life.sid)
        return BackgroundTask.attach(self.name, records, newest.life.uid)

    @property
    def state(self) -> TaskState:
        """How far it is; an idle state before its first start. Neither waits nor begins a session.

        Where processes share sessions, all see the same: what the run stored last, half a second ago at most. The
        first look in a request costs nothing if the request has loaded its session.
        """
        visit = current_visit()
        if visit is not None and self.name in visit.jobs:
            return TaskState(name=self.name, running=True, status=Status.QUEUED)
        return self._look().state or TaskState(name=self.name)

    def cancel(self) -> bool:
        """Ask it to stop at the next item; what has not started never will. False where there is nothing to stop.

        A run in another process hears of it within half a second.
        """
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
            TaskError: it ran in another process and returned something that its record cannot hold: let the task put
                that into the session's state or files.
            RuntimeError: it was never started for this session.
        """
        visit = current_visit()
        loaded = visit.session if visit is not None else None
        task = self.task
        if task is None:
            raise RuntimeError(f"task {self.name!r} was not started for this session")
        try:
            value: R = task.result(timeout)
        finally:
            if visit is not None and loaded is None:
                visit.session = None  # what was loaded to find the task is of the past
            if isinstance(task, Work) and task.records is not None and not task.is_running:
                task.records.settled.wait(SETTLING)
        return value


class Call(NamedTuple):
    """What a run has to do."""

    task: SessionTask[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Newest(NamedTuple):
    """The newest run of a task."""

    work: Work | None
    """It itself, where it is one of this process."""
    slot: Slot | None = None
    """What is stored of it, where sessions are kept as copies."""
    life: Life | None = None
    """The life of the session that it belongs to, where something is stored."""

    @property
    def running(self) -> bool:
        """Whether it is queued or running."""
        if self.slot is not None:
            return self.slot.running
        return self.work is not None and self.work.is_running

    @property
    def state(self) -> TaskState | None:
        """How far it is; None before the first."""
        if self.slot is not None:
            return TaskState.from_dict(self.slot.record)
        return self.work.state if self.work is not None else None
