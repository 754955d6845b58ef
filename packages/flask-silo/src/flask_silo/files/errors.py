"""The errors of uploads."""

from __future__ import annotations

from functools import partial
from typing import Any

from silo_files import FileStoreError
from werkzeug.exceptions import RequestEntityTooLarge


class MalformedUpload(FileStoreError):
    """The body of the request is not an upload that ``receive()`` can read. The client has to send another one.

    Attributes:
        reason: What is wrong with the body. Never contains a name or text of the client.
    """

    _fields = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"upload refused: {reason}")


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
