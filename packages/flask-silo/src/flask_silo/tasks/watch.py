"""What the open streams of one session share: one look at its tasks for all of them, and what wakes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakValueDictionary

from silo_store import Life, StoreUnavailable

from ..fork import reset_after_fork
from .states import Snapshot, StateReader


class Change:
    """An event that happens once, for any number of threads.

    Each wait for a ``threading.Event`` makes a lock. Without these locks, an idle stream costs a fifth less.
    """

    __slots__ = ("_closed", "_gate")

    def __init__(self) -> None:
        self._closed = [True]  # emptied by ``set``
        self._gate = threading.Lock()
        self._gate.acquire()

    def is_set(self) -> bool:
        """Return whether it has happened."""
        return not self._closed

    def set(self) -> None:
        """Wake the threads that wait, and let others pass from now on."""
        with suppress(IndexError):  # it has happened before
            self._closed.pop()
            self._gate.release()

    def wait(self, timeout: float) -> None:
        """Wait until it has happened, or the timeout, in seconds, has passed."""
        if self._gate.acquire(timeout=timeout):
            self._gate.release()  # each thread opens the gate for the next


class Watch:
    """Looks at the tasks of one life of a session, for all of its streams in this process.

    Args:
        reader: Reads the states.
        life: The life of the session; None if there is none.
        clock: Returns seconds that only increase, for tests.

    Attributes:
        life: As given, with the newest id of the session that is known.
    """

    def __init__(self, reader: StateReader, life: Life | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._clock = clock
        self.life = life
        self._lock = threading.Lock()  # held while the store is read, so that the streams wait for one look
        self._latest: Snapshot | None = None
        self._due = 0.0
        self._change = Change()

    def look(self, interval: float, *, fresh: bool = False) -> tuple[Snapshot, Change]:
        """Return a look at the tasks, and an event that is set by the next change that this process knows of.

        While the store cannot be reached, the last look is returned again.

        Args:
            interval: Seconds for which a look is used again, unless there is such a change.
            fresh: Whether to look now in any case.

        Raises:
            StoreUnavailable: The store cannot be reached, and ``fresh`` is given or this is the first look.
        """
        with self._lock:
            changed = self._change.is_set()
            if changed:  # before the look, so that the next change sets the new one
                self._change = Change()
            if self._latest is None or fresh or changed or self._clock() >= self._due:
                self._look(keep=self._latest is not None and not fresh)
                self._due = self._clock() + interval
            assert self._latest is not None
            return self._latest, self._change

    def _look(self, *, keep: bool) -> None:
        try:
            self._latest = look = self._reader.look(self.life, self._latest)
        except StoreUnavailable:
            if not keep:
                raise
        else:
            if self.life is not None and look.sid is not None:
                self.life = Life(look.sid, self.life.uid)  # the store follows an old id for a while only

    def wait(self, change: Change) -> None:
        """Wait until the next look is due, or the event of the last one is set."""
        change.wait(max(0.0, self._due - self._clock()))

    def wake(self) -> None:
        """Make the next look due now, and wake the streams. Does not wait for a look that is in progress."""
        self._change.set()


class Watches:
    """The watches of an application's open streams. A watch lasts as long as a stream uses it.

    Args:
        reader: Reads the states.
    """

    def __init__(self, reader: StateReader) -> None:
        self._reader = reader
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin without watches: the streams are the parent's."""
        self._lock = threading.Lock()
        self._open: WeakValueDictionary[str, Watch] = WeakValueDictionary()

    def of(self, life: Life | None) -> Watch:
        """Return the watch of a life; None for a client without a session."""
        if life is None:
            return Watch(self._reader, None)
        with self._lock:
            watch = self._open.get(life.uid)
            if watch is None:
                watch = self._open[life.uid] = Watch(self._reader, life)
            watch.life = life
        return watch

    def wake(self, uid: str) -> None:
        """Wake the streams of a life, because a run of it has begun or ended."""
        watch = self._open.get(uid)
        if watch is not None:
            watch.wake()
