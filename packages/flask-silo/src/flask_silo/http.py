"""How the session shows in HTTP: the id in a request, the headers of a response, the answers to errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import silo_files
import silo_tasks
from flask import Request, Response, has_request_context, jsonify, request
from silo_store import (
    InvalidSessionId,
    SessionBusy,
    SessionConflict,
    SessionExpired,
    SessionRotated,
    StateTooLarge,
    StateValueError,
    StoreUnavailable,
    TooManySessions,
    TurnTimeout,
    is_sid,
)
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import dump_header, parse_dict_header

from .limits import limits_of, told
from .settings import Settings

logger = logging.getLogger("flask_silo")

LOG_EVERY = 60.0
"""Seconds for which trouble of a kind that was logged is not logged again: a store that is away fails every request."""


class Answer(NamedTuple):
    """What a client gets for an error."""

    status: int
    error: str
    message: str
    retry_after: int | None = None


ANSWERS: dict[type[Exception], Answer] = {
    SessionExpired: Answer(410, "session_expired", "This session has expired. Start again to get a new one."),
    SessionRotated: Answer(409, "session_rotated", "This session has another id now. Repeat the request with it."),
    SessionBusy: Answer(409, "session_busy", "This session's work is still running."),
    SessionConflict: Answer(409, "session_conflict", "The session was changed meanwhile. Load it again and retry."),
    StateValueError: Answer(422, "invalid_value", "This value cannot be stored."),
    StateTooLarge: Answer(413, "state_too_large", "This session has no room for that."),
    TurnTimeout: Answer(503, "session_locked", "Another request is still changing this session.", 1),
    StoreUnavailable: Answer(503, "store_unavailable", "Sessions cannot be reached at the moment.", 1),
    TooManySessions: Answer(503, "too_many_sessions", "There is no room for another session at the moment.", 5),
    InvalidSessionId: Answer(400, "invalid_session_id", "This is not a session id."),
    silo_tasks.TaskRunning: Answer(409, "task_running", "This task is still running."),
    silo_tasks.RunnerUnavailable: Answer(503, "task_queue_unavailable", "Tasks cannot be started at the moment.", 5),
    silo_tasks.QueueFull: Answer(503, "task_queue_full", "Too many tasks are waiting. Try again later.", 5),
    silo_files.InvalidFileName: Answer(400, "invalid_file_name", "The file's name cannot be used."),
    silo_files.FileMissing: Answer(404, "file_missing", "There is no such file."),
    silo_files.TruncatedInput: Answer(400, "truncated_upload", "The upload ended early. Nothing was saved."),
    silo_files.FileTooLarge: Answer(413, "file_too_large", "The file is too large."),
    silo_files.SessionQuotaExceeded: Answer(413, "session_quota", "This session has no room for the file."),
    silo_files.StoreQuotaExceeded: Answer(507, "store_quota", "The server has no room for the file."),
    silo_files.StorageFull: Answer(507, "storage_full", "The server has no room for the file."),
    silo_files.AreaGone: Answer(410, "session_expired", "The session ended while the file was being saved."),
    RequestEntityTooLarge: Answer(413, "request_too_large", "The request is too large."),
}
"""Errors that are the client's to know. Every other error is the application's own, and answered with 500."""

_logged: dict[str, float] = {}
"""When trouble of a kind was logged last in this process, by the monotonic clock."""


def answer(error: Exception) -> Response:
    """Make the response to an error.

    Raises:
        Exception: the error itself, where the table has no answer.
    """
    for kind in type(error).__mro__:
        found = ANSWERS.get(kind)
        if found is not None:
            message = found.message
            if isinstance(error, StateValueError):  # the client cannot mend a value that it does not find
                message = f"{error.namespace}{error.path} cannot be stored: {error.advice}."
            limits = limits_of(error)
            response = jsonify(error=found.error, message=told(message, limits), **limits)
            response.status_code = found.status
            response.headers["Cache-Control"] = "no-store"  # browsers keep a 410 for ever otherwise
            retry_after = getattr(error, "retry_after", found.retry_after)
            if retry_after is not None:
                response.headers["Retry-After"] = str(retry_after)
            if found.status >= 500 or isinstance(error, StateValueError):  # which may be the view's own mistake
                _log(found, error)
            return response
    raise error


def _log(found: Answer, error: Exception) -> None:
    """Log an error that the operator or the author of the view may have to mend."""
    now = time.monotonic()
    if now - _logged.get(found.error, -LOG_EVERY) >= LOG_EVERY:
        _logged[found.error] = now
        logger.warning("a request was answered with %d %s: %s", found.status, found.error, error)


class Wire:
    """Where a request carries its session id, and a response too."""

    def __init__(self, settings: Settings) -> None:
        self._header = settings.header
        self._lower = settings.header.lower()
        self._environ_key = "HTTP_" + settings.header.upper().replace("-", "_")
        self._param = settings.query_param
        self._shortest = settings.min_sid_length
        self._asks = f"{settings.query_param}="
        self._watched = {"vary", "access-control-expose-headers", "cache-control", "referrer-policy", self._lower}
        self._warned: set[str] = set()

    def presented(self, request: Request) -> str | None:
        """Return the id that a request carries, or None where it carries none that can be one."""
        environ = request.environ
        text = environ.get(self._environ_key)
        if text is not None:
            sid = text.strip()
            if len(sid) >= self._shortest and is_sid(sid):
                return sid
        if environ.get("QUERY_STRING"):
            sid = request.args.get(self._param, "").strip()
            if len(sid) >= self._shortest and is_sid(sid):
                return sid
        return None

    def mark(self, environ: Mapping[str, Any], headers: list[tuple[str, str]], sid: str | None) -> None:
        """Put the id into a response's headers, and tell caches and browsers about the header.

        A response with an id, or to a request whose URL has one, is kept out of caches that several clients share: such
        a cache would give the id, or what belongs to it, to another client. A response that allows such caches carries
        no id.
        """
        places: dict[str, list[int]] = {}
        for number, (name, _) in enumerate(headers):
            lower = name.lower()
            if lower in self._watched:
                places.setdefault(lower, []).append(number)
        query = environ.get("QUERY_STRING", "")
        in_url = self._asks in query or ("%" in query and self._param in parse_qs(query, keep_blank_values=True))
        shared: list[int] = []
        if in_url or sid is not None:
            shared = places.get("cache-control", [])
            if _make_private(headers, shared) and sid is not None:
                self._warn(environ)
                sid = None
        if in_url and "referrer-policy" not in places:
            headers.append(("Referrer-Policy", "no-referrer"))
        if sid is not None:
            own = places.get(self._lower)
            if own:
                headers[own[0]] = (self._header, sid)
            else:
                headers.append((self._header, sid))
        self._list_in(headers, places.get("vary"), "Vary")
        if "HTTP_ORIGIN" in environ:
            self._list_in(headers, places.get("access-control-expose-headers"), "Access-Control-Expose-Headers")
        for number in reversed(shared[1:]):  # the first header has all directives now
            del headers[number]

    def _warn(self, environ: Mapping[str, Any]) -> None:
        """Log once for each endpoint that its response allows shared caches and belongs to a session."""
        endpoint = (request.endpoint if has_request_context() else None) or environ.get("PATH_INFO", "")
        if endpoint not in self._warned:
            self._warned.add(endpoint)
            logger.warning(
                "endpoint %s allows shared caches (Cache-Control: public or s-maxage) to keep a response of a session: "
                "it was made private and carries no session id. Move what is the same for all clients out of the "
                "api_prefix",
                endpoint,
            )

    def _list_in(self, headers: list[tuple[str, str]], numbers: list[int] | None, name: str) -> None:
        if numbers is None:
            headers.append((name, self._header))
            return
        present = headers[numbers[-1]][1]
        if self._lower not in {item.strip().lower() for item in present.split(",")}:
            headers[numbers[-1]] = (name, f"{present}, {self._header}")


def _make_private(headers: list[tuple[str, str]], numbers: list[int]) -> bool:
    """Keep a response out of shared caches (RFC 9111, section 3). Return whether it allowed them.

    Args:
        headers: the response's headers, to be changed.
        numbers: which of them are ``Cache-Control``. Afterwards the first one has the directives of all.
    """
    if not numbers:
        headers.append(("Cache-Control", "no-store"))
        return False
    given = parse_dict_header(", ".join(headers[number][1] for number in numbers))
    words = {name.lower(): value for name, value in given.items()}
    shared = words.keys() & {"public", "s-maxage"}
    rest = {name: value for name, value in words.items() if name not in shared}
    headers[numbers[0]] = ("Cache-Control", dump_header(rest if "no-store" in rest else {**rest, "private": None}))
    return bool(shared)
