"""The storage interface of release 0.1, and the adapter that still takes one.

New storages implement `silo_store.Backend`: this interface has no way to compare and set, and finds what is due by
looking at every session.
"""
# ruff: noqa: ARG002  (a backend takes what the seam gives)

from __future__ import annotations

import contextlib
import copy
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .backend import ROTATED_RETAIN, Claim, Finding, Life, Look, Moment
from .errors import SessionExpired, TooManySessions
from .fork import reset_after_fork
from .hold import HoldCounts
from .record import Change, Record
from .session import Session


class SiloStorage(ABC):
    """Where sessions are kept, as release 0.1 had it. A session is a dict of namespaces and ``_meta``."""

    @abstractmethod
    def get_session(self, sid: str) -> dict[str, Any] | None:
        """Return the session, or None."""

    @abstractmethod
    def set_session(self, sid: str, data: dict[str, Any]) -> None:
        """Create or replace the session."""

    @abstractmethod
    def delete_session(self, sid: str) -> None:
        """Drop the session, if there is one."""

    @abstractmethod
    def has_session(self, sid: str) -> bool:
        """Say whether there is such a session."""

    @abstractmethod
    def all_sessions(self) -> list[tuple[str, dict[str, Any]]]:
        """Return all sessions in a list that stays the same while sessions are dropped."""

    @abstractmethod
    def session_count(self) -> int:
        """Return the number of sessions."""

    @abstractmethod
    def all_sids(self) -> list[str]:
        """Return all session ids."""

    @abstractmethod
    def mark_expired(self, sid: str, timestamp: float) -> None:
        """Remember that the id expired then."""

    @abstractmethod
    def is_expired(self, sid: str) -> bool:
        """Say whether the id is remembered as expired."""

    @abstractmethod
    def clear_expired(self, sid: str) -> None:
        """Forget that the id expired."""

    @abstractmethod
    def prune_expired(self, max_age: float) -> None:
        """Forget ids that expired more than ``max_age`` seconds ago."""

    @abstractmethod
    def expired_count(self) -> int:
        """Return the number of ids remembered as expired."""


class InMemoryStorage(SiloStorage):
    """Sessions in a dict."""

    def __init__(self) -> None:
        self._sessions: dict[str, dict[str, Any]] = {}
        self._expired: dict[str, float] = {}

    def get_session(self, sid: str) -> dict[str, Any] | None:
        return self._sessions.get(sid)

    def set_session(self, sid: str, data: dict[str, Any]) -> None:
        self._sessions[sid] = data

    def delete_session(self, sid: str) -> None:
        self._sessions.pop(sid, None)

    def has_session(self, sid: str) -> bool:
        return sid in self._sessions

    def all_sessions(self) -> list[tuple[str, dict[str, Any]]]:
        return list(self._sessions.items())

    def session_count(self) -> int:
        return len(self._sessions)

    def all_sids(self) -> list[str]:
        return list(self._sessions)

    def mark_expired(self, sid: str, timestamp: float) -> None:
        self._expired[sid] = timestamp

    def is_expired(self, sid: str) -> bool:
        return sid in self._expired

    def clear_expired(self, sid: str) -> None:
        self._expired.pop(sid, None)

    def prune_expired(self, max_age: float) -> None:
        limit = time.time() - max_age
        for sid in [sid for sid, at in self._expired.items() if at < limit]:
            del self._expired[sid]

    def expired_count(self) -> int:
        return len(self._expired)


