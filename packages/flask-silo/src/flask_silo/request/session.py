"""The session of a request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from silo_store import Record, Session, SessionBusy, SessionExpired, SessionRotated, SessionStore, WriteLock

from .client_id import LATE, ClientId
from .mapping import StateMapping


class RequestSession(StateMapping):
    """The session of one request; ``flask.g.silo``.

    The session is loaded when the view first asks for it. A request whose method writes takes the session's write lock
    then, and keeps it until its changes are committed. A request that reads never waits.

    Args:
        store: The store of the session.
        presented: The id that the client sent; None if it sent none.
        writes: Whether the request's method writes.
        accept_client_ids: Whether clients may choose their ids.
        on_unlocked_change: Called with the names of namespaces that are about to be saved without the write lock.

    Attributes:
        store: The store of the session.
        id: The id of the session.
        session: The session, once it is loaded.
        lock: The write lock, while this request has it.
        jobs: Functions to call once the changes are saved, by name. If they are not saved, none is called.
        failed: Whether the view raised.
        closed: Whether the response has started.
        saved: Whether the changes were committed with the response.
    """

    __slots__ = (
        "_attached",
        "_loading",
        "_looked_at",
        "_on_unlocked_change",
        "_writes",
        "failed",
        "id",
        "jobs",
        "lock",
        "saved",
        "session",
        "store",
    )

    def __init__(
        self,
        store: SessionStore,
        presented: str | None,
        writes: bool,
        accept_client_ids: bool,
        on_unlocked_change: Callable[[list[str]], object] | None = None,
    ) -> None:
        self.store: SessionStore = store
        self.id: ClientId = ClientId(store, presented, accept_client_ids)
        self.session: Session | None = None
        self.lock: WriteLock | None = None
        self.jobs: dict[str, Callable[[], None]] = {}
        self.failed: bool = False
        self.closed: bool = False
        self.saved: bool = False
        self._writes = writes
        self._on_unlocked_change = on_unlocked_change
        self._attached: Record | None = None
        self._looked_at: tuple[str, ...] = ()
        self._loading = threading.RLock()  # for the threads that a view starts; a factory may ask for other state

    # The id

    @property
    def sid(self) -> str:
        """The id of the request's session. Reading it settles the id.

        Raises:
            SessionRotated: The client's session has another id now.
            RuntimeError: The response has started without a session.
        """
        if self.id.settled is None:
            self._settle()
        assert self.id.settled is not None
        return self.id.settled

    def announce(self) -> str:
        """Return the id to the view. The session begins with the response, so that the client can use the id."""
        sid = self.sid
        if self.closed and not (self.lives or self.id.always_sent):
            raise RuntimeError(LATE)
        self.id.announced = True
        return sid

    def is_of(self, sid: str) -> bool:
        """Return whether an id is that of this request's session: the settled, the presented or a former one."""
        if self.id.settled is None and sid == self.id.presented:
            self._settle()
        return self.id.matches(sid)

    @property
    def lives(self) -> bool:
        """Whether the session is known to be in the store."""
        return self.id.lives or (self.session is not None and bool(self.session.uid))

    def _settle(self) -> None:
        with self._loading:
            if self.id.settled is None:
                self._take_over(self.id.settle(late=self.closed))

    def _take_over(self, found: Session | None) -> None:
        """Use the session that was found. A request that writes loads it again, with its write lock."""
        if not self._writes:
            self.session = found

    def require(self) -> None:
        """Refuse the request if it presents an id without a living session.

        Raises:
            SessionExpired: The presented id has no session, see ``ClientId.require``.
            SessionRotated: The session has another id now.
        """
        own = self.id
        if own.presented is None or self.lives or (self.session is not None and own.settled == own.presented):
            return
        self._take_over(own.require(late=self.closed))

    @property
    def uid(self) -> str | None:
        """The uid of the session; None if there is no session. Reading it begins none."""
        self.glance()
        loaded = self._loaded_uid
        if loaded is not None or (self.id.settled is not None and not self.lives):
            return loaded
        return self.store.uid(self.id.candidate) if self.id.candidate is not None else None

    @property
    def _loaded_uid(self) -> str | None:
        return (self.session.uid or None) if self.session is not None else None

    @property
    def known_uid(self) -> str | None:
        """The uid that was found or loaded under the settled id; None if none was."""
        return self._loaded_uid or self.id.uid

    @property
    def has_moved(self) -> bool:
        """Whether another request of this process has rotated the session away from the settled id."""
        if not self.store.rotations:
            return False
        uid, sid = self.known_uid, self.id.settled
        return uid is not None and sid is not None and self.store.has_moved(sid, uid)

    # The session

    @property
    def writing(self) -> bool:
        """Whether this is a request that writes, and its response has not started."""
        return self._writes and not self.closed

    def load(self) -> Session:
        """Return the session, with the write lock if the request writes. See ``StateMapping.load``.

        Raises:
            LockTimeout: Another writer did not finish in time.
            SessionRotated: The client's session has another id now.
            RuntimeError: The response has started, and there is no session.
        """
        session = self.session
        if session is None:
            with self._loading:
                session = self.session
                if session is None:
                    session = self.session = self._load()
        return session

    def _load(self) -> Session:
        if self.closed:
            found = self.store.find(self.sid, lazy=True)
            if found is None:
                raise RuntimeError(LATE)
            return found
        if self._writes:
            return self._load_to_write()
        if self.id.settled is None:
            self._settle()
            if self.session is not None:
                return self.session
        return self.id.load_again() if self.lives else self.store.begin(self.sid)

    def _load_to_write(self) -> Session:
        store, own = self.store, self.id
        sid = own.candidate or self.sid
        lock = self.lock or store.locks.held(sid)  # the view may be in ``store.edit``
        if lock is None:
            lock = self.lock = WriteLock(store.locks, sid)
            lock.take(store.lock_timeout)
        session = lock.session
        if session is None and own.settled is None:
            session = own.settle_by(store.lookup(sid, lock=lock, lazy=True))
            if session is None and own.settled == sid:
                session = store.begin(sid)
            if session is None:  # the request writes another session
                self.give_lock_back()
                return self._load_to_write()
        elif session is None:
            session = own.load_again(lock) if self.lives else store.open(sid, lock=lock, lazy=True)
        lock.session = session
        own.settled = sid
        return session

    def whole(self) -> Session:
        """Return the session as ``load`` does, with all of its namespaces."""
        return self.store.whole(self.load())

    def state(self, namespace: str | None) -> Any:
        """Return the state, or one namespace of it."""
        return self.whole() if namespace is None else self.load()[namespace]

    @contextmanager
    def edit(self, namespace: str | None, *, lazy: bool) -> Iterator[Any]:
        """Change the state, or one namespace of it; saved with a request that writes, otherwise when the block ends."""
        if self.writing:
            yield self[namespace] if namespace is not None else self.load() if lazy else self.whole()
            return
        self.save()  # what the request has changed before
        with self.store.edit(self.announce(), uid=self.known_uid, lazy=lazy or namespace is not None) as session:
            if session.sid != self.id.settled:
                raise SessionRotated(self.sid)
            self.session = session
            try:
                yield session if namespace is None else self[namespace]
            finally:
                self.session = self._attached = None  # looked up again when it is asked for
        self.id.note_life(session.uid)

    def glance(self) -> Session | None:
        """Return the session if it is loaded. A reading request loads it, if it exists."""
        if self.session is None and self.id.presented is not None and not (self._writes or self.closed):
            with self._loading:
                if self.id.settled is None:
                    self._settle()
                elif self.session is None and self.lives and not self.store.backend.live:
                    self.session = self.store.find(self.id.settled, lazy=True)
        return self.session

    def record(self, name: str) -> Record | None:
        """Return what is attached to the session, to look up a task by its name; None if there is no session.

        The first look at each task uses what the request has read before, if that is enough. A second look reads the
        store again.
        """
        if self._attached is None:
            self._attached = self._find_attached()
        if self._attached is not None and name not in self._looked_at:
            self._looked_at += (name,)
            return self._attached
        sid = self.id.candidate
        return self.store.attached(sid, self.known_uid) if sid is not None else None

    def look_again(self) -> None:
        """Read the store again at the next look at any task."""
        self._attached = None

    def _find_attached(self) -> Record | None:
        """Return what is attached to the session, without reading its state. Settles the id of a reading request."""
        own = self.id
        if self.session is None and own.settled is None and own.presented is not None:
            if self._writes or self.closed:
                return None
            with self._loading:
                found = self.store.attached(own.presented, renew=True) if own.settled is None else None
                if found is not None:
                    own.settle_as(found.uid)
                    return found
        session = self.session if own.settled is not None else self.glance()
        if session is None or session.origin is None or session.origin.may_have_attached:
            return None
        return Record(session.sid, session.uid, session.created, session.active)

    def begin(self) -> Session:
        """Return the session as ``load`` does. If it is not in the store yet, it begins there."""
        session = self.load()
        self.store.ensure(session)
        return session

    def begin_life(self) -> str:
        """Return the uid of the session, which begins if it does not exist. Does not wait for its write lock.

        Raises:
            SessionExpired: The session that was found has ended.
        """
        if self.session is not None:
            return self.begin().uid
        sid = self.announce()
        if not self.lives:
            session = self.store.begin(sid)
            self.store.ensure(session)
            self.id.note_life(session.uid)
        elif self.id.uid is None:
            self.id.uid = self.store.uid(sid)
        if self.id.uid is None:
            raise SessionExpired(sid)
        return self.id.uid

    # Saving

    def commit(self) -> None:
        """Save what changed, then do the jobs that waited for it. The write lock is kept."""
        self.save()
        self.do_jobs()

    def do_jobs(self) -> None:
        """Do the jobs that waited for the changes to be saved."""
        while self.jobs:
            self.jobs.pop(next(iter(self.jobs)))()

    def save(self) -> bool:
        """Save what changed.

        Returns:
            False if the session has ended, and its live objects were only read, so that nothing is lost.

        Raises:
            SessionConflict: Another request wrote the same namespace meanwhile.
            StateEncodeError: A value in the state cannot be stored outside this process.
            StateTooLarge: The state takes more than ``max_state_bytes``.
            SessionExpired: The session ended meanwhile.
            SessionRotated: Another request gave the session another id meanwhile.
        """
        if self.has_moved:
            raise SessionRotated(self.sid)
        session = self.session  # read once: an ``edit`` in another thread of the view may reset the attribute
        if session is None:
            return True
        lock = self.lock or self.store.locks.held(self.sid)
        try:
            # If a view has made this request, the lock may be that of the outer request.
            on_change = self._on_unlocked_change if lock is None else None
            self.store.write_back(session, lock, on_change=on_change)
        except SessionExpired:
            if self.store.backend.find(session.uid) not in (None, self.id.settled):
                raise SessionRotated(self.sid) from None
            if self._writes or not self.store.backend.live:
                raise
            return False
        return True

    # Its end

    def fail(self, error: Exception) -> None:
        """Note that the request has failed, so that its changes are not saved."""
        self.failed = True
        if isinstance(error, (SessionExpired, SessionRotated)) and error.sid == self.id.candidate:
            self.id.always_sent = False
            self.session = None
            self.id.leave()

    def forget(self) -> None:
        """Drop the loaded session, its changes and the waiting jobs."""
        self.id.lives, self.id.uid = self.lives, None
        self.session = self._attached = None
        self.jobs.clear()
        if self.lock is not None:
            self.lock.session = None

    def reset(self) -> None:
        """End this life of the session and begin the next.

        Raises:
            SessionBusy: The busy check reports that work is running for the session. Nothing was changed.
        """
        sid = self.sid
        try:
            self.store.reset(sid)
        except SessionBusy:
            raise
        except BaseException:  # the old life may have ended, without the next one having begun
            self.forget()
            self.id.note_end()
            raise
        self.forget()
        self.id.note_life(self.store.uid(sid))

    def destroy(self) -> None:
        """End the session. The next one gets a new id."""
        if self.id.candidate is not None:
            self.store.destroy(self.sid)
        self.forget()
        self.give_lock_back()
        self.id.leave()

    def rotate(self) -> str:
        """Give the session another id, and return it."""
        self.begin()
        sid = self.store.rotate(self.sid)
        self.id.rename(sid)
        if self.session is not None:
            self.session.sid = sid
        return sid

    def close(self) -> None:
        """Release the write lock for the rest of the request. Further calls have no effect."""
        self.closed = True
        if self.lock is not None:
            self.give_lock_back()

    def give_lock_back(self) -> None:
        """Release the write lock. Loading the session again takes it again."""
        lock, self.lock = self.lock, None
        if lock is not None:
            lock.give_back()

    def __del__(self) -> None:
        # Middleware between Silo and the server may drop a request before its response is closed.
        if self.lock is not None:
            self.give_lock_back()
