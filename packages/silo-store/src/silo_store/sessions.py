"""Sessions as callers see them, made of records and written back.

A backend either keeps the very objects that callers change, or encoded copies of them. The store works with both
through the same three methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .backend import Backend, Life, Moment
from .codec import Codecs, Unencodable
from .errors import StateDecodeError, StateEncodeError, StateTooLarge
from .ids import new_uid
from .record import Blob, Change, Record, Session
from .turns import Turn


class Sessions(Protocol):
    """Where records become sessions and sessions records."""

    def view(self, record: Record) -> Session:
        """Make the session of a record."""

    def begin(self, sid: str, state: Mapping[str, Any]) -> tuple[Session, bool]:
        """Begin a session with its first state. Also say whether it is in the backend now, by this call."""

    def ensure(self, session: Session) -> bool:
        """See to it that a session is in the backend, its changes aside. Say whether it is by this call."""

    def save(self, session: Session, turn: Turn | None, *, last: bool) -> bool:
        """Write a session back. Say whether it is in the backend for the first time.

        The claim of the turn in which it was loaded must still hold; with ``last`` it is given back.
        """


class LiveSessions:
    """Sessions whose objects the backend keeps: what is changed is changed."""

    def __init__(self, backend: Backend, moment: Callable[[], Moment]) -> None:
        self._backend = backend
        self._moment = moment

    def view(self, record: Record) -> Session:
        assert isinstance(record, Session)
        return record

    def begin(self, sid: str, state: Mapping[str, Any]) -> tuple[Session, bool]:
        at = self._moment()
        session = Session(sid, new_uid(), at.now, at.now)
        session.update(state)
        winner = self._backend.create(session, at)
        return self.view(winner), winner is session

    def ensure(self, session: Session) -> bool:  # noqa: ARG002 - it is there since it began
        return False

    def save(self, session: Session, turn: Turn | None, *, last: bool) -> bool:  # noqa: ARG002 - see `Turns`
        self._backend.put(session, self._moment().now)
        return False


class CopiedSessions:
    """Sessions of which the backend keeps encoded copies.

    A new session has an empty ``uid`` and is in the backend once it is saved. Only namespaces whose bytes changed are
    written.
    """

    def __init__(self, backend: Backend, codecs: Codecs, moment: Callable[[], Moment], max_bytes: int | None) -> None:
        self._backend = backend
        self._codecs = codecs
        self._moment = moment
        self._max_bytes = max_bytes

    def view(self, record: Record) -> Session:
        session = Session(record.sid, record.uid, record.created, record.active, origin=record)
        for name, blob in record.items():
            self._read(session, name, blob)
        return session

    def begin(self, sid: str, state: Mapping[str, Any]) -> tuple[Session, bool]:
        now = self._moment().now
        session = Session(sid, "", now, now, origin=Record(sid, "", now, now))
        session.update(state)
        session.read_as({name: Blob(0, data) for name, data in self._encoded(session).items()})
        return session, False

    def ensure(self, session: Session) -> bool:
        if session.uid:
            return False
        return self._create(session, {name: blob.data for name, blob in (session.origin or {}).items()}, None)

    def save(self, session: Session, turn: Turn | None, *, last: bool) -> bool:
        data = self._encoded(session)
        if not session.uid:
            if self._create(session, data, turn, last=last):
                return True
            data = self._encoded(session)
        read: Mapping[str, Blob] = session.origin or {}
        changes = {
            name: Change(read[name].version if name in read else 0, new)
            for name, new in data.items()
            if name not in read or read[name].data != new
        }
        if changes:
            self._check_size(session.sid, data)
            claim = turn.claim if turn is not None else None
            self._backend.write(Life(session.sid, session.uid), changes, self._moment(), claim, last=last)
            if turn is not None and last:
                turn.claim = None
            session.read_as({name: Blob(change.version + 1, change.data) for name, change in changes.items()})
        return False

    def _create(self, session: Session, data: dict[str, bytes], turn: Turn | None, *, last: bool = False) -> bool:
        """Create the record of a new session; false where somebody else began it first.

        What differs from a fresh session begins as version 2. So the one who comes second sees what was changed
        already: it takes over what it has not changed itself, and conflicts where both have.
        """
        self._check_size(session.sid, data)
        at = self._moment()
        fresh: Mapping[str, Blob] = session.origin or {}
        record = Record(session.sid, new_uid(), session.created, at.now)
        for name, new in data.items():
            record[name] = Blob(1 if name in fresh and fresh[name].data == new else 2, new)
        winner = self._backend.create(record, at, turn.claim if turn is not None else None, last=last)
        session.uid = winner.uid
        if winner is record:
            if turn is not None and last:
                turn.claim = None
            session.origin = winner
            return True
        own = self._encoded(session)
        session.origin = Record(winner.sid, winner.uid, winner.created, winner.active)
        for name, blob in winner.items():
            if name in own and name in fresh and own[name] != fresh[name].data:
                session.origin[name] = Blob(1, fresh[name].data)
            else:
                self._read(session, name, blob)
        return False

    def _read(self, session: Session, name: str, blob: Blob) -> None:
        """Decode a namespace, and remember to what bytes it encodes as long as nobody changes it."""
        codec = self._codecs.of(name)
        try:
            session[name] = state = codec.decode(blob.data)
        except ValueError as error:
            raise StateDecodeError(session.sid, name, str(error)) from error
        if session.origin is not None:
            session.origin[name] = blob if codec.exact else Blob(blob.version, codec.encode(state))

    def _encoded(self, session: Session) -> dict[str, bytes]:
        data = {}
        for name, state in session.items():
            try:
                data[name] = self._codecs.of(name).encode(state)
            except Unencodable as error:
                raise StateEncodeError(session.sid, name, error.path, error.type_name, error.advice) from error
        return data

    def _check_size(self, sid: str, data: Mapping[str, bytes]) -> None:
        if self._max_bytes is not None:
            size = sum(map(len, data.values()))
            if size > self._max_bytes:
                raise StateTooLarge(sid, size, self._max_bytes, max(data, key=lambda name: len(data[name])))