class StorageBackend(HoldCounts):
    """A `Backend` over a `SiloStorage`. Exact within one process, as that interface is.

    Sessions are handed out with the storage's own objects and written back whole. The storage is called under a lock,
    as release 0.1 promised its authors.
    """

    live = True
    shared = False  # it may be: but only one process at a time can write through this interface without losses

    def __init__(self, storage: SiloStorage) -> None:
        self._storage = storage
        self._ended: list[Life] = []
        self._rotated: dict[str, float] = {}
        super().__init__()
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin with a free lock."""
        self._lock = threading.RLock()
        self.release_all()

    def _get(self, sid: str) -> Session | None:
        data = self._storage.get_session(sid)
        if data is None:
            return None
        meta = data.get("_meta", {})
        created = meta.get("created_at", 0.0)
        if "uid" not in meta:  # written by release 0.1: the id and its beginning name the life
            meta["uid"] = uuid.uuid5(uuid.NAMESPACE_OID, f"{sid} {created}").hex
        session = Session(sid, meta["uid"], created, meta.get("last_active", created))
        session.update((name, state) for name, state in data.items() if name != "_meta")
        return session

    def _read(self, session: Session) -> Session:
        """Remember what a session was when it was read, so that `put` writes back what changed and nothing else."""
        session.origin = Record(session.sid, session.uid, session.created, session.active)
        for name, state in session.items():
            with contextlib.suppress(Exception):  # a live object: written back always
                session.origin[name] = copy.deepcopy(state)
        return session

    def _set(self, session: Record) -> None:
        meta = {
            "created_at": session.created,
            "last_active": session.active,
            "sid": session.sid,
            "uid": session.uid,
        }
        self._storage.set_session(session.sid, {**session, "_meta": meta})

    def _current(self, life: Life) -> Session | None:
        session = self._get(life.sid)
        return session if session is not None and session.uid == life.uid else None

    def load(self, sid: str, at: Moment) -> Record | None:
        with self._lock:
            session = self._get(sid)
            if session is not None and at.now - session.active <= at.ttl:
                session.active = at.now
                self._set(session)
            return session if session is None else self._read(session)

    def look(self, sid: str, at: Moment) -> Look:
        with self._lock:
            record = self.load(sid, at)
            if record is not None:
                return Look(record)
            if self._storage.is_expired(sid):
                return Look(None, "expired", at.now)
            return Look(None, "rotated", self._rotated[sid]) if sid in self._rotated else Look(None)

    def peek(self, sid: str) -> Record | None:
        with self._lock:
            return self._get(sid)

    def claim(self, sid: str, at: Moment, timeout: float) -> tuple[Claim, Record | None]:
        """There is no other process to wait for."""
        return Claim(sid, ""), self.load(sid, at)

    def release(self, claim: Claim) -> None:
        """Nothing to give back."""

    def create(
        self,
        record: Record,
        at: Moment,
        claim: Claim | None = None,
        *,
        last: bool = False,
        limit: int | None = None,
    ) -> Record:
        with self._lock:
            winner = self._get(record.sid)
            if winner is not None:
                return self._read(winner)
            if limit is not None and self._storage.session_count() >= limit:
                raise TooManySessions(limit)
            self._set(record)
            self._storage.clear_expired(record.sid)
            return self._read(record) if isinstance(record, Session) else record

    def write(
        self, life: Life, changes: Mapping[str, Change], at: Moment, claim: Claim | None = None, *, last: bool = False
    ) -> None:
        raise NotImplementedError("a live backend is written by put()")

    def put(self, session: Record, now: float) -> None:
        with self._lock:
            current = self._current(Life(session.sid, session.uid))
            if current is None:
                raise SessionExpired(session.sid)
            read = session.origin if isinstance(session, Session) else None
            for name, state in session.items():
                if read is None or name not in read or read[name] != state:
                    current[name] = state
            current.active = session.active = now
            self._set(current)
            if isinstance(session, Session):
                self._read(session)

    def touch(self, life: Life, at: Moment) -> bool:
        with self._lock:
            session = self._current(life)
            if session is not None:
                session.active = at.now
                self._set(session)
            return session is not None

    def remove(self, life: Life) -> bool:
        with self._lock:
            found = self._current(life) is not None
            if found:
                self._storage.delete_session(life.sid)
            return found

    def rename(self, life: Life, sid: str, at: Moment) -> bool:
        with self._lock:
            session = self._current(life)
            if session is None or self._storage.has_session(sid):
                return False
            self._storage.delete_session(life.sid)
            self._rotated[life.sid] = at.now
            session.sid = sid
            self._set(session)
            return True

    def find(self, uid: str) -> str | None:
        return next((sid for sid in self.sids() if (session := self.peek(sid)) and session.uid == uid), None)

    def alive(self, uid: str) -> bool:
        return self.find(uid) is not None

    def due(self, at: Moment) -> Iterator[list[Life]]:
        with self._lock:
            sids = self._storage.all_sids()
        for sid in sids:
            with self._lock:
                session = self._get(sid)
            if session is not None and at.now - session.active > at.ttl:
                yield [Life(sid, session.uid)]

    def expire(self, lives: Iterable[Life], at: Moment, claim: Claim | None = None) -> list[Life]:
        kept = []
        with self._lock:
            for life in lives:
                session = self._current(life)
                if session is None:
                    continue
                if self.held(life.uid):
                    session.active = at.now
                    self._set(session)
                if at.now - session.active <= at.ttl:
                    kept.append(life)
                else:
                    self._storage.delete_session(life.sid)
                    self._storage.mark_expired(life.sid, at.now)
                    self._ended.append(life)
        return kept

    def ended(self) -> list[Life]:
        with self._lock:
            lives, self._ended = self._ended, []
            return lives

    def settle(self, lives: Iterable[Life]) -> None:
        """Nothing to do."""

    def expired_at(self, sid: str) -> float | None:
        """The storage says only whether: give a time that is recent enough to count."""
        with self._lock:
            return float("inf") if self._storage.is_expired(sid) else None

    def prune(self, before: float) -> None:
        with self._lock:
            self._storage.prune_expired(time.time() - before)
            self._rotated = {sid: at for sid, at in self._rotated.items() if at >= before - ROTATED_RETAIN}

    def count(self) -> int:
        return self._storage.session_count()

    def expired_count(self) -> int:
        return self._storage.expired_count()

    def sids(self) -> list[str]:
        return self._storage.all_sids()

    def check(self, now: float) -> list[Finding]:
        return [Finding("warning", "storage", "a storage of release 0.1 is exact within one process only")]

    def close(self) -> None:
        """The storage belongs to who made it."""
