"""The write lock of a session: one writer at a time.

This module keeps the threads of one process apart. The thread that has the lock claims the session from other
processes, if the backend is shared, when it loads the session.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import TracebackType

from .backend import Backend, Claim
from .errors import LockTimeout
from .fork import reset_after_fork
from .session import Session


class WriteLocks:
    """The write locks of a store's sessions. Only locks that are taken or waited for use memory.

    Attributes:
        waiting: Returns a context manager for a session's id, which is entered for each wait, whether for a thread or
            for another process. An error that it raises ends the wait. A lock that is free at once does not enter it.
            None for no limit.
        process: Marks the locks of this process; a forked child gets another one.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.waiting: Callable[[str], AbstractContextManager[object]] | None = None
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin with free locks: the writers are in the parent."""
        self._guard = threading.Lock()
        self._queues: dict[str, _Queue] = {}
        self.process = object()

    def writing(self, sid: str) -> bool:
        """Return whether a writer of this process has loaded the session under its lock and not given the lock back."""
        queue = self._queues.get(sid)
        lock = queue.holder if queue is not None else None
        return lock is not None and lock.session is not None

    def held(self, sid: str) -> WriteLock | None:
        """Return the write lock that the running thread or coroutine has on this session; None if it has none."""
        for lock in _held.get():
            if lock.sid == sid and lock.locks is self and lock.taken and lock.process is self.process:
                return lock
        return None

    def join(self, sid: str) -> _Queue:
        """Enter the queue of a session."""
        with self._guard:
            queue = self._queues.get(sid)
            if queue is None:
                queue = self._queues[sid] = _Queue()
            else:
                queue.size += 1
            return queue

    def leave(self, sid: str, queue: _Queue) -> None:
        """Leave the queue of a session. The last writer removes it."""
        with self._guard:
            if queue.size > 1:
                queue.size -= 1
                return
            for each in (sid, *queue.moved):
                if self._queues.get(each) is queue:
                    del self._queues[each]

    def move(self, lock: WriteLock, sid: str) -> None:
        """Move a lock to the new id of its session. Writers that wait under the old id stay in the same queue."""
        with self._guard:
            queue = lock.queue
            if queue is not None and sid not in self._queues:
                self._queues[sid] = queue
                queue.moved = (*queue.moved, lock.sid, sid)
            lock.sid = sid


class _Queue:
    __slots__ = ("holder", "lock", "moved", "size")

    def __init__(self) -> None:
        self.lock = threading.Lock()  # not an RLock: an async view may end on another thread than it began on
        self.size = 1
        self.holder: WriteLock | None = None
        self.moved: tuple[str, ...] = ()


class WriteLock:
    """The right to write one session, from ``take`` to ``give_back``.

    Attributes:
        sid: The session's id, which changes when the session is rotated.
        session: The session as the lock's owner has loaded it, shared by nested edits.
        claim: Keeps other processes from writing the session; None until it is loaded.
        last_write: Whether nothing more is written under this lock after the next write. That write gives the claim
            back too, which saves a round trip.
        waited: Seconds that ``take`` has waited.
        taken: Whether the lock is taken.
    """

    __slots__ = ("_key", "claim", "last_write", "locks", "process", "queue", "session", "sid", "taken", "waited")

    def __init__(self, locks: WriteLocks, sid: str) -> None:
        self.locks = locks
        self.sid = sid
        self.session: Session | None = None
        self.claim: Claim | None = None
        self.last_write = False
        self.waited = 0.0
        self.taken = False
        self.queue: _Queue | None = None
        self.process = locks.process  # a forked child inherits the objects of its parent, but not its rights

    def take(self, timeout: float) -> None:
        """Take the lock; wait for it if another thread has it.

        Raises:
            LockTimeout: The lock was not free within ``timeout`` seconds, or too many threads wait already.
        """
        self._key = self.sid
        queue = self.locks.join(self._key)
        if not queue.lock.acquire(blocking=False):
            taken = False
            began = time.monotonic()
            try:
                with self.locks.waiting(self.sid) if self.locks.waiting is not None else nullcontext():
                    taken = queue.lock.acquire(timeout=timeout)
            finally:  # also when a signal or a greenlet's timeout interrupts the wait
                if not taken:
                    self.locks.leave(self._key, queue)
            if not taken:
                raise LockTimeout(self.sid)
            self.waited = time.monotonic() - began
        self.queue = queue
        queue.holder = self
        self.taken = True
        others = _held.get()
        _held.set((*[lock for lock in others if lock.taken], self) if others else (self,))

    def give_back(self) -> None:
        """Give the lock to the next writer. Does nothing if it is not taken."""
        queue, self.queue = self.queue, None
        if queue is not None:
            claim, self.claim = self.claim, None
            try:
                if claim is not None:
                    self.locks.backend.release(claim)
            finally:  # also when a signal or a greenlet's timeout interrupts the release
                self.taken = False
                self.session = queue.holder = None
                queue.lock.release()
                self.locks.leave(self._key, queue)

    def __enter__(self) -> WriteLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()


_held: ContextVar[tuple[WriteLock, ...]] = ContextVar("silo_write_locks", default=())
