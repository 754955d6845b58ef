"""The session of a task's run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from silo_store import Hold, Record, SessionStore

from ..current import Scope, run_scope


class RunSession:
    """The session that a run works for: one life of it, which the run's hold keeps from expiring.

    Args:
        store: The store of the session.
        hold: Keeps the session while the run lasts.
    """

    __slots__ = ("_hold", "store")

    def __init__(self, store: SessionStore, hold: Hold) -> None:
        self.store = store
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
        """Return whether the session has this id, or had it: a task may have kept one from before a rotation."""
        return sid in self._hold.sids

    def state(self, namespace: str | None) -> Any:
        """Return the state, or one namespace of it, to be read.

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

    def record(self, name: str) -> Record | None:  # noqa: ARG002 - each look is a new one
        """Return the stored record of the session; None where the session has ended."""
        return self.store.attached(self.sid, self.uid)


@contextmanager
def working_for(store: SessionStore, hold: Hold | None) -> Iterator[None]:
    """Make the held session the current one during the block. Without a hold there is none, in a request neither."""
    token = run_scope.set(Scope(RunSession(store, hold) if hold is not None else None))
    try:
        yield
    finally:
        run_scope.reset(token)
