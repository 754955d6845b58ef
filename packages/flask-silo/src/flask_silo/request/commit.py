"""Where a response leaves the application: its session is committed, or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flask import Flask, Response

from .session import EXCHANGE, Visit, visiting

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .identity import Wire


class Commit:
    """WSGI middleware around an application's ``wsgi_app``.

    A request that has a session is committed when its response starts, unless that is a 5xx, and its headers are
    added then. Whatever happens, its turn is given back.
    """

    def __init__(self, app: Flask, inner: WSGIApplication, wire: Wire) -> None:
        self._app = app
        self._inner = inner
        self.wire = wire

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = environ[EXCHANGE] = _Exchange(self, environ, start_response)
        outer = visiting.get()
        if outer is not None:  # a request within a request
            visiting.set(None)
        try:
            body = self._inner(environ, exchange)
            return body if exchange.begun else exchange.later(body)
        except _Replaced as replaced:
            return replaced.response(environ, start_response)
        finally:
            if exchange.visit is not None:
                exchange.visit.close()
                visiting.set(outer)
            elif outer is not None:
                visiting.set(outer)

    def answer(self, error: Exception) -> Response:
        """Make the response to a failed commit. The request's context is still there, so its hooks see it too."""
        app = self._app
        try:
            return app.process_response(app.make_response(app.handle_user_exception(error)))
        except Exception as unhandled:  # noqa: BLE001 - as Flask does with what no handler takes
            return app.handle_exception(unhandled)


class _Exchange:
    """One request: knows its visit, and stands in for the server's ``start_response``.

    Attributes:
        visit: the request's session, once the hook before the view has found that it has one.
        begun: whether the response has started.
    """

    __slots__ = ("_commit", "_environ", "_start_response", "begun", "visit")

    def __init__(self, commit: Commit, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self.visit: Visit | None = None
        self.begun = False
        self._commit = commit
        self._environ = environ
        self._start_response = start_response

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], Any]:
        visit = self.visit
        self.begun = True
        if visit is not None:
            if not (visit.closed or status[0] == "5"):
                if visit.failed:
                    visit.renew()
                else:
                    self._save(visit)
            visit.close()
            self._commit.wire.mark(self._environ, headers, visit.carried)
        return self._start_response(status, headers, exc_info) if exc_info else self._start_response(status, headers)

    def later(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """Give the body of a middleware that calls the application only when it is asked for it."""
        try:
            yield from body
        except _Replaced as replaced:
            yield from replaced.response(self._environ, self._start_response)
        finally:
            if self.visit is not None:
                self.visit.close()
            close = getattr(body, "close", None)
            if close is not None:
                close()

    def _save(self, visit: Visit) -> None:
        try:
            visit.commit(last=True)
            visit.saved = True
        except Exception as error:  # noqa: BLE001 - the application's error handlers decide
            visit.fail(error)
            visit.close()
            response = self._commit.answer(error)
            headers = list(response.headers)
            self._commit.wire.mark(self._environ, headers, visit.carried)
            response.headers.clear()
            response.headers.extend(headers)
            raise _Replaced(response) from None


class _Replaced(BaseException):
    """Carries the response that takes the place of one whose commit failed."""

    def __init__(self, response: Response) -> None:
        self.response = response
