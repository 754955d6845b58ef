"""The write lock of a session: one writer at a time.

This module keeps the threads of one process apart. The thread that has the lock claims the session from other
processes, if the backend is shared, when it loads the session.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import TracebackType

from .backend import Backend, Claim, Moment
from .errors import LockTimeout
from .fork import reset_after_fork
from .session import Session


class WriteLocks:
    """The write locks of a store's sessions. Only locks that are taken or waited for use memory.

    A lock that no other writer waits for is taken by adding it to ``holders`` and given back by removing it, without
    another lock. The second writer makes a queue. From then on, the lock is handed to the writer that has waited
    longest, and its entry stays in ``holders``, so a writer that comes later cannot overtake. ``guard`` is held for
    each change of a queue.

    Attributes:
        holders: The lock that is taken, by the session's id; under two ids after the session was rotated.
        waiting: Returns a context manager for a session's id, which is entered for each wait, whether for a thread or
            for another process. An error that it raises ends the wait. A lock that is free at once does not enter it.
            None for no limit.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.waiting: Callable[[str], AbstractContextManager[object]] | None = None
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin with free locks: the writers are in the parent."""
        self.guard: threading.Lock = threading.Lock()
        self.holders: dict[str, WriteLock] = {}

    def writing(self, sid: str) -> bool:
        """Return whether a writer of this process has loaded the session under its lock and not given the lock back."""
        lock = self.holders.get(sid)
        return lock is not None and lock.session is not None

    def held(self, sid: str) -> WriteLock | None:
        """Return the write lock that the running thread or coroutine has on this session; None if it has none."""
        try:
            lock = self.holders.get(sid)
        except TypeError:  # not a session id, and not even hashable
            return None
        return lock if lock is not None and lock.sid == sid and lock in _held.get() else None

    def move(self, lock: WriteLock, sid: str) -> None:
        """Move a lock to the new id of its session. Writers that wait under the old id stay in the same queue."""
        with self.guard:
            if lock.taken and self.holders.setdefault(sid, lock) is lock:
                if lock.queue is None:
                    del lock.alone
                    lock.queue = _Queue(lock.sid)
                lock.queue.sids += (sid,)
            lock.sid = sid


class _Queue:
    """The writers that wait for a lock, and the ids under which the lock is in ``WriteLocks.holders``."""

    __slots__ = ("sids", "waiting")

    def __init__(self, sid: str) -> None:
        self.sids: tuple[str, ...] = (sid,)
        self.waiting: deque[WriteLock] = deque()


class WriteLock:
    """The right to write one session, from ``take`` to ``give_back``.

    Attributes:
        sid: The session's id, which changes when the session is rotated.
        session: The session as the lock's owner has loaded it, shared by nested edits.
        claim: Keeps other processes from writing the session; None until it is loaded.
        loaded: When the session was loaded; None until then.
        last_write: Whether nothing more is written under this lock after the next write. That write gives the claim
            back too, which saves a round trip.
        waited: Seconds that ``take`` has waited.
        taken: Whether the lock is taken.
        alone: Set while no other writer waits. Deleting it is atomic: if the owner deletes it first, it gives the lock
            back alone; if the second writer does, that writer makes the queue.
        queue: The queue in which the writer waits, or to which it gives the lock back; None if it is alone.
    """

    __slots__ = (
        "_handed",
        "alone",
        "claim",
        "holders",
        "last_write",
        "loaded",
        "locks",
        "queue",
        "session",
        "sid",
        "taken",
        "waited",
    )

    def __init__(self, locks: WriteLocks, sid: str) -> None:
        self.locks: WriteLocks = locks
        self.sid: str = sid
        self.session: Session | None = None
        self.claim: Claim | None = None
        self.loaded: Moment | None = None
        self.last_write: bool = False
        self.waited: float = 0.0
        self.taken: bool = False
        self.queue: _Queue | None = None

    def take(self, timeout: float) -> None:
        """Take the lock; wait for it if another thread has it.

        Raises:
            LockTimeout: The lock was not free within ``timeout`` seconds, or too many threads wait already.
        """
        holders = self.locks.holders
        self.holders: dict[str, WriteLock] = holders  # kept: a forked child begins with other ones
        self.alone: bool = True
        if holders.setdefault(self.sid, self) is not self:
            self._wait(timeout)
        self.taken = True
        others = _held.get()
        if others and (others[0].taken or len(others) > 1):
            _held.set((*[lock for lock in others if lock.taken], self))
        else:
            _held.set((self,))

    def give_back(self) -> None:
        """Give the lock to the next writer. Does nothing if it is not taken."""
        if self.taken:
            claim, self.claim = self.claim, None
            try:
                if claim is not None:
                    self.locks.backend.release(claim)
            finally:  # also when a signal or a greenlet's timeout interrupts the release
                self.taken = False
                self.session = None
                try:
                    del self.alone
                except AttributeError:
                    self._hand_over()
                else:
                    del self.holders[self.sid]
        elif self.queue is not None or self.locks.holders.get(self.sid) is self:  # a signal has interrupted ``take``
            self._abandon()

    def _hand_over(self) -> None:
        """Hand the lock to the writer that has waited longest, or free it."""
        with self.locks.guard:
            queue, self.queue = self.queue, None
            if queue is None:
                if hasattr(self, "alone"):  # ``_queue_of`` has put it back, or a signal has interrupted ``take``
                    del self.alone, self.holders[self.sid]
                return
            if not queue.waiting:
                for sid in queue.sids:
                    self.holders.pop(sid, None)
                return
            heir = queue.waiting.popleft()
            for sid in queue.sids:
                self.holders[sid] = heir
            heir._handed.release()

    # Waiting

    def _wait(self, timeout: float) -> None:
        """Wait until the lock is handed over."""
        began = time.monotonic()
        self._handed = threading.Lock()  # not an RLock: another thread releases it
        self._handed.acquire()
        if not self._join(began + timeout):
            return
        waiting = self.locks.waiting
        try:
            with waiting(self.sid) if waiting is not None else nullcontext():
                handed = self._handed.acquire(timeout=timeout)
        except BaseException:  # also a signal or a greenlet's timeout
            self._abandon()
            raise
        if not handed and self._leave():
            raise LockTimeout(self.sid)
        self.waited = time.monotonic() - began

    def _join(self, deadline: float) -> bool:
        """Enter the queue. Return False if the lock has become free and is taken."""
        while True:
            with self.locks.guard:
                holder = self.holders.setdefault(self.sid, self)
                if holder is self:
                    return False
                queue = self._queue_of(holder)
                if queue is not None:
                    del self.alone
                    self.queue = queue
                    queue.waiting.append(self)
                    return True
            if time.monotonic() >= deadline:
                raise LockTimeout(self.sid)
            time.sleep(0)  # the holder is giving the lock back

    def _queue_of(self, holder: WriteLock) -> _Queue | None:
        """Return the queue of the lock that another writer has. None if that writer is giving it back."""
        if holder.queue is None:
            queue = _Queue(self.sid)
            try:  # without a call, so that no signal interrupts it half-way
                del holder.alone
                given_back = self.holders[self.sid] is not holder
            except AttributeError:
                return None
            except KeyError:
                given_back = True
            if given_back:  # and perhaps taken again, for another session
                holder.alone = True
                return None
            holder.queue = queue
        return holder.queue

    def _leave(self) -> bool:
        """Leave the queue. Return False if the lock has just been handed to this writer."""
        with self.locks.guard:
            if self.queue is None:
                return False
            try:
                self.queue.waiting.remove(self)
            except ValueError:
                return False
            self.queue = None
            return True

    def _abandon(self) -> None:
        """Leave the queue. If the lock has been handed to this writer, hand it on."""
        if not self._leave():
            self._hand_over()

    def __enter__(self) -> WriteLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()


_held: ContextVar[tuple[WriteLock, ...]] = ContextVar("silo_write_locks", default=())
