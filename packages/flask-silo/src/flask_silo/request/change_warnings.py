"""Warnings of state that a request changes without the write lock, or after its response has started."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from flask import Flask, Response, has_request_context, request
from silo_store import SessionStore
from werkzeug.wsgi import ClosingIterator

from ..current import current_request
from .session import RequestSession

logger = logging.getLogger("flask_silo")

LOST_CHANGE = (
    "state was changed after the response had started, and the change is lost: {} ({}). "
    "Use silo.edit() to change state in what a response streams, or calls when it is closed"
)
UNLOCKED_CHANGE = (
    "{} changed state in a {} request ({}). Such a request does not take the write lock: of two changes at once, one "
    "is refused with 409, or silently lost on memory://. Change state in silo.edit(), as in "
    "`with silo.edit({!r}) as state: ...`, or in a request that writes, such as POST"
)


class ChangeWarnings:
    """Warns once of each endpoint that changes state in a way that may lose the change.

    Used with stores that keep copies: changes to live objects cannot be detected.
    """

    def __init__(self, app: Flask, store: SessionStore) -> None:
        self._app = app
        self._store = store
        # None: a hook or an error handler, for a URL without a view.
        self._lost: set[str | None] = set()
        self._unlocked: set[str | None] = set()

    def of_unlocked_change(self, changed: list[str]) -> None:
        """Warn of a request that reads and has changed state outside of ``Silo.edit()``.

        This is a Python warning, because test runners show warnings even if every test passes. If a filter turns it
        into an error, it fails the test. Outside of tests the change is still saved, and the warning is logged.
        """
        endpoint, method = (request.endpoint, request.method) if has_request_context() else (None, "reading")
        if endpoint in self._unlocked:
            return
        who = f"endpoint {endpoint}" if endpoint else "a hook before the view"
        message = UNLOCKED_CHANGE.format(who, method, ", ".join(map(repr, changed)), changed[0])
        try:
            warnings.warn(message, stacklevel=2)
        except UserWarning:
            if self._app.testing:
                raise
            logger.warning(message)
        self._unlocked.add(endpoint)

    def after_request(self, response: Response) -> Response:
        """Look for late changes at the end of a response that may change state after its start, as a stream may."""
        session = current_request()
        if session is None or session.store is not self._store:
            return response
        if response.is_streamed and not response.direct_passthrough:
            # At the end of the body, because a test may not close the response; and on close, for its callbacks.
            check = self._late_check(session)
            response.response = _followed(response.response, check)
            response.call_on_close(check)
        elif session.session is not None and getattr(response, "_on_close", True):  # there may be callbacks
            response.call_on_close(self._late_check(session))
        return response

    def _late_check(self, session: RequestSession) -> Callable[[], None]:
        return partial(self._check_late, session, request.endpoint)

    def _check_late(self, session: RequestSession, endpoint: str | None) -> None:
        changed = self._store.changed(session.session) if session.saved and session.session is not None else []
        if not changed:
            return
        session.saved = False  # so that the second look does not report it again
        who = f"endpoint {endpoint}" if endpoint else "a hook or an error handler"
        message = LOST_CHANGE.format(", ".join(map(repr, changed)), who)
        if self._app.testing:
            raise RuntimeError(message)
        if endpoint not in self._lost:
            self._lost.add(endpoint)
            logger.error(message)


def _followed(body: Iterable[Any], check: Callable[[], object]) -> Iterable[Any]:
    """Return a response's body that calls ``check()`` at its end."""

    def blocks() -> Iterator[Any]:
        yield from body
        check()

    close = getattr(body, "close", None)
    return ClosingIterator(blocks(), [close] if close is not None else [])
