"""One request's view of its session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from flask import g
from silo_store import Session, SessionExpired, SessionStore, StoreUnavailable, Turn

EXCHANGE = "flask_silo.exchange"
"""Where a request's WSGI environment has its way through `flask_silo.wsgi`."""


class Visit(MutableMapping[str, Any]):
    """What one request sees and changes of its session; ``flask.g.silo``.

    The session is loaded when the view first asks for it. A request whose method writes takes the session's turn at
    that moment and keeps it until its changes are committed; a reading one never waits.

    Attributes:
        store: where the session is.
        sid: the id that goes back to the client.
        presented: whether the client sent it.
        session: the session, once it is loaded.
        turn: the turn that this request has, if it has one.
        jobs: what to do once the changes are saved, by name; never done if they are not.
        failed: whether the view raised.
        closed: whether the response is on its way.
        told: names of tasks of which the loaded session has told what it knows.
    """

    __slots__ = (
        "_loading",
        "_writes",
        "closed",
        "failed",
        "jobs",
        "presented",
        "session",
        "sid",
        "store",
        "told",
        "turn",
    )

    def __init__(self, store: SessionStore, sid: str, presented: bool, writes: bool) -> None:
        self.store = store
        self.sid = sid
        self.presented = presented
        self.session: Session | None = None
        self.turn: Turn | None = None
        self.jobs: dict[str, Callable[[], None]] = {}
        self.failed = False
        self.closed = False
        self.told: tuple[str, ...] = ()
        self._writes = writes
        self._loading = threading.RLock()  # for the threads that a view starts; a factory may ask for other state

    @property
    def uid(self) -> str | None:
        """The life of the session that was loaded; None where none was, or it is not in the store yet."""
        return (self.session.uid or None) if self.session is not None else None

    @property
    def writing(self) -> bool:
        """Whether this is a request that writes, and its changes are still to be saved."""
        return self._writes and not self.closed

    def load(self) -> Session:
        """Return the session, in turn. It yields only namespaces that were asked for by name, until it is whole.

        Raises:
            TurnTimeout: the writer before this one did not finish in time.
        """
        session = self.session
        if session is None:
            with self._loading:
                session = self.session
                if session is None:
                    session = self._load()
        return session

    def _load(self) -> Session:
        store, turn = self.store, self.turn
        if turn is None and self._writes and not self.closed:
            turn = store.turns.held(self.sid)  # the view may be in `store.edit`
            if turn is None:
                turn = self.turn = Turn(store.turns, self.sid)
                turn.take(store.turn_timeout)
        if turn is not None and turn.session is not None:
            session = turn.session
        else:
            session = store.get(self.sid) if store.backend.live else store.open(self.sid, turn=turn, lazy=True)
            if turn is not None:
                turn.session = session
        self.session = session
        return session

    def whole(self) -> Session:
        """Return the session as `load` does, with all of its namespaces."""
        return self.store.whole(self.load())

    def glance(self) -> Session | None:
        """Return the session if there is one: what a reading request loads, without beginning one."""
        if self.session is None and not self._writes and not self.closed and not self.store.backend.live:
            with self._loading:
                if self.session is None:
                    self.session = self.store.find(self.sid, lazy=True)
        return self.session

    def begun(self) -> Session:
        """Return the session as `load` does, and see to it that it is in the store already."""
        session = self.load()
        self.store.ensure(session)
        return session

    def commit(self, *, last: bool = False) -> None:
        """Save what changed, then do the jobs that waited for it. With ``last``, nothing will be saved after it."""
        self.save(last=last)
        if last and self.turn is not None:
            self.give_turn_back()  # a job that is done at once may want it
        if self.session is None and self.presented:
            with suppress(StoreUnavailable):  # the answer needs no state
                self.store.touch(self.sid)
        while self.jobs:
            self.jobs.pop(next(iter(self.jobs)))()

    def save(self, *, last: bool = False) -> None:
        """Save what changed.

        Raises:
            SessionConflict: somebody else wrote the same namespace meanwhile.
            StateEncodeError: a value in the state cannot be stored outside this process.
            StateTooLarge: the state takes more than ``max_state_bytes``.
            SessionExpired: the session ended meanwhile.
        """
        session = self.session  # another thread of a reading view may be done with its `edit` meanwhile
        if session is None:
            return
        turn = self.turn or self.store.turns.held(self.sid)
        try:
            # A turn that is another's, as where a view calls this one, goes on.
            self.store.write_back(session, turn, last=last and turn is self.turn)
        except SessionExpired:
            if self._writes or not self.store.backend.live:
                raise
            # Somebody who read live objects while their session ended has lost nothing.

    def forget(self) -> None:
        """Drop what was loaded, changes and waiting jobs included."""
        self.session = None
        self.jobs.clear()
        if self.turn is not None:
            self.turn.session = None

    def rename(self, sid: str) -> None:
        """Go on under another id."""
        self.sid = sid
        if g:
            g.silo_sid = sid

    def close(self) -> None:
        """Let the next writer go on, for good. Harmless when done already."""
        self.closed = True
        if self.turn is not None:
            self.give_turn_back()

    def give_turn_back(self) -> None:
        """Let the next writer go on; the turn is taken again when the session is loaded again."""
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.give_back()

    def __del__(self) -> None:
        # Whatever stands between us and the server may drop a request half-way.
        if self.turn is not None:
            self.give_turn_back()

    def __getitem__(self, namespace: str) -> Any:
        return self.load()[namespace]

    # Not the mixin's: to those, a KeyError of a factory says that there is no such namespace.
    def __contains__(self, namespace: object) -> bool:
        return namespace in self.load()

    def get(self, namespace: str, default: Any = None) -> Any:
        """Return what ``[]`` finds, or the default."""
        return self.load().get(namespace, default)

    def __setitem__(self, namespace: str, state: Any) -> None:
        self.load()[namespace] = state

    def __delitem__(self, namespace: str) -> None:
        raise TypeError("a namespace cannot be deleted: give it fresh state, or reset the session")

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole())

    def __len__(self) -> int:
        return len(self.whole())


visiting: ContextVar[Visit | None] = ContextVar("silo_visit", default=None)
"""The visit of the request that the running code answers."""


def current_visit() -> Visit | None:
    """Return the visit of the request being handled, None where it has none or there is no request."""
    visit = visiting.get()
    if visit is None or visit.closed:
        # In what a response streams, and in a context that is kept or was pushed by hand, Flask's context knows.
        visit = g.get("silo") if g else None
    return visit
