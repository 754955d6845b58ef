"""Holds, which keep a session from expiring while something works for it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from .backend import Backend, Life
from .fork import reset_after_fork


class HoldRegistry:
    """The holds of this process that have not been released, by life."""

    def __init__(self) -> None:
        self._holds: dict[str, list[Hold]] = {}
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin with no holds: the work that held sessions goes on in the parent."""
        self._lock = threading.Lock()
        self._holds.clear()

    def of(self, uid: str | None) -> list[Hold]:
        """Return the holds of a life."""
        return self._holds.get(uid or "", [])

    def add(self, hold: Hold) -> None:
        """Add a hold."""
        with self._lock:
            self._holds[hold.uid] = [*self.of(hold.uid), hold]

    def discard(self, hold: Hold) -> None:
        """Remove a hold."""
        with self._lock:
            rest = [each for each in self._holds.pop(hold.uid, ()) if each is not hold]
            if rest:
                self._holds[hold.uid] = rest


class Hold:
    """Keeps one life of a session from expiring. Release it, or use it in a ``with`` block.

    Attributes:
        uid: The life that is held.
        sids: The ids that the session is known to have had.
    """

    def __init__(self, life: Life, backend: Backend, registry: HoldRegistry, renew: Callable[[Life], object]) -> None:
        self.sids: set[str] = set()
        self.sid = life.sid
        self.uid: str = life.uid
        self._held = True
        self._backend = backend
        self._registry = registry
        self._renew = renew
        backend.hold(self.uid)
        registry.add(self)

    @property
    def sid(self) -> str:
        """The session's id; another one after the session was rotated."""
        return self._sid

    @sid.setter
    def sid(self, sid: str) -> None:
        self._sid = sid
        self.sids.add(sid)

    def release(self) -> None:
        """Renew the session and allow it to expire again. A second call does nothing."""
        held, self._held = self._held, False
        if held:
            try:
                self._renew(Life(self.sid, self.uid))
            finally:  # also if the backend cannot be reached now
                self._registry.discard(self)
                self._backend.unhold(self.uid)

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class HoldCounts:
    """The part of a ``Backend`` that keeps held lives from expiring, for backends of one process."""

    def __init__(self) -> None:
        self.release_all()

    def release_all(self) -> None:
        """Begin with no holds."""
        self._hold_lock = threading.Lock()
        self._holds: Counter[str] = Counter()

    def hold(self, uid: str) -> None:
        """Keep a life from expiring until each ``hold`` is undone by an ``unhold``."""
        with self._hold_lock:
            self._holds[uid] += 1

    def unhold(self, uid: str) -> None:
        """Undo one ``hold``."""
        with self._hold_lock:
            self._holds[uid] -= 1
            if self._holds[uid] <= 0:
                del self._holds[uid]

    def held(self, uid: str) -> bool:
        """Return whether a life is held."""
        return uid in self._holds
