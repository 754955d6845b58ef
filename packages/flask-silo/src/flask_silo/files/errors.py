"""The errors of uploads."""

from __future__ import annotations

from silo_files import FileStoreError


class MalformedUpload(FileStoreError):
    """The body of the request is not an upload that ``receive()`` can read. The client has to send another one.

    Attributes:
        reason: What is wrong with the body. Never contains a name or text of the client.
    """

    _fields = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"upload refused: {reason}")
