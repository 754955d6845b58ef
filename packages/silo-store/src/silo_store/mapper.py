"""``SessionMapper``, the interface that turns records into sessions and back.

A backend keeps either the objects that callers change, or encoded copies of them. The store works with both through
this protocol: ``LiveSessions`` and ``CopiedSessions`` implement it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .backend import Moment
from .errors import SessionExpired
from .locks import WriteLock
from .record import Record
from .session import Session

Factories = Mapping[str, Callable[[], Any]]
OnChange = Callable[[list[str]], object]
"""Called with the names of namespaces that are about to be written."""


class Now(Protocol):
    """Returns the present time as ``SessionStore.moment`` does."""

    def __call__(self, earlier: Moment | None = None) -> Moment: ...


class Create(Protocol):
    """Keeps a new record as ``Backend.create`` does, if there is room for it."""

    def __call__(self, record: Record, at: Moment, lock: WriteLock | None = None) -> Record: ...


class SessionMapper(Protocol):
    """Turns records into sessions, and sessions into records."""

    def view(self, record: Record) -> Session:
        """Return the session of a record as it is stored. Namespaces that the record does not have stay missing."""

    def open(self, record: Record) -> Session:
        """Return the session of a record, perhaps lazily: until ``whole``, iteration may leave namespaces out."""

    def whole(self, session: Session) -> Session:
        """Complete a session that was opened, and return it."""

    def begin(self, sid: str) -> tuple[Session, bool]:
        """Begin a session with its first state. Return it, and whether this call has put it into the backend."""

    def ensure(self, session: Session) -> bool:
        """Put a session into the backend, without its changes, unless it is there. Return whether this call did so."""

    def changed(self, session: Session) -> list[str]:
        """Return the names of the namespaces that differ from what was last read or written."""

    def save(self, session: Session, lock: WriteLock | None, on_change: OnChange | None = None) -> bool:
        """Write a session back. Return whether this call has put it into the backend.

        The claim of the write lock under which the session was loaded must still hold. The last write under the lock
        gives the claim back. If namespaces differ from what was read, ``on_change`` is called first with their names;
        for live objects it is never called.
        """


def check_time(session: Session, at: Moment, present: Callable[[str], str | None]) -> None:
    """Refuse to write a session that was read without a write lock and has expired since.

    Raises:
        SessionExpired: The session has expired, or its id has another life now.
    """
    if at.now - session.active > at.ttl and present(session.sid) != session.uid:
        raise SessionExpired(session.sid)
