"""One request's view of its session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from flask import g
from silo_store import NamespaceError, Session, SessionStore, Turn


class Visit(Mapping[str, Any]):
    """What one request sees and changes of its session; ``flask.g.silo``.

    The session is loaded when the view first asks for it. A request whose method writes takes the session's turn at
    that moment and keeps it until its changes are committed; a reading one never waits.

    Attributes:
        sid: the id that goes back to the client.
        presented: whether the client sent it.
        jobs: what to do once the changes are saved, by name; never done if they are not.
    """

    __slots__ = ("_writes", "closed", "jobs", "presented", "session", "sid", "store", "turn")

    def __init__(self, store: SessionStore, sid: str, presented: bool, writes: bool) -> None:
        self.store = store
        self.sid = sid
        self.presented = presented
        self.session: Session | None = None
        self.turn: Turn | None = None
        self.jobs: dict[str, Callable[[], None]] = {}
        self.closed = False
        self._writes = writes

    @property
    def in_turn(self) -> bool:
        """Whether the request writes, so that nobody else does until it is done."""
        return self._writes

    def load(self) -> Session:
        """Return the session, in turn.

        Raises:
            TurnTimeout: the writer before this one did not finish in time.
        """
        session = self.session
        if session is not None:
            return session
        store = self.store
        turn = self.turn
        if turn is None and self._writes and not self.closed:
            turn = Turn(store.turns, self.sid)
            turn.take(store.turn_timeout)
            self.turn = turn
        session = self.session = store.get(self.sid) if store.backend.live else store.open(self.sid)
        if turn is not None:
            turn.session = session
        return session

    def begun(self) -> Session:
        """Return the session as `load` does, and see to it that it exists in the store already."""
        session = self.load()
        if not session.uid:
            self.store.save(self.sid, session)
        return session

    def commit(self) -> None:
        """Save what changed, then run the jobs that waited for it."""
        if self.session is not None:
            self.store.save(self.sid, self.session)
        elif self.presented:
            self.store.touch(self.sid)
        while self.jobs:
            self.jobs.pop(next(iter(self.jobs)))()

    def forget(self) -> None:
        """Drop what was loaded, changes and waiting jobs included."""
        self.session = None
        self.jobs.clear()
        if self.turn is not None:
            self.turn.session = None

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

    def __getitem__(self, namespace: str) -> Any:
        try:
            return self.load()[namespace]
        except KeyError:
            raise NamespaceError(namespace) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.load())

    def __len__(self) -> int:
        return len(self.load())


class Exchange(Protocol):
    """A request on its way through WSGI, see `flask_silo.wsgi`."""

    environ: dict[str, Any]
    visit: Visit | None


exchanging: ContextVar[Exchange | None] = ContextVar("silo_exchange", default=None)
"""The request that the running code answers."""


def current_visit() -> Visit | None:
    """Return the visit of the request being handled, None where it has none or there is no request."""
    exchange = exchanging.get()
    if exchange is not None:
        return exchange.visit
    return g.get("silo") if g else None  # a request's context that is kept, or was pushed by hand
