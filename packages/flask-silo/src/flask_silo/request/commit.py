"""WSGI middleware that commits the session of a request when its response starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Response
from silo_store import RecordDamaged, SiloError, StoreUnavailable

from ..current import SCOPE, Scope, innermost_scope
from .session import RequestSession

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .identity import SessionHeader


class Commit:
    """WSGI middleware around an application's ``wsgi_app``.

    The session of a request is committed, unless the response is a 5xx, and the response gets its headers. The write
    lock is released in any case.
    """

    def __init__(self, app: Flask, inner: WSGIApplication, header: SessionHeader) -> None:
        self._app = app
        self._inner = inner
        self.header = header

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if SCOPE in environ:  # a view has passed on the environment of its own request
            environ = dict(environ)
        response = environ[SCOPE] = _Response(self)
        outer = innermost_scope.set(response)
        try:
            body = self._inner(environ, partial(response.start, environ, start_response))
            return body if response.begun else response.later(body, environ, start_response)
        except _Replaced as replaced:
            return replaced.response(environ, start_response)
        finally:
            session = response.session
            if session is not None and not session.closed:
                session.close()
            innermost_scope.reset(outer)

    def answer(self, error: Exception) -> Response:
        """Make the response to a failed commit. The request's context is still active, so its hooks are called."""
        app = self._app
        try:
            return app.process_response(app.make_response(app.handle_user_exception(error)))
        except Exception as unhandled:  # noqa: BLE001 - as Flask answers an error that no handler takes
            return app.handle_exception(unhandled)


class _Response(Scope[RequestSession]):
    """The response to one request.

    It has no reference to the request's environment, which holds this object: only the garbage collector would free
    such a cycle, and with it all that the server has put into the environment.

    Attributes:
        begun: Whether the response has started.
    """

    __slots__ = ("_commit", "begun")

    def __init__(self, commit: Commit) -> None:
        self.session = None
        self.begun = False
        self._commit = commit

    def start(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: Any = None,
        /,
    ) -> Callable[[bytes], Any]:
        """Commit the session and call ``start_response``, for which this method stands in."""
        session = self.session
        self.begun = True
        if session is not None:
            if not (session.closed or status[0] == "5"):
                if session.failed:
                    _renew(session)
                else:
                    try:
                        _finish(session)
                    except Exception as error:  # noqa: BLE001 - the application's error handlers decide
                        raise self._failed(session, error, environ) from None
            session.close()
            self._commit.header.mark(environ, headers, _carried_sid(session))
        return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

    def later(self, body: Iterable[bytes], environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        """Yield the body of a middleware that calls the application only when the body is read."""
        try:
            yield from body
        except _Replaced as replaced:
            yield from replaced.response(environ, start_response)
        finally:
            if self.session is not None:
                self.session.close()
            close = getattr(body, "close", None)
            if close is not None:
                close()

    def _failed(self, session: RequestSession, error: Exception, environ: WSGIEnvironment) -> _Replaced:
        """Return the response to a request whose session could not be saved."""
        session.fail(error)
        session.close()
        response = self._commit.answer(error)
        headers = list(response.headers)
        self._commit.header.mark(environ, headers, _carried_sid(session))
        response.headers.clear()
        response.headers.extend(headers)
        return _Replaced(response)


def _finish(session: RequestSession) -> None:
    """Save what the request has changed, for the last time, and do the jobs that waited for it."""
    own = session.id
    if own.settled is None:  # the request has not used its session
        _renew(session)
    else:
        if own.announced and not session.lives:
            session.load()
        if session.lock is not None:
            session.lock.last_write = True
        if not session.save():
            session.session = None
            own.note_end()
        session.give_lock_back()  # a job may run at once, and need the lock
    if session.jobs:
        session.do_jobs()
    session.saved = True


def _renew(session: RequestSession) -> None:
    """Renew the session of the presented id, unless it was looked up before.

    If a view that has failed has read the id, its error response may hold it, so that session begins too.
    """
    own = session.id
    if session.failed and own.announced and not session.lives:
        with suppress(SiloError):
            session.begin_life()
    if own.presented is not None and own.settled is None and session.session is None:
        try:
            own.lives = session.store.find_head(own.presented) is not None
        except (StoreUnavailable, RecordDamaged):  # the answer needs no state
            own.lives = False


def _carried_sid(session: RequestSession) -> str | None:
    """Return the id that the response carries; None if it carries none."""
    own = session.id
    if own.always_sent:
        own.settled = own.candidate or session.store.generate_sid()
    elif not session.lives:
        return None
    return None if session.has_moved else own.candidate


class _Replaced(BaseException):
    """Carries the response that replaces one whose commit failed."""

    def __init__(self, response: Response) -> None:
        self.response = response
