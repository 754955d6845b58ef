"""The answers that clients get for errors of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, Response
from silo_files import (
    AreaGone,
    DigestMismatch,
    ExtensionRefused,
    FileMissing,
    FileRefused,
    FileStoreError,
    FileTooLarge,
    InvalidFileName,
    NameTaken,
    SessionQuotaExceeded,
    StorageFull,
    StoreQuotaExceeded,
    TruncatedInput,
)

from ..replies import Answer, answer
from .errors import MalformedUpload


def _limits(error: FileTooLarge | SessionQuotaExceeded) -> Mapping[str, Any]:
    return {name: getattr(error, name, None) for name in ("max_bytes", "max_files")}


ANSWERS: dict[type[Exception], Answer] = {
    InvalidFileName: Answer(400, "invalid_file_name", lambda error: f"The file's name cannot be used: {error.reason}."),
    FileMissing: Answer(404, "file_missing", "There is no such file."),
    TruncatedInput: Answer(400, "truncated_upload", "The upload ended early. Nothing was saved."),
    DigestMismatch: Answer(
        400, "digest_mismatch", "The file arrived with another digest than the expected one. Nothing was saved."
    ),
    NameTaken: Answer(409, "name_taken", "There is already a file of this name."),
    ExtensionRefused: Answer(
        415, "extension_refused", lambda error: f"The file's name must end with {' or '.join(error.extensions)}."
    ),
    FileRefused: Answer(422, "file_refused", lambda error: f"The file was refused: {error.reason}"),
    FileTooLarge: Answer(413, "file_too_large", "The file is too large.", limits=_limits),
    SessionQuotaExceeded: Answer(413, "session_quota", "This session has no room for the file.", limits=_limits),
    StoreQuotaExceeded: Answer(507, "store_quota", "The server has no room for the file."),
    StorageFull: Answer(507, "storage_full", "The server has no room for the file."),
    AreaGone: Answer(410, "session_expired", "The session ended while the file was being saved."),
    MalformedUpload: Answer(400, "malformed_upload", lambda error: f"The upload cannot be read: {error.reason}."),
}
"""The answer to each error of files that clients may know. Flask answers any other with 500."""


def answer_file_errors(app: Flask) -> None:
    """Answer the errors of files, unless the application has a handler for them. It may also register one later."""
    app.error_handler_spec[None][None].setdefault(FileStoreError, _answer)


def _answer(error: FileStoreError) -> Response:
    return answer(error, ANSWERS) if error.file is None else answer(error, ANSWERS, file=error.file)
