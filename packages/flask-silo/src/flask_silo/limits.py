"""The limit that a request exceeded, for the answer to its client."""

from __future__ import annotations

from types import FrameType
from typing import Any

from silo_files import FileTooLarge, SessionQuotaExceeded
from silo_store import StateTooLarge
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser
from werkzeug.sansio.multipart import MultipartDecoder
from werkzeug.wsgi import LimitedStream

from .files.errors import UploadTooLarge
from .text import plural

UNITS = {"max_bytes": "byte", "max_files": "file", "max_parts": "part"}
"""What a limit counts, by the name that it has in an answer."""


def limits_of(error: Exception) -> dict[str, int]:
    """Return the limit that was exceeded, by its name in ``UNITS``; an empty dict if the error does not show it."""
    if isinstance(error, (FileTooLarge, SessionQuotaExceeded)):
        found: dict[str, Any] = {name: getattr(error, name, None) for name in ("max_bytes", "max_files")}
    elif isinstance(error, StateTooLarge):
        found = {"max_bytes": error.limit}
    elif isinstance(error, UploadTooLarge):
        found = dict(error.limits)
    elif isinstance(error, RequestEntityTooLarge):
        found = _of_request(error)
    else:
        found = {}
    return {name: limit for name, limit in found.items() if isinstance(limit, int)}


def with_limits(message: str, limits: dict[str, int]) -> str:
    """Return a message with a sentence for each limit."""
    return " ".join([message, *(f"The limit is {plural(limit, UNITS[name])}." for name, limit in limits.items())])


def _of_request(error: RequestEntityTooLarge) -> dict[str, Any]:
    """Read the limit from the Werkzeug frame that raised: the error does not hold it, and a view may set its own."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return {}
    frame: FrameType = trace.tb_frame
    part = frame.f_locals.get("self")
    if isinstance(part, LimitedStream):
        return {"max_bytes": part.limit}
    if isinstance(part, MultipartDecoder) and frame.f_code.co_name == "next_event":
        return {"max_parts": part.max_parts}
    if isinstance(part, (MultipartDecoder, MultiPartParser)):
        return {"max_bytes": part.max_form_memory_size}
    return {"max_bytes": frame.f_locals.get("max_content_length")}
