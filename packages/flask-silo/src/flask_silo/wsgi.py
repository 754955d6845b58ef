"""Where a response leaves the application: its session is committed, or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, Response

from .visit import Visit, visiting

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .http import Wire


class Commit:
    """WSGI middleware around an application's ``wsgi_app``.

    A request that has a session is committed when its response starts, unless that is a 5xx, and its headers are
    added then. Whatever happens, its turn is given back.
    """

    def __init__(self, app: Flask, inner: WSGIApplication, prefix: str | tuple[str, ...], wire: Wire) -> None:
        self._app = app
        self._inner = inner
        self._prefix = prefix
        self._wire = wire

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        outer = visiting.get()
        if outer is None:
            if not environ["PATH_INFO"].startswith(self._prefix):
                return self._inner(environ, start_response)
        else:
            visiting.set(None)
        try:
            return self._inner(environ, self._committing(environ, start_response))
        except _Replaced as replaced:
            return replaced.response(environ, start_response)
        finally:
            visit = visiting.get()
            visiting.set(outer)
            if visit is not None:
                visit.close()

    def _committing(self, environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            visit = visiting.get()
            sid = None
            if visit is not None:
                if not visit.closed and status[0] != "5":
                    try:
                        visit.commit()
                    except Exception as error:  # noqa: BLE001 - the application's error handlers decide
                        raise _Replaced(self._answer(environ, visit, error)) from None
                visit.close()
                sid = visit.sid
            self._wire.mark(environ, headers, sid)
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        return start

    def _answer(self, environ: WSGIEnvironment, visit: Visit, error: Exception) -> Response:
        """Make the response to a failed commit. The request's context is still there, so the hooks see it."""
        visit.close()
        app = self._app
        try:
            response = app.process_response(app.make_response(app.handle_user_exception(error)))
        except Exception as unhandled:  # noqa: BLE001 - as Flask does with what no handler takes
            response = app.handle_exception(unhandled)
        headers = list(response.headers)
        self._wire.mark(environ, headers, visit.sid)
        response.headers.clear()
        response.headers.extend(headers)
        return response


class _Replaced(BaseException):
    """Carries the response that takes the place of one whose commit failed."""

    def __init__(self, response: Response) -> None:
        self.response = response
