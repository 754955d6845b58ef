"""The answers that clients get for errors."""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import silo_files
import silo_tasks
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

from .files.errors import MalformedUpload
from .limits import limits_of, with_limits

logger = logging.getLogger("flask_silo")

LOG_EVERY = 60.0
"""Seconds between two log lines for the same kind of error: an unreachable store fails every request."""


class Answer(NamedTuple):
    """The answer to an error: a status, and a JSON object with ``error`` and ``message``."""

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
    LockTimeout: Answer(503, "session_locked", "Another request is still changing this session.", 1),
    StoreUnavailable: Answer(503, "store_unavailable", "Sessions cannot be reached at the moment.", 1),
    TooManySessions: Answer(503, "too_many_sessions", "There is no room for another session at the moment.", 5),
    InvalidSessionId: Answer(400, "invalid_session_id", "This is not a session id."),
    silo_tasks.TaskRunning: Answer(409, "task_running", "This task is still running."),
    silo_tasks.RunnerUnavailable: Answer(503, "task_queue_unavailable", "Tasks cannot be started at the moment.", 5),
    silo_tasks.QueueFull: Answer(503, "task_queue_full", "Too many tasks are waiting. Try again later.", 5),
    silo_files.InvalidFileName: Answer(400, "invalid_file_name", "The file's name cannot be used."),
    silo_files.FileMissing: Answer(404, "file_missing", "There is no such file."),
    silo_files.TruncatedInput: Answer(400, "truncated_upload", "The upload ended early. Nothing was saved."),
    silo_files.DigestMismatch: Answer(
        400, "digest_mismatch", "The file arrived with another digest than the expected one. Nothing was saved."
    ),
    silo_files.NameTaken: Answer(409, "name_taken", "There is already a file of this name."),
    silo_files.ExtensionRefused: Answer(415, "extension_refused", "Files with this extension are not accepted."),
    silo_files.FileRefused: Answer(422, "file_refused", "The file was refused."),
    silo_files.FileTooLarge: Answer(413, "file_too_large", "The file is too large."),
    silo_files.SessionQuotaExceeded: Answer(413, "session_quota", "This session has no room for the file."),
    silo_files.StoreQuotaExceeded: Answer(507, "store_quota", "The server has no room for the file."),
    silo_files.StorageFull: Answer(507, "storage_full", "The server has no room for the file."),
    silo_files.AreaGone: Answer(410, "session_expired", "The session ended while the file was being saved."),
    MalformedUpload: Answer(400, "malformed_upload", "The upload cannot be read."),
    RequestEntityTooLarge: Answer(413, "request_too_large", "The request is too large."),
}
"""The answer to each error that clients may know. Flask answers any other error with 500."""

_logged: dict[str, float] = {}
"""When each kind of error was last logged in this process, by the monotonic clock."""


def answer(error: Exception) -> Response:
    """Return the response to an error.

    Raises:
        Exception: The error itself, if ``ANSWERS`` has no answer to it.
    """
    for kind in type(error).__mro__:
        found = ANSWERS.get(kind)
        if found is not None:
            message = found.message
            if isinstance(error, StateValueError):  # the client needs to know which value to change
                message = f"{error.namespace}{error.path} cannot be stored: {error.advice}."
            elif isinstance(error, MalformedUpload):
                message = f"The upload cannot be read: {error.reason}."
            elif isinstance(error, silo_files.InvalidFileName):
                message = f"The file's name cannot be used: {error.reason}."
            elif isinstance(error, silo_files.ExtensionRefused):
                message = f"The file's name must end with {' or '.join(error.extensions)}."
            elif isinstance(error, silo_files.FileRefused):
                message = f"The file was refused: {error.reason}"
            limits = limits_of(error)
            response = refusal(found.status, found.error, with_limits(message, limits), **limits)
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
