"""Sessions as callers see them, made of records and written back.

A backend either keeps the very objects that callers change, or encoded copies of them. The store works with both
through the same three methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .backend import Backend, Life
from .codec import Codec, Unencodable
from .errors import StateEncodeError
from .ids import new_uid
from .record import Blob, Change, Record, Session


class Sessions(Protocol):
    """Where records become sessions and sessions records."""

    def view(self, record: Record) -> Session:
        """Make the session of a record."""

    def begin(self, sid: str, state: Mapping[str, Any]) -> tuple[Session, bool]:
        """Begin a session with its first state. Also say whether it is in the backend now, by this call."""

    def ensure(self, session: Session) -> bool:
        """See to it that a session is in the backend, its changes aside. Say whether it is by this call."""

    def save(self, session: Session) -> bool:
        """Write a session back. Say whether it is in the backend for the first time."""


class LiveSessions:
    """Sessions whose objects the backend keeps: what is changed is changed."""

    def __init__(self, backend: Backend, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._clock = clock

    def view(self, record: Record) -> Session:
        assert isinstance(record, Session)
        return record

    def begin(self, sid: str, state: Mapping[str, Any]) -> tuple[Session, bool]:
        now = self._clock()
        session = Session(sid, new_uid(), now, now)
        session.update(state)
        winner = self._backend.create(session)
        return self.view(winner), winner is session

    def ensure(self, session: Session) -> bool:  # noqa: ARG002 - it is there since it began
        return False

    def save(self, session: Session) -> bool:
        self._backend.put(session, self._clock())
        return False


class CopiedSessions:
    """Sessions of which the backend keeps encoded copies.

    A new session has an empty ``uid`` and is in the backend once it is saved. Only namespaces whose bytes changed are
    written.
    """

    def __init__(self, backend: Backend, codec: Codec, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._codec = codec
        self._clock = clock

    def view(self, record: Record) -> Session:
        session = Session(record.sid, record.uid, record.created, record.active, origin=record)
        for name, blob in record.items():
            session[name] = self._codec.decode(blob.data)
        return session

    def begin(self, sid: str, state: Mapping[str, Any]) -> tuple[Session, bool]:
        now = self._clock()
        session = Session(sid, "", now, now, origin=Record(sid, "", now, now))
        session.update(state)
        session.read_as({name: Blob(0, data) for name, data in self._encoded(session).items()})
        return session, False

    def ensure(self, session: Session) -> bool:
        if session.uid:
            return False
        return self._create(session, {name: blob.data for name, blob in (session.origin or {}).items()})

    def save(self, session: Session) -> bool:
        data = self._encoded(session)
        if not session.uid:
            if self._create(session, data):
                return True
            data = self._encoded(session)
        read: Mapping[str, Blob] = session.origin or {}
        changes = {
            name: Change(read[name].version if name in read else 0, new)
            for name, new in data.items()
            if name not in read or read[name].data != new
        }
        if changes:
            self._backend.write(Life(session.sid, session.uid), changes, self._clock())
            session.read_as({name: Blob(change.version + 1, change.data) for name, change in changes.items()})
        return False

    def _create(self, session: Session, data: dict[str, bytes]) -> bool:
        """Create the record of a new session; false where somebody else began it first.

        What differs from a fresh session begins as version 2. So the one who comes second sees what was changed
        already: it takes over what it has not changed itself, and conflicts where both have.
        """
        fresh: Mapping[str, Blob] = session.origin or {}
        record = Record(session.sid, new_uid(), session.created, self._clock())
        for name, new in data.items():
            record[name] = Blob(1 if name in fresh and fresh[name].data == new else 2, new)
        winner = self._backend.create(record)
        session.uid = winner.uid
        if winner is record:
            session.origin = winner
            return True
        own = self._encoded(session)
        origin = Record(winner.sid, winner.uid, winner.created, winner.active)
        for name, blob in winner.items():
            if name in own and name in fresh and own[name] != fresh[name].data:
                origin[name] = Blob(1, fresh[name].data)
            else:
                session[name] = self._codec.decode(blob.data)
                origin[name] = blob
        session.origin = origin
        return False

    def _encoded(self, session: Session) -> dict[str, bytes]:
        data = {}
        for name, state in session.items():
            try:
                data[name] = self._codec.encode(state)
            except Unencodable as error:
                raise StateEncodeError(session.sid, name, error.path, error.type_name, error.advice) from error
        return data
