"""``SessionStore``: expiring state for each session id."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, Literal, NamedTuple

from .backend import ROTATED_RETAIN, Backend, Life, Moment
from .backends.memory import MemoryBackend
from .backends.urls import open_backend
from .callables import check_callback, check_change
from .codec import Codec, Codecs
from .copies import CopiedSessions
from .editing import Editor
from .errors import NamespaceError, RecordDamaged, SessionBusy, SessionExpired, TooManySessions
from .expiry import Expiry
from .hold import Hold, HoldRegistry
from .ids import check_sid, is_sid, new_sid
from .live import LiveSessions
from .locks import WriteLock, WriteLocks
from .mapper import OnChange, SessionMapper
from .ranges import check_count, check_seconds
from .record import Change, Record
from .registry import EndReason, Registry, kind_of, tell
from .seam import check_seam
from .session import Session


class Lookup(NamedTuple):
    """What the store knows about an id."""

    status: Literal["live", "expired", "rotated", "lost", "unknown"]
    """``"live"``; ``"expired"`` within the last ``expired_retain`` seconds; ``"rotated"``: the session got another id
    within the last minute; ``"lost"``: the backend lost all its records within the last ``expired_retain`` seconds,
    perhaps this one among them; ``"unknown"``: none of these."""
    session: Session | None = None
    """The session, renewed; None unless the status is ``"live"``."""


class SessionStore:
    """State for each session id, in registered namespaces, until the session expires.

    Reads never wait. A session has one writer at a time: ``edit``, ``update``, ``reset``, ``destroy`` and ``rotate``
    wait for its write lock. A session expires the moment ``clock() - last use > ttl``, whether or not a sweep has run.

    Args:
        ttl: Seconds that a session lives after its last use; ``math.inf`` for ever.
        cleanup_interval: Seconds between two sweeps of a ``CleanupDaemon``.
        expired_retain: Seconds for which an expired id is remembered; 0 to remember none.
        sid_generator: Makes new ids; 128 random bits by default.
        backend: Where sessions are kept: a ``Backend`` or its URL, see ``open_backend``. Live objects in memory by
            default.
        codec: Encodes state for a backend that keeps bytes.
        clock: Seconds since the epoch.
        lock_timeout: Seconds that a writer waits for the write lock before ``LockTimeout``; 0 not to wait.
        touch_interval: Seconds between two recorded uses of a session, so that most reads write nothing; a session may
            expire that much early. Less than ``ttl``; a hundredth of it, at most 30 seconds, by default. Ignored for
            live objects.
        max_state_bytes: Bytes that the encoded state of one session may take; no limit by default. Ignored for live
            objects.
        max_sessions: Number of sessions that may exist, counted where they are kept: in this process, in the file, or
            on the server under one prefix. Sessions that are due are ended before one is refused. No limit by default.
        registry: Namespaces and callbacks shared with another store.

    Attributes:
        backend: The backend.
        registry: The namespaces and callbacks.
        locks: The write locks. ``locks.held(sid)`` is the one that the calling code holds.
        rotations: The newest ids to which this process has rotated sessions, by uid.

    Raises:
        ValueError: The URL of the backend is invalid, or a duration or a limit is out of its range.
        TypeError: A duration or a limit is not a number. Or ``backend`` or ``codec`` lacks a method or has one that
            takes other arguments; the message lists all of them. Or a namespace of the registry has a type that the
            codec does not support, or ``clock`` or ``sid_generator`` cannot be called, or ``storage`` is given, which
            later releases of 0.1 took.
        StoreUnavailable: The URL names an SQLite file in which no session could be kept.
    """

    def __init__(
        self,
        *,
        ttl: float = 3600,
        cleanup_interval: float = 60,
        expired_retain: float = 7200,
        sid_generator: Callable[[], str] | None = None,
        backend: Backend | str | None = None,
        codec: Codec | None = None,
        clock: Callable[[], float] = time.time,
        lock_timeout: float = 30.0,
        touch_interval: float | None = None,
        max_state_bytes: int | None = None,
        max_sessions: int | None = None,
        registry: Registry | None = None,
        storage: None = None,
    ) -> None:
        if storage is not None:
            raise TypeError(
                "storage= is no longer accepted: give backend=, a Backend or a URL such as sqlite:///sessions.db"
            )
        self.ttl = ttl
        check_seconds("cleanup_interval", cleanup_interval, is_positive=True, is_waited=True)
        check_seconds("expired_retain", expired_retain)
        check_seconds("lock_timeout", lock_timeout, is_waited=True)
        if touch_interval is not None:
            check_seconds("touch_interval", touch_interval)
            if touch_interval >= ttl:
                raise ValueError(f"touch_interval must be less than ttl, {ttl!r} seconds, not {touch_interval!r}")
        check_count("max_state_bytes", max_state_bytes)
        check_count("max_sessions", max_sessions)
        check_callback("clock", clock)
        if sid_generator is not None:
            check_callback("sid_generator", sid_generator)
        self.cleanup_interval = cleanup_interval
        self.expired_retain = expired_retain
        self.lock_timeout = lock_timeout
        self.touch_interval = touch_interval
        self.max_state_bytes = max_state_bytes
        self.max_sessions = max_sessions
        self.registry: Registry = registry if registry is not None else Registry()
        if backend is None or isinstance(backend, str):
            backend = open_backend(backend or "memory://")
        else:
            check_seam("backend", backend, Backend, "BACKENDS.md of silo-store")
        if codec is not None:
            check_seam("codec", codec, Codec, "silo_store.Codec")
        self.backend: Backend = backend
        self._sessions: SessionMapper
        factories = self._factories = self.registry.factories
        self._codecs: Codecs | None = None
        if backend.live:
            self._sessions = LiveSessions(backend, self._create, factories, self.moment, self.uid, clock)
        else:
            codecs = self._codecs = Codecs(codec or _msgpack(), self.registry.kinds)
            for name in factories:
                codecs[name]  # made now, or refused
            self._sessions = CopiedSessions(
                backend, self._create, codecs, factories, self.moment, self.uid, lambda: self.max_state_bytes
            )
        self._clock = clock
        self._new_sid = sid_generator or new_sid
        self.locks: WriteLocks = WriteLocks(backend)
        self.holds: HoldRegistry = HoldRegistry()
        self._resetting: set[str] = set()
        self._expiry = Expiry(backend, self._sessions, self.locks, self.registry)
        self._editor = Editor(
            backend,
            self._sessions,
            self.locks,
            self.holds,
            self._expiry,
            self.registry,
            self.moment,
            lambda: self.lock_timeout,
        )
        self.rotations: dict[str, str] = self._editor.rotations
        # ``get`` and ``is_expired`` read these directly: it is faster.
        here = backend if isinstance(backend, MemoryBackend) else None
        self._records: dict[str, Record] = here.records if here is not None else {}
        self._tombstones = here.tombstones.shards if here is not None else {}
        self._live: dict[str, Any] = self._records if backend.live else {}

    # Setting up

    def register_namespace(self, name: str, factory: Callable[[], Any], type: Any = None) -> None:
        """Give every session a namespace whose state begins as ``factory()``.

        A session that exists gets it at its next use. Register before the first session begins: from then on each use
        checks whether the session is complete.

        Args:
            name: The namespace's name.
            factory: Makes its first state. A class, or a type such as ``dict[str, Decimal]``, is its type too; ``dict``
                and ``list`` alone count as no type.
            type: Its type, if the factory is not the type; ``Any`` for none. A backend that keeps bytes returns state
                as this type, and refuses to save a value that does not fit it.

        Raises:
            TypeError: The factory is not callable, needs arguments or is async; or the backend keeps bytes, and the
                codec does not support that type.
            ValueError: The name is reserved.
        """
        kind = kind_of(factory) if type is None else type
        if self._codecs is not None and kind is not Any:
            self._codecs.make(name, kind)
        self.registry.add(name, factory, kind)
        if self._live:
            self._live = {}
        if self._codecs is not None:
            self._codecs.forget(name)

    def set_busy_check(self, predicate: Callable[[str, dict[str, Any]], object]) -> None:
        """Keep a session from expiring, and from ``reset``, while ``predicate(sid, session)`` is true.

        A busy session that is due is renewed, so that its client has the whole ``ttl`` to fetch the result.

        Raises:
            TypeError: The predicate cannot be called with these arguments, or is async.
        """
        if predicate is not None:  # None removes the check
            check_callback("set_busy_check", predicate, "sid, session")
        self.registry.busy_check = predicate

    def on_create(self, callback: Callable[[str], object]) -> None:
        """Call ``callback(sid)`` after a session began.

        Raises:
            TypeError: The callback cannot be called with these arguments, or is async.
        """
        check_callback("on_create", callback, "sid")
        self.registry.on_create.append(callback)

    def on_expire(self, callback: Callable[[str], object]) -> None:
        """Call ``callback(sid)`` once after a session expired, in the thread that runs ``cleanup``.

        Raises:
            TypeError: The callback cannot be called with these arguments, or is async.
        """
        check_callback("on_expire", callback, "sid")
        self.registry.on_expire.append(callback)

    def on_end(self, callback: Callable[[str, str, EndReason], object]) -> None:
        """Call ``callback(sid, uid, reason)`` after a life of a session ended.

        The reason is ``"expired"``, ``"reset"`` or ``"destroyed"``. The id may be in use again by then; the uid is not.

        Raises:
            TypeError: The callback cannot be called with these arguments, or is async.
        """
        check_callback("on_end", callback, "sid, uid, reason")
        self._expiry.on_end.append(callback)

    def take_over(self, other: SessionStore) -> None:
        """Adopt the ``on_end`` callbacks of another store, which this one replaces."""
        self._expiry.on_end.extend(other._expiry.on_end)

    # Reading

    def get(self, sid: str) -> Session:
        """Return the session and renew it. If the id has no session, begin one.

        With live objects (``memory://``) a change to it takes effect at once. With other backends it is a copy: write
        it back with ``save``, or better, change it in ``edit``.

        Raises:
            InvalidSessionId: ``sid`` is not a session id.
            TooManySessions: The id has no session, and there are as many sessions as ``max_sessions`` allows.
        """
        try:
            session: Session = self._live[sid]
        except (KeyError, TypeError):  # ``open`` begins a session, or refuses the id
            pass
        else:  # as in ``_living``, whose call would be a fifth of the time
            now = self._clock()
            if now - session.active <= self._ttl:
                session.active = now
                return session
        session = self.open(sid)
        self.ensure(session)
        return session

    def _living(self, sid: str) -> Session | None:
        """Return a session in memory, renewed; None if the backend must be asked, or the id is unhashable."""
        try:
            session: Session = self._live[sid]
        except (KeyError, TypeError):
            return None
        now = self._clock()
        if now - session.active <= self._ttl:
            session.active = now
            return session
        return None

    def get_namespace(self, sid: str, namespace: str) -> Any:
        """Return one namespace of what ``get`` returns.

        Raises:
            NamespaceError: The namespace is not registered.
        """
        if namespace not in self._factories:
            raise NamespaceError(namespace)
        if self.backend.live:
            return self.get(sid)[namespace]
        while True:
            session = self.open(sid, lazy=True)
            self.ensure(session)
            try:
                return session[namespace]
            except SessionExpired:
                if self.has_life(session.uid):
                    raise

    def open(self, sid: str, uid: str | None = None, *, lock: WriteLock | None = None, lazy: bool = False) -> Session:
        """Return the session to read, and to ``save`` after changing it.

        Like ``get``, but if the id has no session and the backend keeps copies, the new session has an empty ``uid``
        and exists only once it is saved.

        Args:
            sid: The session's id.
            uid: Accept only this life of the session.
            lock: The caller's write lock, if it has taken one: other processes are kept from writing too.
            lazy: Decode each namespace when the caller first asks for it by name. Until then, ``in`` finds it but
                iteration does not yield it; ``whole`` completes the session.

        Raises:
            SessionExpired: That life has ended.
            LockTimeout: Another process did not finish writing in time.
            StoreUnavailable: The backend cannot be reached.
            StateDecodeError: Stored state does not fit a namespace's type.
            RecordDamaged: The stored record is damaged.
        """
        while True:
            session = self._editor.open(check_sid(sid), uid, lock)
            if lazy:
                return session
            try:
                return self._sessions.whole(session)
            except SessionExpired:
                if uid is not None or self.has_life(session.uid):
                    raise

    def find(self, sid: str, *, lazy: bool = False) -> Session | None:
        """Return the session like ``open``, renewed; None if the id has no session."""
        session = self._living(sid)
        while session is None:
            record = self._editor.load(check_sid(sid))
            if record is None:
                return None
            session = self._opened(record, lazy)
        return session

    def _opened(self, record: Record, lazy: bool) -> Session | None:
        """Return the session of a record as ``open`` does; None if it has ended since the record was read."""
        session = self._sessions.open(record)
        if lazy:
            return session
        try:
            return self._sessions.whole(session)
        except SessionExpired:
            if self.has_life(session.uid):
                raise
            return None

    def lookup(self, sid: str, *, lock: WriteLock | None = None, lazy: bool = False) -> Lookup:
        """Return the status of an id, and its session like ``find``.

        Takes one round trip; with a ``lock`` and no session, two.

        Args:
            sid: The session's id.
            lock: The caller's write lock, as for ``open``.
            lazy: See ``open``.

        Raises:
            InvalidSessionId: ``sid`` is not a session id.
            LockTimeout: Another process did not finish writing in time.
            StoreUnavailable: The backend cannot be reached.
        """
        session = self._living(sid)
        if session is not None:
            return Lookup("live", session)
        check_sid(sid)
        record = self._editor.load(sid, lock) if lock is not None else None
        if record is None:
            at = self.moment()
            record, trace, since = self.backend.look(sid, at)
            if record is None:
                known = ROTATED_RETAIN if trace == "rotated" else self.expired_retain
                return Lookup("unknown" if trace is None or at.now - since > known else trace)
            if self._expiry.is_over(record, at, lock.claim if lock is not None else None):
                return Lookup("expired")
        session = self._opened(record, lazy)
        return Lookup("live", session) if session is not None else self.lookup(sid, lock=lock, lazy=lazy)

    def begin(self, sid: str) -> Session:
        """Begin a session like ``open``, for an id that is known to have none. Saves a round trip."""
        return self._editor.begin(check_sid(sid))

    def whole(self, session: Session) -> Session:
        """Complete a session that was opened lazily, and return it.

        Raises:
            StateDecodeError: Stored state does not fit a namespace's type.
        """
        return self._sessions.whole(session)

    def ensure(self, session: Session) -> None:
        """Put a session that ``open`` began into the backend, without its changes. Does nothing if it is there."""
        if self._sessions.ensure(session):
            tell(self.registry.on_create, session.sid)

    def peek(self, sid: str) -> Session | None:
        """Return the session as it is stored, due or not, and renew nothing. None if the id has no session.

        Namespaces that it does not have yet stay missing.

        Raises:
            StateDecodeError: Stored state does not fit a namespace's type.
        """
        record = self.backend.read(check_sid(sid))
        return self._sessions.view(record) if record is not None else None

    def uid(self, sid: str) -> str | None:
        """Return the uid of the session's present life; None if the id has no session.

        Renews a session only if it is due and is held, busy or being written.
        """
        record = self._seen(sid)
        return record.uid if record is not None else None

    def exists(self, sid: str) -> bool:
        """Return whether the session lives. Renews it only if it is due and is held, busy or being written."""
        return self._seen(sid) is not None

    def _seen(self, sid: str) -> Record | None:
        record = self.backend.peek_head(sid) if is_sid(sid) else None
        return record if record is not None and not self._expiry.is_over(record, self.moment()) else None

    def has_life(self, uid: str) -> bool:
        """Return whether ``uid`` is the present life of any session, due or not."""
        return self.backend.find(uid) is not None

    def living(self, uids: Iterable[str]) -> set[str]:
        """Return those of ``uids`` that are present lives of sessions, due or not; see ``has_life()``.

        Asks for many in one round trip. To sweep what belongs to sessions, ask for about 1,000 at a time.
        """
        return self.backend.living(list(uids))

    def is_expired(self, sid: str) -> bool:
        """Return whether the session expired within the last ``expired_retain`` seconds and has not begun again."""
        try:
            record = self._records.get(sid)
            at = self._tombstones[sid[-1]].get(sid) if record is None and self._tombstones else None
        except (LookupError, TypeError):  # not a session id
            return False
        if record is not None:
            return self._clock() - record.active > self._ttl and self._expiry.is_over(record, self.moment())
        if at is None and is_sid(sid):
            try:
                record = self.backend.peek_head(sid)
            except RecordDamaged:  # the time of its last use cannot be read
                return False
            if record is not None:
                return self._clock() - record.active > self._ttl and self._expiry.is_over(record, self.moment())
            at = self.backend.expired_at(sid)
        return at is not None and self._clock() - at <= self.expired_retain

    def touch(self, sid: str) -> None:
        """Renew the session, if it lives. Reads no state."""
        if is_sid(sid):
            with suppress(RecordDamaged):
                self.find_head(sid)

    def find_head(self, sid: str) -> Record | None:
        """Return the record of a session, perhaps without its state, renewed; None if the id has no session."""
        session = self._living(sid)
        return session if session is not None else self._editor.load_head(check_sid(sid))

    def renew(self, life: Life) -> bool:
        """Renew one life of a session, due or not. Return whether that life still exists."""
        return self.backend.touch(life, self.moment())

    # Writing

    def lock(self, sid: str) -> WriteLock:
        """Return the write lock of a session, to take and to give back. ``edit`` does both."""
        return WriteLock(self.locks, check_sid(sid))

    def edit(
        self, sid: str, namespace: str | None = None, *, uid: str | None = None, lazy: bool = False
    ) -> AbstractContextManager[Any]:
        """Change a session, or one namespace of it, under its write lock. Changes are saved at the end of the block.

        Nested edits of one session join the outermost, which alone saves. If the block raises, nothing is saved;
        live objects, though, are changed already.

        Args:
            sid: The session's id.
            namespace: Yield this namespace instead of the whole session.
            uid: Accept only this life of the session, also if it was rotated to another id.
            lazy: Without a namespace, yield the session as ``open`` does with ``lazy``.

        Raises:
            LockTimeout: Another writer did not finish within ``lock_timeout`` seconds.
            NamespaceError: The namespace is not registered.
            SessionExpired: That life has ended.
            StateEncodeError: A value cannot be stored as bytes, and the backend keeps bytes.
            StateTooLarge: The state takes more than ``max_state_bytes``.
            TooManySessions: The session would begin, and there are as many sessions as ``max_sessions`` allows.
        """
        return self._editor.edit(sid, namespace, uid, lazy=lazy)

    def update(self, sid: str, namespace: str, change: Callable[[Any], Any]) -> Any:
        """Call ``change(state)`` under the write lock and save. A result other than None becomes the new state.

        Returns:
            The namespace's new state.

        Raises:
            TypeError: ``change`` is async, or not a function. Nothing was changed.
            Exception: Any error of ``edit``.
        """
        check_change(change)
        return self._editor.update(sid, namespace, change)

    def save(self, sid: str, session: Mapping[str, Any]) -> Session:
        """Write back what ``get`` or ``open`` returned. Only namespaces that changed are written.

        A mapping that did not come from this store replaces the namespaces that it names.

        Raises:
            SessionConflict: Another writer has changed a namespace that this one changed too.
            SessionExpired: The life from which this state came has ended.
            StateEncodeError: A value cannot be stored as bytes, and the backend keeps bytes.
        """
        return self._editor.save(sid, session)

    def changed(self, session: Session) -> list[str]:
        """Return the names of namespaces that ``save`` would write, in no order; an empty list for live objects."""
        return self._sessions.changed(session)

    def write_back(self, session: Session, lock: WriteLock | None = None, *, on_change: OnChange | None = None) -> None:
        """Write back what ``open`` returned under a write lock.

        Args:
            session: The session.
            lock: The write lock under which it was loaded. If another process has taken the lock over, nothing is
                saved. With ``lock.last_write``, this write also gives the claim back, which saves a round trip.
            on_change: Called with the names of the namespaces that differ from what was read, before they are written.
                If it raises, nothing is written. Never called for live objects.

        Raises:
            LockLost: Another process has taken the write lock over.
            Exception: Any error of ``save``.
        """
        self._editor.write_back(session, lock, on_change)

    def attached(self, sid: str, uid: str | None = None, *, renew: bool = False) -> Record | None:
        """Return what is attached to a session, by name, with the head of its record, in one round trip.

        Args:
            sid: An id that the session has or had.
            uid: Accept only this life, due or not, also if it was rotated to another id. By default the life that the
                id has now, unless it has expired.
            renew: Renew the session. Has no effect with a ``uid``.

        Returns:
            The record, with what is attached in place of namespaces; None if there is no such life.

        Raises:
            RecordDamaged: The stored record is damaged.
            StoreUnavailable: The backend cannot be reached.
        """
        if uid is None:
            at = self.moment()
            record = self.backend.attached(sid, at if renew else None) if is_sid(sid) else None
            return record if record is not None and not self._expiry.is_over(record, at) else None
        tried: set[str] = set()
        while sid not in tried:
            tried.add(sid)
            record = self.backend.attached(sid)
            if record is not None and record.uid == uid:
                return record
            sid = self._editor.find_moved(sid, uid) or sid
        return None

    def attach(self, life: Life, name: str, change: Change) -> None:
        """Attach data to a session under a name, and renew the session. For backends that keep copies.

        The data lives and dies with the session, but is not part of its state. It is written by compare and
        set, without the write lock: this call never waits for a writer of the session, and no writer waits for it.

        Args:
            life: The session's life.
            name: The name.
            change: The new bytes, and the version that ``attached`` returned; 0 if it returned no such name.

        Raises:
            SessionConflict: The stored version is another one. Nothing was written.
            SessionExpired: The life has ended, or was rotated to another id.
            StoreUnavailable: The backend cannot be reached.
        """
        self.backend.attach(life, name, change, self.moment())

    # Lives

    def reset(self, sid: str) -> None:
        """End the session's life and begin the next one with fresh state. Does nothing if the id has no session.

        Raises:
            SessionBusy: The busy check says that work for the session is running.
        """
        with suppress(RecordDamaged):  # the busy check cannot be called; see ``Expiry.is_busy``
            record = self._editor.load(check_sid(sid))
            if record is not None and self._expiry.is_busy(record):
                raise SessionBusy(sid)
        ended = None
        try:
            with self._editor.take(sid) as life:
                if life is not None:
                    ended = self._end(life)
                    self._resetting.add(sid)
                    try:
                        self._sessions.ensure(self._editor.begin(sid, announce=False))
                    finally:
                        self._resetting.discard(sid)
        finally:  # the old life has ended, even if the next one could not begin
            self._tell_end(ended, "reset")

    def destroy(self, sid: str) -> None:
        """End the session, without remembering its id as expired."""
        with self._editor.take(check_sid(sid)) as life:
            ended = self._end(life) if life is not None else None
        self._tell_end(ended, "destroyed")

    def _end(self, life: Life) -> Life | None:
        if self.backend.remove(life):
            return life
        self.backend.peek(life.sid)  # raises if the record is still damaged; otherwise the id has another life
        return None

    def _tell_end(self, ended: Life | None, reason: EndReason) -> None:
        if ended is not None and ended.uid:  # the uid of some damaged records cannot be read
            tell(self._expiry.on_end, *ended, reason)

    def rotate(self, sid: str) -> str:
        """Give the session another id; its state, uid, tasks and files stay.

        The old id no longer finds a session. For a minute, ``lookup`` says that it was rotated.

        Returns:
            The new id.

        Raises:
            SessionExpired: There is no such session.
        """
        return self._editor.rotate(sid, self.generate_sid)

    def has_moved(self, sid: str, uid: str) -> bool:
        """Return whether this process has rotated a life away from ``sid``. Asks the backend only if that is likely."""
        return self._editor.has_moved(sid, uid, self.uid)

    def hold(self, sid: str) -> Hold:
        """Keep the session from expiring until the hold is released; use it in a ``with`` block.

        Raises:
            SessionExpired: There is no such session.
        """
        record = self._seen(sid)
        if record is None:
            raise SessionExpired(check_sid(sid))
        hold = Hold(Life(sid, record.uid), self.backend, self.holds, self.renew)
        try:
            if self.uid(sid) != hold.uid:  # it ended just before
                raise SessionExpired(sid)
        except BaseException:
            hold.release()
            raise
        return hold

    def cleanup(self) -> list[str]:
        """End the sessions that are due and run the callbacks. Costs nothing for sessions that are not due.

        Returns:
            The ids whose callbacks have run: they expired in this sweep, or since the last one when a caller asked
            for them.
        """
        at = self.moment()
        for lives in self.backend.due(at):
            self._expiry.end_due(lives, at)
        expired = self._expiry.tell_expired()
        self.backend.prune(at.now - self.expired_retain)
        return expired

    def expire(self, sid: str) -> bool:
        """End the session now, as if it had expired: its id is remembered as expired, and the callbacks run.

        A session whose record is damaged is destroyed.

        Returns:
            Whether the session ended. False if there is none, or it is held, busy or being written.
        """
        try:
            record = self.backend.peek(check_sid(sid))
        except RecordDamaged:
            self.destroy(sid)
            return True
        return record is not None and self._expiry.end_now(record, self.moment())

    def _create(self, record: Record, at: Moment, lock: WriteLock | None = None) -> Record:
        """Keep a new record. If ``max_sessions`` is reached, end sessions that are due until there is room."""
        claim, last = (lock.claim, lock.last_write) if lock is not None else (None, False)
        if self.max_sessions is None or record.sid in self._resetting:  # a reset keeps the place that the session has
            return self.backend.create(record, at, claim, last=last)
        create = partial(self.backend.create, record, at, claim, last=last, limit=self.max_sessions)
        with suppress(TooManySessions):
            return create()
        for lives in self.backend.due(at):
            self._expiry.end_due(lives, at)
            with suppress(TooManySessions):
                return create()
        return create()  # ``due`` itself may have found that some records are gone

    # Settings, counts and closing

    @property
    def ttl(self) -> float:
        """Seconds that a session lives after its last use."""
        return self._given_ttl

    @ttl.setter
    def ttl(self, ttl: float) -> None:
        check_seconds("ttl", ttl, is_positive=True)
        self._given_ttl = ttl
        self._ttl = float(ttl)  # comparing a float with an int is a tenth of ``get``
        self._usual_interval = min(ttl / 100, 30.0)

    def moment(self, earlier: Moment | None = None) -> Moment:
        """Return the present time, with the settings by which sessions expire.

        Args:
            earlier: An earlier moment. It is returned if a use now need not be recorded in addition to a use then.
        """
        now = self._clock()
        if earlier is not None and 0 <= now - earlier.now <= earlier.touch_interval:
            return earlier
        touch_interval = self.touch_interval
        return Moment(now, self._given_ttl, self._usual_interval if touch_interval is None else touch_interval)

    def generate_sid(self) -> str:
        """Return a new session id."""
        return check_sid(self._new_sid())

    @property
    def active_count(self) -> int:
        """Number of sessions, including those that are due and not yet swept."""
        return self.backend.count()

    @property
    def expired_count(self) -> int:
        """Number of expired ids that are remembered."""
        return self.backend.expired_count()

    @property
    def all_sids(self) -> list[str]:
        """The ids of all sessions, including those that are due and not yet swept."""
        return self.backend.sids()

    def close(self) -> None:
        """Close what the backend holds open: files or connections."""
        self.backend.close()


def _msgpack() -> Codec:
    from .msgpack import MsgpackCodec  # msgspec takes as long to import as this package; live objects do not need it

    return MsgpackCodec()
