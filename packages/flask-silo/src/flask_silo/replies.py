"""The answers that clients get for errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flask import Response, jsonify
from silo_store import (
    InvalidSessionId,
    LockTimeout,
    SessionBusy,
    SessionConflict,
    SessionExpired,
    SessionRotated,
    StateTooLarge,
    StateValueError,
    StoreUnavailable,
    TooManySessions,
)
from werkzeug.exceptions import RequestEntityTooLarge

from .limits import limits_of_request, with_limits

logger = logging.getLogger("flask_silo")

LOG_EVERY = 60.0
"""Seconds between two log lines for the same kind of error: an unreachable store fails every request."""


class Answer(NamedTuple):
    """The answer to an error: a status, and a JSON object with ``error``, ``message`` and the exceeded limits.

    Attributes:
        message: The text, or a function that makes it of the error.
        retry_after: Seconds, unless the error has others.
        limits: Returns the limits that the error names, see ``limits.UNITS``. Those that are no int are not shown.
    """

    status: int
    error: str
    message: str | Callable[[Any], str]
    retry_after: int | None = None
    limits: Callable[[Any], Mapping[str, Any]] | None = None


ANSWERS: dict[type[Exception], Answer] = {
    SessionExpired: Answer(410, "session_expired", "This session has expired. Start again to get a new one."),
    SessionRotated: Answer(409, "session_rotated", "This session has another id now. Repeat the request with it."),
    SessionBusy: Answer(409, "session_busy", "This session's work is still running."),
    SessionConflict: Answer(409, "session_conflict", "The session was changed meanwhile. Load it again and retry."),
    StateValueError: Answer(
        422, "invalid_value", lambda error: f"{error.namespace}{error.path} cannot be stored: {error.advice}."
    ),
    StateTooLarge: Answer(
        413,
        "state_too_large",
        "This session has no room for that.",
        limits=lambda error: {"max_bytes": error.limit},
    ),
    LockTimeout: Answer(503, "session_locked", "Another request is still changing this session.", 1),
    StoreUnavailable: Answer(503, "store_unavailable", "Sessions cannot be reached at the moment.", 1),
    TooManySessions: Answer(503, "too_many_sessions", "There is no room for another session at the moment.", 5),
    InvalidSessionId: Answer(400, "invalid_session_id", "This is not a session id."),
    RequestEntityTooLarge: Answer(413, "request_too_large", "The request is too large.", limits=limits_of_request),
}
"""The answer to each error that clients may know. Those of tasks and files are in ``tasks.answers`` and
``files.answers``.

Flask answers any other error with 500.
"""

_logged: dict[str, float] = {}
"""When each kind of error was last logged in this process, by the monotonic clock."""


def answer(error: Exception, answers: Mapping[type[Exception], Answer] = ANSWERS, **details: Any) -> Response:
    """Return the response to an error. Its JSON object has the ``details`` too.

    Raises:
        Exception: The error itself, if ``answers`` has no answer to it.
    """
    for kind in type(error).__mro__:
        found = answers.get(kind)
        if found is not None:
            message = found.message if isinstance(found.message, str) else found.message(error)
            named = {} if found.limits is None else found.limits(error)
            limits = {name: limit for name, limit in named.items() if isinstance(limit, int)}
            response = refusal(found.status, found.error, with_limits(message, limits), **limits, **details)
            retry_after = getattr(error, "retry_after", found.retry_after)
            if retry_after is not None:
                response.headers["Retry-After"] = str(retry_after)
            if found.status >= 500 or isinstance(error, StateValueError):  # a 422 may be a mistake of the view
                _log(found, error)
            return response
    raise error


def refusal(status: int, error: str, message: str, **details: Any) -> Response:
    """Return a response with this status and a JSON object with ``error``, ``message`` and ``details``."""
    response = jsonify(error=error, message=message, **details)
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"  # browsers keep a 410 for ever otherwise
    return response


def _log(found: Answer, error: Exception) -> None:
    """Log an error that the operator or the author of the view may have to fix."""
    now = time.monotonic()
    if now - _logged.get(found.error, -LOG_EVERY) >= LOG_EVERY:
        _logged[found.error] = now
        logger.warning("a request was answered with %d %s: %s", found.status, found.error, error)
