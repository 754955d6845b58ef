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

    def save(self, session: Session) -> bool:
        data = self._encoded(session)
        read: Mapping[str, Blob] = session.origin or {}
        changed = {name: new for name, new in data.items() if name not in read or read[name].data != new}
        if not session.uid:
            record = Record(session.sid, new_uid(), session.created, self._clock())
            record.update((name, Blob(1, new)) for name, new in data.items())
            session.origin = self._backend.create(record)
            session.uid = session.origin.uid
            if session.origin is record:
                return True
            # Somebody else began the session meanwhile: ours goes on top, unless that one was changed already.
            versions = dict.fromkeys(session.origin, 1)
        else:
            versions = {name: blob.version for name, blob in read.items()}
        if changed:
            changes = {name: Change(versions.get(name, 0), new) for name, new in changed.items()}
            self._backend.write(Life(session.sid, session.uid), changes, self._clock())
            session.read_as({name: Blob(change.version + 1, change.data) for name, change in changes.items()})
        return False

    def _encoded(self, session: Session) -> dict[str, bytes]:
        data = {}
        for name, state in session.items():
            try:
                data[name] = self._codec.encode(state)
            except Unencodable as error:
                raise StateEncodeError(session.sid, name, error.path, error.type_name, error.advice) from error
        return data
