"""The limit that a request exceeded, for the answer to its client."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import FrameType
from typing import Any

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser
from werkzeug.sansio.multipart import MultipartDecoder
from werkzeug.wsgi import LimitedStream

from .text import plural

UNITS = {"max_bytes": "byte", "max_files": "file", "max_parts": "part"}
"""What a limit counts, by the name that it has in an answer."""


class UploadTooLarge(RequestEntityTooLarge):
    """The body, or a form in it, exceeds a limit of Flask's settings.

    Attributes:
        limits: The limit, by what it counts: ``max_bytes`` or ``max_parts``.
    """

    def __init__(self, **limits: int) -> None:
        super().__init__()
        self.limits: dict[str, int] = limits

    def __reduce__(self) -> Any:
        return partial(UploadTooLarge, **self.limits), ()


def with_limits(message: str, limits: Mapping[str, int]) -> str:
    """Return a message with a sentence for each limit."""
    return " ".join([message, *(f"The limit is {plural(limit, UNITS[name])}." for name, limit in limits.items())])


def limits_of_request(error: RequestEntityTooLarge) -> Mapping[str, Any]:
    """Return the limit that a request exceeded; an empty dict if the error does not show it.

    The limit of an error of Werkzeug is read from the frame that raised: the error does not hold it, and a view may set
    its own.
    """
    if isinstance(error, UploadTooLarge):
        return error.limits
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
