"""Loads sessions to read or to write, and writes them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from .backend import Backend, Claim, Life, Moment
from .errors import LockTimeout, NamespaceError, RecordDamaged, SessionExpired
from .expiry import Expiry
from .hold import HoldRegistry
from .ids import check_sid
from .locks import WriteLock, WriteLocks
from .mapper import OnChange, SessionMapper
from .record import Record
from .registry import Registry, tell
from .session import META, Session

REMEMBERED_ROTATIONS = 1000
"""Number of newest rotations that a process remembers, for requests that were under way when the id changed."""


class Editor:
    """Loads sessions from the backend, to read or to write, and writes them back.

    Attributes:
        rotations: The ids to which this process has rotated lives, by uid.
    """

    def __init__(
        self,
        backend: Backend,
        sessions: SessionMapper,
        locks: WriteLocks,
        holds: HoldRegistry,
        expiry: Expiry,
        registry: Registry,
        moment: Callable[[], Moment],
        lock_timeout: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._sessions = sessions
        self._locks = locks
        self._holds = holds
        self._expiry = expiry
        self._registry = registry
        self._moment = moment
        self._lock_timeout = lock_timeout
        self.rotations: dict[str, str] = {}

    # Loading

    def load(self, sid: str, lock: WriteLock | None = None) -> Record | None:
        """Return the record of a session, renewed; None if the id has none or the session has expired.

        The first load under a write lock also claims the session from other processes.

        Raises:
            LockTimeout: Another process did not finish writing in time.
        """
        at = self._moment()
        if lock is not None:
            lock.loaded = at
        if lock is None or self._backend.live:
            record, claim = self._backend.load(sid, at), None
        elif lock.claim is None:
            lock.claim, record = self._claim(sid, at, max(0.0, self._lock_timeout() - lock.waited))
            claim = lock.claim
        else:
            record, claim = self._backend.load(sid, at), lock.claim
        return record if record is not None and not self._expiry.is_over(record, at, claim) else None

    def load_head(self, sid: str) -> Record | None:
        """Return what ``load`` returns, with or without the namespaces."""
        at = self._moment()
        record = self._backend.load_head(sid, at)
        return record if record is not None and not self._expiry.is_over(record, at) else None

    def _claim(self, sid: str, at: Moment, timeout: float) -> tuple[Claim, Record | None]:
        waiting = self._locks.waiting
        if waiting is None:
            return self._backend.claim(sid, at, timeout)
        with suppress(LockTimeout):
            return self._backend.claim(sid, at, 0.0)  # a claim that succeeds at once does not count as a wait
        with waiting(sid):
            return self._backend.claim(sid, at, timeout)

    def open(self, sid: str, uid: str | None = None, lock: WriteLock | None = None) -> Session:
        """Return a session as a mapper opens it. If the id has none, and ``uid`` is None, begin one.

        Without a write lock, a life that was rotated to another id is found too.

        Raises:
            SessionExpired: The life has ended.
            LockTimeout: Another process did not finish writing in time.
        """
        while True:
            record = self.load(sid, lock)
            if record is not None and (uid is None or record.uid == uid):
                return self._sessions.open(record)
            if uid is None:
                return self.begin(sid)
            moved = self.find_moved(sid, uid) if lock is None else None
            if moved is None:
                raise SessionExpired(sid)
            sid = moved

    def begin(self, sid: str, *, announce: bool = True) -> Session:
        """Begin a session. If that has put it into the backend, run the ``on_create`` callbacks."""
        session, created = self._sessions.begin(sid)
        if created and announce:
            tell(self._registry.on_create, sid)
        return session

    def find_moved(self, sid: str, uid: str | None) -> str | None:
        """Return the id to which a life was rotated from ``sid``, and update its holds; None if it was not rotated."""
        new = self._backend.find(uid) if uid is not None else None
        if new is None or new == sid:
            return None
        for hold in self._holds.of(uid):
            hold.sid = new
        return new

    # Writing

    @contextmanager
    def edit(self, sid: str, namespace: str | None, uid: str | None, *, lazy: bool) -> Iterator[Any]:
        """Change a session; see ``SessionStore.edit``."""
        if namespace is not None and namespace not in self._registry.factories:
            raise NamespaceError(namespace)
        outer = self._locks.held(sid)
        if outer is not None and outer.session is not None:
            if uid is not None and outer.session.uid != uid:
                raise SessionExpired(sid)
            yield self._part(outer.session, namespace, lazy=lazy)
            return
        lock = outer or WriteLock(self._locks, check_sid(sid))
        try:
            session = self._enter(lock, uid)
            yield self._part(session, namespace, lazy=lazy)
            self._save(session, lock, last=outer is None)
        finally:
            lock.session = None
            if outer is None:
                lock.give_back()

    def update(self, sid: str, namespace: str, change: Callable[[Any], Any]) -> Any:
        """Call ``change`` with a namespace's state; see ``SessionStore.update``."""
        outer = self._locks.held(sid)
        if outer is not None and outer.session is not None:
            return outer.session.apply(namespace, change)
        lock = outer or WriteLock(self._locks, check_sid(sid))
        try:
            session = self._enter(lock, None)
            state = session.apply(namespace, change)
            self._save(session, lock, last=outer is None)
            return state
        finally:
            lock.session = None
            if outer is None:
                lock.give_back()

    def _save(self, session: Session, lock: WriteLock, *, last: bool) -> None:
        if lock.session is session:  # neither reset nor destroyed in the meantime
            lock.last_write = last
            self.write_back(session, lock)

    def _part(self, session: Session, namespace: str | None, *, lazy: bool) -> Any:
        if namespace is not None:
            return session[namespace]
        return session if lazy else self._sessions.whole(session)

    def _enter(self, lock: WriteLock, uid: str | None) -> Session:
        """Take a write lock, unless it is taken, and load the session. Follow a life that was rotated to its new id."""
        if lock.taken:
            lock.session = self.open(lock.sid, uid, lock)
            return lock.session
        tried: set[str] = set()
        while True:
            lock.take(self._lock_timeout())
            try:
                lock.session = self.open(lock.sid, uid, lock)
            except SessionExpired:
                moved = self.find_moved(lock.sid, uid)
                if moved is None or moved in tried:  # a life never returns to an earlier id
                    raise
                lock.give_back()
                tried.add(lock.sid)
                lock.sid = moved
            else:
                return lock.session

    def write_back(self, session: Session, lock: WriteLock | None, on_change: OnChange | None = None) -> None:
        """Write a session back; see ``SessionStore.write_back``."""
        if session.uid or not self._registry.on_create:
            self._sessions.save(session, lock, on_change)
            return
        last = lock is not None and lock.last_write
        if lock is not None:  # the callbacks may edit the new session under this lock
            lock.last_write = False
        if self._sessions.save(session, lock, on_change):
            tell(self._registry.on_create, session.sid)
            if lock is not None and lock.session is session:
                lock.last_write = last
                self._sessions.save(session, lock)

    def save(self, sid: str, session: Mapping[str, Any]) -> Session:
        """Save a session or a mapping; see ``SessionStore.save``."""
        if isinstance(session, Session):
            self.write_back(session, self._locks.held(sid))
            return session
        with self.edit(sid, None, None, lazy=True) as current:
            current.update((name, state) for name, state in session.items() if name != META)
            self.write_back(current, self._locks.held(sid))
            stored: Session = current
            return stored

    @contextmanager
    def take(self, sid: str) -> Iterator[Life | None]:
        """Hold the write lock of a session, and yield its life; None if the id has no session.

        Any session that the lock's owner has loaded is dropped. The uid of a damaged record may be empty.
        """
        with WriteLock(self._locks, sid) as lock:
            held = self._locks.held(sid)
            if held is None:
                lock.take(self._lock_timeout())
            else:
                held.session = None
            try:
                record = self.load(sid, held or lock)
            except RecordDamaged as error:
                life: Life | None = Life(sid, error.uid)
            else:
                life = Life(sid, record.uid) if record is not None else None
            yield life

    # Rotating

    def rotate(self, sid: str, make_sid: Callable[[], str]) -> str:
        """Move a session to an id that ``make_sid()`` returns, with its write lock and its holds.

        Raises:
            SessionExpired: There is no such session.
        """
        with WriteLock(self._locks, check_sid(sid)) as own:
            lock = self._locks.held(sid) or own
            if lock is own:
                own.take(self._lock_timeout())
            if lock.session is not None and self._sessions.ensure(lock.session):  # it may have begun under this lock
                tell(self._registry.on_create, sid)
            record = self.load(sid, lock)
            if record is None:
                raise SessionExpired(sid)
            new = make_sid()
            self._locks.move(lock, new)
            try:
                self._rename(record, new, lock)
            except BaseException:
                lock.sid = sid
                raise
            self._note_rotation(record.uid, new)
            for hold in self._holds.of(record.uid):
                hold.sid = new
            if lock.session is not None:
                lock.session.sid = new
            return new

    def _rename(self, record: Record, sid: str, lock: WriteLock) -> None:
        """Move a record and the lock's claim. The claim comes first: if it fails, nothing has changed."""
        old, claim, done = lock.claim, None, False
        if old is not None:
            claim, _ = self._backend.claim(sid, self._moment(), self._lock_timeout())
        try:
            done = self._backend.rename(Life(record.sid, record.uid), sid, self._moment())
        finally:
            if claim is not None and old is not None:
                lock.claim = claim if done else old
                self._backend.release(old if done else claim)
        if not done:
            raise SessionExpired(record.sid)

    def _note_rotation(self, uid: str, sid: str) -> None:
        self.rotations.pop(uid, None)  # a dict keeps the place of a key that is set again
        self.rotations[uid] = sid
        while len(self.rotations) > REMEMBERED_ROTATIONS:
            with suppress(KeyError, RuntimeError, StopIteration):  # another thread does the same
                del self.rotations[next(iter(self.rotations))]

    def has_moved(self, sid: str, uid: str, find_uid: Callable[[str], str | None]) -> bool:
        """Return whether this process has rotated a life away from ``sid``.

        ``find_uid(sid)`` returns the present life of an id. It is called only if this process remembers a rotation.
        """
        known = self.rotations.get(uid)
        if known is None or known == sid:
            return False
        if find_uid(sid) == uid:  # another process has rotated it since
            self._note_rotation(uid, sid)
            return False
        return True
