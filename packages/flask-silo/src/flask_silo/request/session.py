"""One request's view of its session."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from flask import g
from silo_store import (
    Lookup,
    RecordDamaged,
    Session,
    SessionBusy,
    SessionExpired,
    SessionRotated,
    SessionStore,
    SiloError,
    StoreUnavailable,
    WriteLock,
)

logger = logging.getLogger("flask_silo")

EXCHANGE = "flask_silo.exchange"
"""Where a request's WSGI environment has its way through `flask_silo.request.commit`."""

LATE = (
    "the response has started without a session: begin it in the view, as silo.sid and silo.state() do, and change it "
    "in what the response streams with silo.edit()"
)
LATE_CHANGE = "the response has started, so this change would not be saved with it: change state in silo.edit()"

_refused = False


class Visit(MutableMapping[str, Any]):
    """What one request sees and changes of its session; ``flask.g.silo``.

    The session is loaded when the view first asks for it. A request whose method writes takes the session's turn at
    that moment and keeps it until its changes are committed; a reading one never waits.

    The id of the session is settled when it first matters: it is the one that the client presented, if its session
    lives or has expired, or a new one.

    Args:
        store: where the session is.
        presented: the id that the client sent; None where it sent none.
        writes: whether the request's method writes.
        accepts: whether clients may choose their ids.
        noticed: called with the names of namespaces that are about to be saved without a turn.

    Attributes:
        store: where the session is.
        presented: the id that the client sent; None where it sent none.
        session: the session, once it is loaded.
        turn: the turn that this request has, if it has one.
        jobs: what to do once the changes are saved, by name; never done if they are not.
        failed: whether the view raised.
        closed: whether the response is on its way.
        saved: whether the changes were committed with the response.
        told: names of tasks of which the loaded session has told what it knows.
    """

    __slots__ = (
        "_accepts",
        "_announced",
        "_former",
        "_lives",
        "_loading",
        "_noticed",
        "_required",
        "_sid",
        "_uid",
        "_writes",
        "closed",
        "failed",
        "jobs",
        "lock",
        "presented",
        "saved",
        "session",
        "store",
        "told",
    )

    def __init__(
        self,
        store: SessionStore,
        presented: str | None,
        *,
        writes: bool,
        accepts: bool,
        noticed: Callable[[list[str]], object] | None = None,
    ) -> None:
        self.store = store
        self.presented = presented
        self.session: Session | None = None
        self.lock: WriteLock | None = None
        self.jobs: dict[str, Callable[[], None]] = {}
        self.failed = False
        self.closed = False
        self.saved = False
        self.told: tuple[str, ...] = ()
        self._writes = writes
        self._accepts = accepts
        self._noticed = noticed
        self._sid: str | None = None
        self._uid: str | None = None  # the life that was found under the settled id
        self._lives = False
        self._announced = False
        self._required = False
        self._former: tuple[str, ...] = ()
        self._loading = threading.RLock()  # for the threads that a view starts; a factory may ask for other state

    # The id

    @property
    def sid(self) -> str:
        """The id of the request's session. Reading it settles the id.

        Raises:
            SessionRotated: the client's session has another id by now.
            RuntimeError: the response has started without a session.
        """
        if self._sid is None:
            self._settle()
        assert self._sid is not None
        return self._sid

    @property
    def candidate(self) -> str | None:
        """The id under which a session would be found. Reading it settles nothing."""
        return self._sid or self.presented

    def announce(self) -> str:
        """Return the id to the view: its session begins with the response, so that it can be used."""
        sid = self.sid
        if self.closed and not (self.lives or self._accepts):
            raise RuntimeError(LATE)
        self._announced = True
        return sid

    def is_of(self, sid: str) -> bool:
        """Return whether an id is that of this request's session: the settled, the presented or a former one."""
        if self._sid is None and sid == self.presented:
            self._settle()
        return sid in (self._sid, self.presented, *self._former)

    @property
    def lives(self) -> bool:
        """Whether the session is known to be in the store."""
        return self._lives or (self.session is not None and bool(self.session.uid))

    @property
    def carried(self) -> str | None:
        """The id that the response carries; None if it carries none."""
        if self._accepts and self._sid is None:
            self._sid = self.presented or self.store.generate_sid()
        return self.candidate if (self._accepts or self.lives) and not self._has_moved() else None

    def _settle(self) -> None:
        with self._loading:
            if self._sid is not None:
                return
            if self.presented is not None:
                try:
                    self._take(self.store.lookup(self.presented, lazy=True))
                except RecordDamaged:  # it is still the client's session, to be reset or destroyed
                    self._sid, self._lives = self.presented, True
            elif self.closed:
                raise RuntimeError(LATE)
            else:
                self._sid = self.store.generate_sid()

    def _take(self, found: Lookup) -> None:
        """Settle the id, and take over the session that was found. A request that writes loads it in its turn."""
        self._settle_by(found)
        if not self._writes:
            self.session = found.session

    def _settle_by(self, found: Lookup) -> None:
        """Settle the id by what the store knows of the presented one."""
        presented = self.presented
        assert presented is not None
        if found.session is not None:
            self._sid, self._uid, self._lives = presented, found.session.uid, True
        elif found.status == "rotated":
            raise SessionRotated(presented)
        elif self.closed:
            raise RuntimeError(LATE)
        else:
            self._lives = False
            if found.status == "unknown" and not self._accepts:
                _log_refusal()
            adopted = found.status == "expired" or self._accepts
            self._sid = presented if adopted else self.store.generate_sid()

    def require(self) -> None:
        """Refuse the request unless the client's session lives, as a view that needs its data cannot use an empty one.

        Raises:
            SessionExpired: the presented id has no session. Where clients may choose ids, an unknown id counts as that
                of a new client.
            SessionRotated: the session has another id by now.
        """
        if self.presented is None or self.lives or (self.session is not None and self._sid == self.presented):
            return
        found = self.store.lookup(self.presented, lazy=True)
        if found.session is None and found.status != "rotated" and not (self._accepts and found.status == "unknown"):
            if found.status == "unknown":
                _log_refusal()
            raise SessionExpired(self.presented)
        self._take(found)
        self._required = self.lives

    # The session

    @property
    def uid(self) -> str | None:
        """The life of the session that was loaded; None where none was, or it is not in the store yet."""
        return (self.session.uid or None) if self.session is not None else None

    @property
    def known_uid(self) -> str | None:
        """The life that was found or loaded under the settled id; None where none was."""
        return self.uid or self._uid

    def find_uid(self) -> str | None:
        """Return the uid of the session, or None. Begins no session."""
        self.glance()
        if self.uid is not None or (self._sid is not None and not self.lives):
            return self.uid
        return self.store.uid(self.candidate) if self.candidate is not None else None

    @property
    def writing(self) -> bool:
        """Whether this is a request that writes, and its changes are still to be saved."""
        return self._writes and not self.closed

    def load(self) -> Session:
        """Return the session, in turn. Until it is whole, it yields only namespaces that were asked for by name.

        Raises:
            LockTimeout: the writer before this one did not finish in time.
            SessionRotated: the client's session has another id by now.
            RuntimeError: the response has started, and there is no session.
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
            return self._load_in_turn()
        if self._sid is None:
            self._settle()
            if self.session is not None:
                return self.session
        return self._load_again() if self.lives else self.store.begin(self.sid)

    def _load_in_turn(self) -> Session:
        store, sid = self.store, self.candidate or self.sid
        lock = self.lock or store.locks.held(sid)  # the view may be in `store.edit`
        if lock is None:
            lock = self.lock = WriteLock(store.locks, sid)
            lock.take(store.lock_timeout)
        session = lock.session
        if session is None and self._sid is None:
            found = store.lookup(sid, lock=lock, lazy=True)
            self._settle_by(found)
            session = found.session if found.session is not None or self._sid != sid else store.begin(sid)
            if session is None:  # the request writes another session
                self.give_turn_back()
                return self._load_in_turn()
        elif session is None:
            session = self._load_again(lock) if self.lives else store.open(sid, lock=lock, lazy=True)
        lock.session = session
        self._sid = sid
        return session

    def _load_again(self, lock: WriteLock | None = None) -> Session:
        """Load a session that was found before. One that has expired since begins again, unless the view requires it.

        Raises:
            SessionRotated: another request has given the session another id.
            SessionExpired: the session has ended, and does not begin again under its id.
        """
        sid, uid = self.sid, self._uid
        found = self.store.lookup(sid, lock=lock, lazy=True)
        if found.session is not None:
            return found.session
        if found.status == "rotated" or (uid is not None and self.store.backend.find(uid) not in (None, sid)):
            raise SessionRotated(sid)
        if self._required or not (found.status == "expired" or self._accepts):
            raise SessionExpired(sid)
        return self.store.begin(sid)

    def whole(self) -> Session:
        """Return the session as `load` does, with all of its namespaces."""
        return self.store.whole(self.load())

    def glance(self) -> Session | None:
        """Return the session if there is one: what a reading request loads, without beginning one."""
        if self.session is None and self.presented is not None and not (self._writes or self.closed):
            with self._loading:
                if self._sid is None:
                    self._settle()
                elif self.session is None and self.lives and not self.store.backend.live:
                    self.session = self.store.find(self._sid, lazy=True)
        return self.session

    def begun(self) -> Session:
        """Return the session as `load` does, and see to it that it is in the store already."""
        session = self.load()
        self.store.ensure(session)
        return session

    def begin_life(self) -> str:
        """Return the uid of the session, which is begun if there is none, without waiting for its turn.

        Raises:
            SessionExpired: the session that was found has ended.
        """
        if self.session is not None:
            return self.begun().uid
        sid = self.announce()
        if not self.lives:
            session = self.store.begin(sid)
            self.store.ensure(session)
            self.note_life(session.uid)
        elif self._uid is None:
            self._uid = self.store.uid(sid)
        if self._uid is None:
            raise SessionExpired(sid)
        return self._uid

    def go_on_with(self, session: Session) -> None:
        """Use a session that other code has loaded.

        Raises:
            SessionRotated: the session has another id by now.
        """
        if session.sid != self._sid:
            raise SessionRotated(self.sid)
        self.session = session

    def note_life(self, uid: str) -> None:
        """Note that code other than `begun` has begun the session."""
        self._uid, self._lives = uid, True

    # Its end

    def commit(self, *, last: bool = False) -> None:
        """Save what changed, then do the jobs that waited for it. With ``last``, nothing will be saved after it."""
        if last and self._announced and not self.lives:
            self.load()
        self.save(last=last)
        if last and self.lock is not None:
            self.give_turn_back()  # a job that is done at once may want it
        self.renew()
        while self.jobs:
            self.jobs.pop(next(iter(self.jobs)))()

    def renew(self) -> None:
        """Renew the session of the presented id, unless that was looked up before.

        A view that has failed may have told its client an id, in the answer to its error: that session begins too.
        """
        if self.failed and self._announced and not self.lives:
            with suppress(SiloError):
                self.begin_life()
        if self.session is None and self._sid is None and self.presented is not None:
            with suppress(StoreUnavailable, RecordDamaged):  # the answer needs no state
                self._lives = self.store.find(self.presented, lazy=True) is not None

    def save(self, *, last: bool = False) -> None:
        """Save what changed.

        Raises:
            SessionConflict: another request wrote the same namespace meanwhile.
            StateEncodeError: a value in the state cannot be stored outside this process.
            StateTooLarge: the state takes more than ``max_state_bytes``.
            SessionExpired: the session ended meanwhile.
            SessionRotated: another request gave the session another id meanwhile.
        """
        if self._has_moved():
            raise SessionRotated(self.sid)
        session = self.session  # another thread of a reading view may end its `edit` meanwhile
        if session is None:
            return
        lock = self.lock or self.store.locks.held(self.sid)
        try:
            # A turn that is another's, as where a view calls this one, goes on.
            noticed = self._noticed if lock is None else None
            self.store.write_back(session, lock, last=last and lock is self.lock, noticed=noticed)
        except SessionExpired:
            if self.store.backend.find(session.uid) not in (None, self._sid):
                raise SessionRotated(self.sid) from None
            if self._writes or not self.store.backend.live:
                raise
            # The session ended while its live objects were only read: nothing is lost.
            if last:
                self._have_none()

    def _has_moved(self) -> bool:
        """Say whether another request of this process has rotated the session."""
        if not self.store.rotations:
            return False
        uid = self.known_uid
        return uid is not None and self._sid is not None and self.store.has_moved(self._sid, uid)

    def fail(self, error: Exception) -> None:
        """Note that the request has failed: nothing of it is saved."""
        self.failed = True
        if isinstance(error, (SessionExpired, SessionRotated)) and error.sid == self.candidate:
            self._accepts = False  # the response must not carry an id without a session
            self._have_none()
            self.presented = self._sid = None

    def forget(self) -> None:
        """Drop what was loaded, changes and waiting jobs included."""
        self._lives = self.lives
        self.session = self._uid = None
        self.jobs.clear()
        if self.lock is not None:
            self.lock.session = None

    def reset(self) -> None:
        """End this life of the session and begin the next.

        Raises:
            SessionBusy: the session's work is running. Nothing was changed.
        """
        sid = self.sid
        try:
            self.store.reset(sid)
        except SessionBusy:
            raise
        except BaseException:  # the old life may be over, and the next not begun
            self.forget()
            self._have_none()
            raise
        self.forget()
        self._uid = self.store.uid(sid)
        self._lives = self._uid is not None

    def leave(self) -> None:
        """Leave the session: the next one gets a new id."""
        self.forget()
        self.give_turn_back()
        self._have_none()
        self.presented = self._sid = None

    def _have_none(self) -> None:
        self.session = self._uid = None
        self._lives = self._announced = False

    def rename(self, sid: str) -> None:
        """Go on under another id."""
        if self._sid is not None:
            self._former = (*self._former, self._sid)
        self._sid = sid
        if self.session is not None:
            self.session.sid = sid

    def close(self) -> None:
        """Let the next writer go on, for good. Harmless when done already."""
        self.closed = True
        if self.lock is not None:
            self.give_turn_back()

    def give_turn_back(self) -> None:
        """Let the next writer go on; the turn is taken again when the session is loaded again."""
        lock, self.lock = self.lock, None
        if lock is not None:
            lock.give_back()

    def __del__(self) -> None:
        # Whatever stands between us and the server may drop a request half-way.
        if self.lock is not None:
            self.give_turn_back()

    def __getitem__(self, namespace: str) -> Any:
        return self.load()[namespace]

    # Not the mixin's methods: they take a factory's KeyError for a missing namespace.
    def __contains__(self, namespace: object) -> bool:
        return namespace in self.load()

    def get(self, namespace: str, default: Any = None) -> Any:
        """Return what ``[]`` finds, or the default."""
        return self.load().get(namespace, default)

    def __setitem__(self, namespace: str, state: Any) -> None:
        self.refuse_late_change()
        self.load()[namespace] = state

    def refuse_late_change(self) -> None:
        """Refuse a change that would not be saved.

        Raises:
            RuntimeError: the response has started.
        """
        if self.closed:
            raise RuntimeError(LATE_CHANGE)

    def __delitem__(self, namespace: str) -> None:
        raise TypeError("a namespace cannot be deleted: give it fresh state, or reset the session")

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole())

    def __len__(self) -> int:
        return len(self.whole())


def _log_refusal() -> None:
    """Log once in each process why a client does not get the session id that it sent."""
    global _refused
    if not _refused:
        _refused = True
        logger.warning(
            "a client sent a session id that this application has not issued, or has forgotten: it was not adopted. "
            "To let clients choose their ids, set accept_client_ids=True (SILO_ACCEPT_CLIENT_IDS)"
        )


visiting: ContextVar[Visit | None] = ContextVar("silo_visit", default=None)
"""The visit of the request that the running code answers."""


def current_visit() -> Visit | None:
    """Return the visit of the request being handled, None where it has none or there is no request."""
    visit = visiting.get()
    if visit is None or visit.closed:
        # In what a response streams, and in a context that is kept or was pushed by hand, Flask's context knows.
        visit = g.get("silo") if g else None
    return visit
