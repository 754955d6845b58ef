"""The session that the running code works for: a request's, or a task's."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from flask import request
from silo_store import Record, SessionStore

if TYPE_CHECKING:
    from .request.session import RequestSession
    from .tasks.session import RunSession

S = TypeVar("S")

SCOPE = "flask_silo.scope"
"""The key under which a request's WSGI environment has its `Scope`."""


class Scope(Generic[S]):
    """A request or a run in progress.

    Attributes:
        session: Its session; None where it has none. A request gets it in the hook before the view.
    """

    __slots__ = ("session",)

    def __init__(self, session: S | None = None) -> None:
        self.session = session


class CurrentSession(Protocol):
    """What requests and tasks have in common: `RequestSession` and `RunSession` have these members."""

    @property
    def store(self) -> SessionStore:
        """The store of the session."""

    @property
    def sid(self) -> str:
        """The id of the session."""

    @property
    def uid(self) -> str | None:
        """The uid of the session; None where the session has not begun."""

    @property
    def known_uid(self) -> str | None:
        """The uid of the session as far as it was seen. Reading it asks no store."""

    def announce(self) -> str:
        """Return the id to the application. The session begins, so that the id can be used."""

    def is_of(self, sid: str) -> bool:
        """Return whether the session has this id, or had it before it was rotated."""

    def state(self, namespace: str | None) -> Any:
        """Return the state, or one namespace of it."""

    def edit(self, namespace: str | None, *, lazy: bool) -> AbstractContextManager[Any]:
        """Change the state, or one namespace of it, with the write lock of the session."""

    def begin_life(self) -> str:
        """Begin the session if there is none. Return its uid."""

    def record(self, name: str) -> Record | None:
        """Return the stored record of the session, for a look at its task of that name; None where there is none."""


run_scope: ContextVar[Scope[RunSession] | None] = ContextVar("silo_run", default=None)
"""The run that the running code belongs to. A request within a run hides it."""


def current_request() -> RequestSession | None:
    """Return the session of the request that is being answered; None in a run, and where there is no request."""
    if run_scope.get() is not None:
        return None
    try:
        scope: Scope[RequestSession] | None = request.environ.get(SCOPE)
    except RuntimeError:  # no request
        return None
    return scope.session if scope is not None else None


def current_session() -> CurrentSession | None:
    """Return the session of the run or request that the running code belongs to; None where it has none."""
    run = run_scope.get()
    return current_request() if run is None else run.session
