"""Sessions of which the backend keeps encoded copies."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .backend import Backend, Claim, Life, Moment
from .codec import UNHASHABLE, Codecs
from .errors import (
    LockLost,
    NamespaceError,
    SessionConflict,
    StateDecodeError,
    StateEncodeError,
    StateTooLarge,
    StateValueError,
    Undecodable,
    Unencodable,
)
from .ids import new_uid
from .locks import WriteLock
from .mapper import Create, Factories, OnChange, check_time
from .record import ATTACHED, Blob, Change, Record
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

    __slots__ = ("source",)

    source: CopiedSessions | None
    """Where to read namespaces that callers have not asked for yet; None once the session is whole."""

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (self.source is not None and self.source.has(self, key))

    def __missing__(self, key: str) -> Any:
        if self.source is None or key == META:
            return super().__missing__(key)
        return self.source.fetch(self, key)


class CopiedSessions:
    """Sessions of which the backend keeps encoded copies.

    A new session has an empty ``uid`` and is in the backend once it is saved. Only namespaces whose bytes changed are
    written. ``session.origin`` holds the namespaces as they were read, as the bytes to which they encode now. Version
    0 marks a state that a factory has made and the backend does not have.
    """

    def __init__(
        self,
        backend: Backend,
        create: Create,
        codecs: Codecs,
        factories: Factories,
        moment: Callable[[], Moment],
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
        session = self.open(record)
        self._read_all(session)
        session.source = None
        return session

    def open(self, record: Record) -> LazySession:
        session = LazySession(record.sid, record.uid, record.created, record.active, record)
        session.source = self
        return session

    def whole(self, session: Session) -> Session:
        if isinstance(session, LazySession) and session.source is not None:
            self._read_all(session)
            if not self._factories.keys() <= session.keys():
                for name in list(self._factories):
                    session[name]  # fetches it
            session.source = None
        return session

    def _read_all(self, session: Session) -> None:
        known = session.keys()
        for name, blob in (session.origin or {}).items():
            if name not in known and (name in self._factories or not name.startswith(ATTACHED)):
                session[name] = self._read(session, name, blob)

    def has(self, session: Session, name: object) -> bool:
        """Return whether ``fetch`` finds a namespace, without reading it."""
        if name in self._factories:
            return True
        return isinstance(name, str) and name in (session.origin or {}) and not name.startswith(ATTACHED)

    def fetch(self, session: Session, name: str) -> Any:
        """Read a namespace that callers have not asked for yet into a session.

        Raises:
            NamespaceError: The namespace is not registered, and nothing is stored under that name.
            StateDecodeError: The stored state does not fit the namespace's type.
        """
        origin = session.origin
        assert origin is not None
        blob: Blob | None = origin.get(name)
        if blob is not None and not name.startswith(ATTACHED):
            state = self._read(session, name, blob)
        elif name in self._factories:
            state = self._factories[name]()
            origin[name] = self._first(session.sid, name, state)
        else:
            raise NamespaceError(name)
        return dict.setdefault(session, name, state)  # another thread of the request may have been first

    def begin(self, sid: str) -> tuple[Session, bool]:
        now = self._moment().now
        session = LazySession(sid, "", now, now, Record(sid, "", now, now))
        session.source = None
        session.update(missing(self._factories, {}))
        session.read_as({name: self._first(sid, name, state) for name, state in session.items()})
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
        return self._create(session, {name: blob.data for name, blob in (session.origin or {}).items()}, None)

    def changed(self, session: Session) -> list[str]:
        return [name for name, state in list(session.items()) if self._differs(session, name, state)]

    def _differs(self, session: Session, name: str, state: Any) -> bool:
        read: Mapping[str, Blob] = session.origin if session.origin is not None else {}
        try:
            return self._codecs[name].encode(state) != read.get(name, _NONE).data
        except Unencodable:
            return True

    def save(self, session: Session, lock: WriteLock | None, on_change: OnChange | None = None) -> bool:
        data = self._encoded(session)
        if on_change is not None:
            before: Mapping[str, Blob] = session.origin or {}
            changed = [name for name, new in data.items() if before.get(name, _NONE).data != new]
            if changed:
                on_change(changed)
        if not session.uid:
            if self._create(session, data, lock):
                return True
            data = self._encoded(session)
        read: Mapping[str, Blob] = session.origin if session.origin is not None else {}
        changes, fresh = {}, {}
        for name, new in data.items():
            version, old = read.get(name, _NONE)
            if old != new:
                changes[name] = Change(version, new)
            if version == 0 and name in read:
                fresh[name] = old
        if not (changes or fresh):
            return False
        if lock is None:
            check_time(session, self._moment(), self._present)
        self._check_size(session.sid, read, data)
        self._prove(session.sid, changes)
        claim = lock.claim if lock is not None else None
        if fresh:
            changes.update(self._write_fresh(session, fresh, changes, claim))
        if changes:
            last = lock is not None and lock.last_write
            self._backend.write(Life(session.sid, session.uid), changes, self._moment(), claim, last=last)
            if lock is not None and last:
                lock.claim = None
            session.read_as({name: Blob(version + 1, new) for name, (version, new) in changes.items()})
        return False

    def _write_fresh(
        self, session: Session, fresh: Mapping[str, bytes], changes: Mapping[str, Change], claim: Claim | None
    ) -> dict[str, Change]:
        """Write the first state of namespaces that the session did not have, each by itself, as version 1.

        Readers do the same, without the write lock. A change is written after that, as version 2. So a change wins
        over a first state that another thread or process wrote, and readers do not conflict.

        Returns:
            The changes that are still to be written to these namespaces.
        """
        for name, data in fresh.items():
            try:
                self._backend.write(Life(session.sid, session.uid), {name: Change(0, data)}, self._moment(), claim)
            except LockLost:
                raise
            except SessionConflict:
                pass
            session.read_as({name: Blob(1, data)})
        return {name: Change(1, changes[name].data) for name in fresh if name in changes}

    def _create(self, session: Session, data: dict[str, bytes], lock: WriteLock | None) -> bool:
        """Create the record of a new session. Return False if another thread or process created it first.

        A namespace that differs from a fresh session begins as version 2. So the second writer sees what the first has
        changed: it takes over namespaces that it has not changed itself, and conflicts if both have changed one.
        """
        self._check_size(session.sid, {}, data)
        fresh: Mapping[str, Blob] = session.origin or {}
        changes = {name: Change(1, new) for name, new in data.items() if fresh.get(name, _NONE).data != new}
        self._prove(session.sid, changes)
        at = self._moment()
        record = Record(session.sid, new_uid(), session.created, at.now)
        for name, new in data.items():
            record[name] = Blob(2 if name in changes else 1, new)
        winner = self._keep_new(record, at, lock)
        session.uid = winner.uid
        if winner is record:
            if lock is not None and lock.last_write:
                lock.claim = None
            session.origin = winner
            return True
        own = self._encoded(session)
        session.origin = Record(winner.sid, winner.uid, winner.created, winner.active)
        for name, blob in winner.items():
            if name in own and name in fresh and own[name] != fresh[name].data:
                session.origin[name] = Blob(1, fresh[name].data)
            else:
                session.origin[name] = blob
                if not name.startswith(ATTACHED):
                    session[name] = self._read(session, name, blob)
        return False

    def _read(self, session: Session, name: str, blob: Blob) -> Any:
        """Decode a namespace, and remember the bytes to which it encodes while it is unchanged."""
        codec = self._codecs[name]
        try:
            state = codec.decode(blob.data)
        except ValueError as error:
            # Without the cause: its text may contain stored values.
            raise StateDecodeError(session.sid, name, *_misfit(error)) from None
        if not codec.exact and session.origin is not None:
            session.origin[name] = Blob(blob.version, codec.encode(state))
        return state

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

    def _check_size(self, sid: str, read: Mapping[str, Blob], data: Mapping[str, bytes]) -> None:
        limit = self._max_bytes()
        if limit is not None:
            sizes = {name: len(blob.data) for name, blob in read.items() if not name.startswith(ATTACHED)}
            sizes.update((name, len(new)) for name, new in data.items())
            size = sum(sizes.values())
            if size > limit:
                raise StateTooLarge(sid, size, limit, max(sizes, key=lambda name: sizes[name]))


def _refused(is_plain: bool) -> type[StateEncodeError]:
    return StateValueError if is_plain else StateEncodeError


def _misfit(error: ValueError) -> tuple[str, str]:
    return (error.path, error.reason) if isinstance(error, Undecodable) else ("", type(error).__name__)


def _no_return(error: ValueError) -> tuple[str, str, str]:
    """Return path, type and advice for a value that would not come back as its type."""
    path, reason = _misfit(error)
    found = re.search(r"got `(\w+)`", reason)
    return path, found[1] if found else "value", f"it would not come back: {reason}"
