"""Keeping a session while something works for it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from .backend import Life

if TYPE_CHECKING:
    from .store import SessionStore


class Hold:
    """Keeps one life of a session from expiring. Release it, or use it in a ``with`` block."""

    def __init__(self, store: SessionStore, sid: str, uid: str) -> None:
        self.sid = sid
        self.uid = uid
        self._store: SessionStore | None = store
        store.backend.hold(uid)

    def release(self, sid: str | None = None) -> None:
        """Let the session expire again, its whole time-to-live from now. Calling it again does nothing.

        Args:
            sid: its present id, if it was rotated meanwhile.
        """
        store, self._store = self._store, None
        if store is not None:
            store.renew(Life(sid or self.sid, self.uid))
            store.backend.unhold(self.uid)

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
