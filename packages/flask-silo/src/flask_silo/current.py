"""The session of the running code: that of a request, or that of a task."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from flask import Request, request
from silo_store import Record, Registry, SessionStore

if TYPE_CHECKING:
    from .request.session import RequestSession

S = TypeVar("S")

IN_A_THREAD = "a thread that a view or a task starts has it with contextvars.copy_context().run"

NO_SESSION = (
    "there is no session here: only tasks and requests below api_prefix (by default /api/) have one (was init_app() "
    "called?); "
    f"{IN_A_THREAD}, as in pool.submit(copy_context().run, function); a task in another process has one only if "
    "processes share sessions (set SILO_STORE_URL)"
)

NO_REQUEST = "this works in a request only, not in a task"

SCOPE = "flask_silo.scope"
"""The key of a request's ``Scope`` in its WSGI environment."""


class Scope(Generic[S]):
    """A request or a run in progress.

    Attributes:
        session: Its session; None if it has none. A request gets it before its hooks.
    """

    __slots__ = ("session",)

    def __init__(self, session: S | None = None) -> None:
        self.session: S | None = session


class RunScope(Scope["CurrentSession"]):
    """A run in progress."""

    __slots__ = ()


class CurrentSession(Protocol):
    """The members that ``RequestSession`` and ``RunSession`` have in common."""

    @property
    def store(self) -> SessionStore:
        """The store of the session."""

    @property
    def sid(self) -> str:
        """The id of the session."""

    @property
    def uid(self) -> str | None:
        """The uid of the session; None if the session has not begun."""

    @property
    def known_uid(self) -> str | None:
        """The uid of the session if it was read before, otherwise None. Reading it does not ask the store."""

    def announce(self) -> str:
        """Return the id for the application to use. In a request, the session begins with the response."""

    def is_of(self, sid: str) -> bool:
        """Return whether the session has this id, or had it before it was rotated."""

    def state(self, namespace: str | None) -> Any:
        """Return the state, or one namespace of it."""

    def edit(self, namespace: str | None, *, lazy: bool) -> AbstractContextManager[Any]:
        """Change the state, or one namespace of it, with the write lock of the session."""

    def begin_life(self) -> str:
        """Return the uid of the session, which begins if it does not exist."""

    def record(self, name: str) -> Record | None:
        """Return the stored record of the session, to look up a task by its name; None if there is no session."""


innermost_scope: ContextVar[Scope[Any] | None] = ContextVar("silo_scope", default=None)
"""The innermost request or run that the running code belongs to. It hides those around it. Code that a response
streams from runs later, and finds its request by the WSGI environment only."""


flask_request: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]
"""Returns the request itself: one attribute through Flask's proxy takes longer than all of ``find_scope``."""


def find_scope() -> Scope[Any] | None:
    """Return the scope of the running code, whether it is a request or a run; None if there is none."""
    innermost = innermost_scope.get()
    if isinstance(innermost, RunScope):
        return innermost
    try:
        scope: Scope[Any] | None = flask_request().environ.get(SCOPE)
    except RuntimeError:  # no request
        return innermost
    return scope or innermost  # the code may have pushed another context of Flask, as ``test_request_context()`` does


def current_request() -> RequestSession | None:
    """Return the session of the request that is being answered; None in a run, and if there is no request."""
    scope = find_scope()
    return None if scope is None or isinstance(scope, RunScope) else scope.session


def current_session() -> CurrentSession | None:
    """Return the session of the run or request that the running code belongs to; None if there is none."""
    scope = find_scope()
    return scope.session if scope is not None else None


class Current:
    """Finds the session of the running code for one ``Silo``. A session of another ``Silo`` does not count.

    Args:
        registry: The registry of the stores of that ``Silo``.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def find(self) -> CurrentSession | None:
        """Return the session of the running request or task; None if it has none."""
        session = current_session()
        return session if session is not None and session.store.registry is self._registry else None

    def find_request(self) -> RequestSession | None:
        """Return the session of the running request; None in a task, or if the request has none."""
        session = current_request()
        return session if session is not None and session.store.registry is self._registry else None

    @property
    def session(self) -> CurrentSession:
        """The session of the running request or task.

        Raises:
            RuntimeError: The running code has no session.
        """
        scope = find_scope()  # as in ``current_session``, whose call would be a tenth of the time
        session: CurrentSession | None = scope.session if scope is not None else None
        if session is None or session.store.registry is not self._registry:
            raise RuntimeError(NO_SESSION)
        return session

    @property
    def request(self) -> RequestSession:
        """The session of the running request.

        Raises:
            RuntimeError: The running code has no session, or is a task.
        """
        session = self.find_request()
        if session is None:
            raise RuntimeError(NO_REQUEST if self.find() is not None else NO_SESSION)
        return session
