"""The session of a task's run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from silo_store import Hold, Record, SessionStore

from ..current import RunScope, innermost_scope


class RunSession:
    """The session that a run works for: one life of it, which does not expire while the run holds it.

    Args:
        store: The store of the session.
        hold: The hold of the run.
    """

    __slots__ = ("_hold", "store")

    def __init__(self, store: SessionStore, hold: Hold) -> None:
        self.store: SessionStore = store
        self._hold = hold

    @property
    def sid(self) -> str:
        """The id of the session; another one after the session was rotated."""
        return self._hold.sid

    @property
    def uid(self) -> str:
        """The uid of the session."""
        return self._hold.uid

    known_uid = uid

    def announce(self) -> str:
        """Return the id of the session."""
        return self._hold.sid

    def is_of(self, sid: str) -> bool:
        """Return whether the session has this id, or had it before it was rotated."""
        return sid in self._hold.sids

    def state(self, namespace: str | None) -> Any:
        """Return the state, or one namespace of it, for reading.

        Raises:
            SessionExpired: The session has ended.
        """
        session = self.store.open(self.sid, self.uid, lazy=namespace is not None)
        return session if namespace is None else session[namespace]

    def edit(self, namespace: str | None, *, lazy: bool) -> AbstractContextManager[Any]:
        """Change the state, or one namespace of it; saved at the end of the block.

        Raises:
            SessionExpired: The session has ended.
        """
        return self.store.edit(self.sid, namespace, uid=self.uid, lazy=lazy)

    def begin_life(self) -> str:
        """Return the uid of the session.

        Raises:
            SessionExpired: The session has ended.
        """
        return self.store.open(self.sid, self.uid, lazy=True).uid

    def record(self, name: str) -> Record | None:  # noqa: ARG002 - each call reads the store
        """Return the stored record of the session; None if the session has ended."""
        return self.store.attached(self.sid, self.uid)


@contextmanager
def working_for(store: SessionStore, hold: Hold | None) -> Iterator[None]:
    """Make the held session the current one in the block. Without a hold it has no session, also in a request."""
    outer = innermost_scope.set(RunScope(RunSession(store, hold) if hold is not None else None))
    try:
        yield
    finally:
        innermost_scope.reset(outer)
