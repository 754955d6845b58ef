"""Sessions of which the backend keeps encoded copies."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .backend import Backend, Life
from .codec import UNHASHABLE, Codecs
from .errors import (
    LockLost,
    NamespaceError,
    SessionConflict,
    SessionExpired,
    StateDecodeError,
    StateEncodeError,
    StateTooLarge,
    StateValueError,
    Undecodable,
    Unencodable,
)
from .ids import new_uid
from .locks import WriteLock
from .mapper import Create, Factories, Now, OnChange, check_time
from .record import Apart, Blob, Change, Record
from .registry import missing
from .session import META, Session

_NONE = Blob(0, b"")
"""Stands for a namespace that is not stored. No state encodes to zero bytes."""

SMALL = 4096
"""Bytes up to which state without a type is decoded before it is written. State with a type is always decoded."""


class LazySession(Session):
    """A session that reads each namespace when a caller first asks for it by name.

    An unused namespace costs nothing, and one that does not decode fails only the callers that ask for it.
    """

    __slots__ = ("base", "source")

    origin: Record
    base: dict[str, Blob]
    """The namespaces that callers have asked for, as the bytes to which they encode while they are unchanged. Version 0
    marks a state that a factory has made and the backend does not have."""
    source: CopiedSessions | None
    """Where to read the other namespaces; None once the session is whole."""

    def __init__(self, origin: Record, source: CopiedSessions | None) -> None:
        self.sid: str = origin.sid
        self.uid: str = origin.uid
        self.created: float = origin.created
        self.active: float = origin.active
        self.bucket = 0
        self.origin = origin
        self.base = {}
        self.source = source

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (self.source is not None and self.source.has(self, key))

    def __missing__(self, key: str) -> Any:
        if self.source is None or key == META:
            return super().__missing__(key)
        return self.source.fetch(self, key)


class CopiedSessions:
    """Sessions of which the backend keeps encoded copies.

    A new session has an empty ``uid`` and is in the backend once it is saved. Only namespaces whose bytes changed are
    written.
    """

    def __init__(
        self,
        backend: Backend,
        create: Create,
        codecs: Codecs,
        factories: Factories,
        moment: Now,
        present: Callable[[str], str | None],
        max_bytes: Callable[[], int | None],
    ) -> None:
        self._backend = backend
        self._keep_new = create
        self._codecs = codecs
        self._factories = factories
        self._moment = moment
        self._present = present
        self._max_bytes = max_bytes

    def view(self, record: Record) -> Session:
        session = LazySession(record, self)
        self._read_all(session)
        session.source = None
        return session

    def open(self, record: Record) -> LazySession:
        return LazySession(record, self)

    def whole(self, session: Session) -> Session:
        if isinstance(session, LazySession) and session.source is not None:
            self._read_all(session)
            if not self._factories.keys() <= session.keys():
                for name in list(self._factories):
                    session[name]  # fetches it
            session.source = None
        return session

    def _read_all(self, session: LazySession) -> None:
        """Read the namespaces that callers have not asked for yet, all as they are at one moment."""
        record = session.origin if session.origin.is_whole else self._read_whole(session)
        for name, blob in record.items():
            if not dict.__contains__(session, name):
                dict.setdefault(session, name, self._read(session, name, blob))

    def _read_whole(self, session: LazySession) -> Record:
        record = self._backend.read(session.sid)
        if record is None or record.uid != session.uid:
            record = self._backend.read(self._moved(session))
        if record is None or record.uid != session.uid:
            raise SessionExpired(session.sid)
        return record

    def has(self, session: LazySession, name: object) -> bool:
        """Return whether ``fetch`` finds a namespace, without reading it."""
        return name in self._factories or name in session.origin

    def fetch(self, session: LazySession, name: str) -> Any:
        """Read a namespace that callers have not asked for yet into a session.

        Raises:
            NamespaceError: The namespace is not registered, and nothing is stored under that name.
            SessionExpired: The namespace is kept apart from the record, and the life has ended.
            StateDecodeError: The stored state does not fit the namespace's type.
        """
        blob: Blob | Apart | None = session.origin.get(name)
        if isinstance(blob, Apart):
            blob = self._fetch_apart(session, name)
        if blob is not None:
            state = self._read(session, name, blob)
        elif name in self._factories:
            state = self._factories[name]()
            session.base[name] = self._first(session.sid, name, state)
        else:
            raise NamespaceError(name)
        return dict.setdefault(session, name, state)  # another thread of the request may have been first

    def _fetch_apart(self, session: LazySession, name: str) -> Blob | None:
        try:
            return self._backend.fetch(Life(session.sid, session.uid), name)
        except SessionExpired:
            return self._backend.fetch(Life(self._moved(session), session.uid), name)

    def _moved(self, session: Session) -> str:
        """Return the id to which the session was rotated since it was read.

        Raises:
            SessionExpired: The life has ended.
        """
        sid = self._backend.find(session.uid)
        if sid is None or sid == session.sid:
            raise SessionExpired(session.sid)
        return sid

    def begin(self, sid: str) -> tuple[Session, bool]:
        now = self._moment().now
        session = LazySession(Record(sid, "", now, now), None)
        session.update(missing(self._factories, {}))
        session.base.update({name: self._first(sid, name, state) for name, state in session.items()})
        return session, False

    def _first(self, sid: str, name: str, state: Any) -> Blob:
        """Encode what a factory has made, and check that it decodes to the same type."""
        codec = self._codecs[name]
        try:
            data = codec.encode(state)
            back = codec.decode(data)
        except Unencodable as error:
            raise StateEncodeError(sid, name, error.path, error.type_name, error.advice) from error
        except ValueError as error:
            raise StateEncodeError(sid, name, *_no_return(error)) from error
        if not (isinstance(state, type(back)) or (type(state) is int and type(back) is float)):
            kind = type(state).__name__
            advice = f"it would come back as a {type(back).__name__}: register the namespace with type={kind}"
            raise StateEncodeError(sid, name, "", kind, advice)
        return Blob(0, data)

    def ensure(self, session: Session) -> bool:
        if session.uid:
            return False
        own = _own(session)
        return self._create(own, {name: blob.data for name, blob in own.base.items()}, None)

    def changed(self, session: Session) -> list[str]:
        own = _own(session)
        return [name for name, state in list(own.items()) if self._differs(own, name, state)]

    def _differs(self, session: LazySession, name: str, state: Any) -> bool:
        try:
            return self._codecs[name].encode(state) != _known(session, name).data
        except Unencodable:
            return True

    def save(self, session: Session, lock: WriteLock | None, on_change: OnChange | None = None) -> bool:
        own = _own(session)
        data = self._encoded(own)
        if on_change is not None:
            changed = [name for name, new in data.items() if _known(own, name).data != new]
            if changed:
                on_change(changed)
        if not own.uid:
            if self._create(own, data, lock):
                return True
            data = self._encoded(own)
        changes: dict[str, Change] = {}
        fresh: dict[str, bytes] = {}
        for name, new in data.items():
            version, old = _known(own, name)
            if old != new:
                changes[name] = Change(version, new)
            if version == 0 and name in own.base:
                fresh[name] = old
        if changes or fresh:
            self._write_changes(own, data, changes, fresh, lock)
        return False

    def _write_changes(
        self,
        session: LazySession,
        data: Mapping[str, bytes],
        changes: dict[str, Change],
        fresh: Mapping[str, bytes],
        lock: WriteLock | None,
    ) -> None:
        if lock is None:
            check_time(session, self._moment(), self._present)
        self._check_size(session, data)
        self._prove(session.sid, changes)
        if fresh:
            changes.update(self._write_fresh(session, fresh, changes, lock))
        if changes:
            last = lock is not None and lock.last_write
            self._write(session, changes, lock, last=last)
            if lock is not None and last:
                lock.claim = None

    def _write_fresh(
        self,
        session: LazySession,
        fresh: Mapping[str, bytes],
        changes: Mapping[str, Change],
        lock: WriteLock | None,
    ) -> dict[str, Change]:
        """Write the first state of namespaces that the session did not have, each by itself, as version 1.

        Readers do the same, without the write lock. A change is written after that, as version 2. So a change wins
        over a first state that another thread or process wrote, and readers do not conflict.

        Returns:
            The changes that are still to be written to these namespaces.
        """
        for name, data in fresh.items():
            try:
                self._write(session, {name: Change(0, data)}, lock)
            except LockLost:
                raise
            except SessionConflict:
                session.base[name] = Blob(1, data)
        return {name: Change(1, changes[name].data) for name in fresh if name in changes}

    def _write(
        self, session: LazySession, changes: Mapping[str, Change], lock: WriteLock | None, *, last: bool = False
    ) -> None:
        claim, loaded = (lock.claim, lock.loaded) if lock is not None else (None, None)
        life, at = Life(session.sid, session.uid), self._moment(loaded)
        session.origin = self._backend.write(life, changes, at, claim, last=last, base=session.origin)
        for name, (version, new) in changes.items():
            session.base[name] = Blob(version + 1, new)

    def _create(self, session: LazySession, data: dict[str, bytes], lock: WriteLock | None) -> bool:
        """Create the record of a new session. Return False if another thread or process created it first.

        A namespace that differs from a fresh session begins as version 2. So the second writer sees what the first has
        changed: it takes over namespaces that it has not changed itself, and conflicts if both have changed one.
        """
        self._check_size(session, data)
        fresh = session.base
        changes = {name: Change(1, new) for name, new in data.items() if fresh.get(name, _NONE).data != new}
        self._prove(session.sid, changes)
        at = self._moment()
        record = Record(session.sid, new_uid(), session.created, at.now)
        for name, new in data.items():
            record[name] = Blob(2 if name in changes else 1, new)
        winner = self._keep_new(record, at, lock)
        session.uid, session.origin = winner.uid, winner
        if winner is record:
            if lock is not None and lock.last_write:
                lock.claim = None
            session.base = dict(record)
            return True
        own, session.base = self._encoded(session), {}
        for name in winner:
            if name in own and name in fresh and own[name] != fresh[name].data:
                session.base[name] = Blob(1, fresh[name].data)
            else:
                dict.pop(session, name, None)
                self.fetch(session, name)
        return False

    def _read(self, session: LazySession, name: str, blob: Blob) -> Any:
        """Decode a namespace, and remember the bytes to which it encodes while it is unchanged."""
        codec = self._codecs[name]
        try:
            state = codec.decode(blob.data)
        except ValueError as error:
            # Without the cause: its text may contain stored values.
            raise StateDecodeError(session.sid, name, *_misfit(error)) from None
        read = blob if codec.exact else Blob(blob.version, codec.encode(state))
        base = session.base.setdefault(name, read)
        # Another thread of the request may have been first, and have read an earlier or later state.
        return state if base is read else codec.decode(base.data)

    def _encoded(self, session: Session) -> dict[str, bytes]:
        data = {}
        codecs = self._codecs
        for name, state in list(session.items()):
            try:
                data[name] = codecs[name].encode(state)
            except Unencodable as error:
                kind = _refused(error.is_plain)
                raise kind(session.sid, name, error.path, error.type_name, error.advice) from error
        return data

    def _prove(self, sid: str, changes: Mapping[str, Change]) -> None:
        """Check that the changes can be decoded after they are written."""
        for name, (_, new) in changes.items():
            codec = self._codecs[name]
            if len(new) <= SMALL or codec is not self._codecs.untyped:
                try:
                    codec.decode(new)
                except ValueError as error:
                    is_plain = isinstance(error, Undecodable) and error.reason != UNHASHABLE
                    raise _refused(is_plain)(sid, name, *_no_return(error)) from error

    def _check_size(self, session: LazySession, data: Mapping[str, bytes]) -> None:
        limit = self._max_bytes()
        if limit is not None:
            sizes = session.origin.sizes()
            sizes.update((name, len(new)) for name, new in data.items())
            size = sum(sizes.values())
            if size > limit:
                raise StateTooLarge(session.sid, size, limit, max(sizes, key=lambda name: sizes[name]))


def _own(session: Session) -> LazySession:
    assert isinstance(session, LazySession)
    return session


def _known(session: LazySession, name: str) -> Blob:
    """Return a namespace as it was read, or as it is stored if a caller has replaced it without reading it."""
    base = session.base.get(name)
    if base is not None:
        return base
    stored: Blob | Apart | None = session.origin.get(name)
    return Blob(stored.version, b"") if isinstance(stored, Apart) else stored or _NONE


def _refused(is_plain: bool) -> type[StateEncodeError]:
    return StateValueError if is_plain else StateEncodeError


def _misfit(error: ValueError) -> tuple[str, str]:
    return (error.path, error.reason) if isinstance(error, Undecodable) else ("", type(error).__name__)


def _no_return(error: ValueError) -> tuple[str, str, str]:
    """Return path, type and advice for a value that would not come back as its type."""
    path, reason = _misfit(error)
    found = re.search(r"got `(\w+)`", reason)
    return path, found[1] if found else "value", f"it would not come back: {reason}"
