"""The body of a request, read once and to its exact end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from select import select
from socket import SHUT_RDWR, socket
from threading import Event, Timer
from typing import Any

from flask import Request, Response
from silo_files import TruncatedInput
from werkzeug.wsgi import get_content_length

from ..limits import UploadTooLarge
from .errors import MalformedUpload

BLOCK_SIZE = 1024 * 1024
"""Bytes that are read at a time. Gunicorn copies what it has buffered at each read, so small reads are slow."""

LINGER_SECONDS = 10.0
"""Seconds for which the rest of a refused body is read, so that its client reads the answer."""

LINGER_BLOCK = 64 * 1024

PATIENCE = 0.5
"""Seconds of silence after which a client of the development server counts as having sent everything."""


class Body:
    """The body of a request: its bytes as the server gives them, with no copy in between.

    Args:
        request: The request. Its body was not read before; afterwards ``request.form`` and ``request.files`` are empty,
            until the caller fills them.

    Attributes:
        size: Announced bytes; None if the client announced none.
        received: Bytes that were read.

    Raises:
        RuntimeError: The body was read before.
    """

    def __init__(self, request: Request) -> None:
        read_before = request.__dict__
        if "form" in read_before or read_before.get("_cached_data") is not None:
            raise RuntimeError(
                "the body of this request was read before: call receive() once, and before request.form, "
                "request.files, request.data or request.get_json()"
            )
        environ = request.environ
        self._stream: Any = environ["wsgi.input"]
        self.size: int | None = get_content_length(environ)
        if self.size is None and not environ.get("wsgi.input_terminated"):
            self.size = 0  # the server does not show where the body ends: without a length it counts as empty
        self.received: int = 0
        self._limit: int | None = request.max_content_length
        self._environ = environ
        self._broken = False
        self.set_form(request, [], [])

    @staticmethod
    def set_form(request: Request, fields: Any, files: Any) -> None:
        """Let ``request.form`` and ``request.files`` return these items. The request then reads no body itself."""
        kind = request.parameter_storage_class
        request.__dict__.update(stream=BytesIO(), form=kind(fields), files=kind(files))

    def check(self) -> None:
        """Refuse a body before any of it is read.

        Raises:
            MalformedUpload: The server does not tell where the body ends, so it would seem empty.
            UploadTooLarge: The body announces more than ``MAX_CONTENT_LENGTH``.
        """
        coding = self._environ.get("HTTP_TRANSFER_ENCODING", "")
        if coding and not (self._environ.get("wsgi.input_terminated") and coding.strip().lower() == "chunked"):
            raise MalformedUpload("it has a Transfer-Encoding and the server does not read it: send a Content-Length")
        self._refuse_above_limit(self.size or 0)

    def read(self, size: int = BLOCK_SIZE) -> bytes:
        """Return up to ``size`` bytes; none at the end.

        Raises:
            TruncatedInput: The body ended early.
            UploadTooLarge: The body has more than ``MAX_CONTENT_LENGTH``.
        """
        if self.size is not None:
            size = min(size, self.size - self.received)
        if size == 0:
            return b""
        try:
            block: bytes = self._stream.read(size)
        except Exception as error:
            # Each server has its own: OSError, ValueError, or an exception of Gunicorn that is neither.
            self._broken = True
            raise TruncatedInput(self.received, self.size) from error
        if not block and self.size is not None:  # Gunicorn raises nothing
            self._broken = True
            raise TruncatedInput(self.received, self.size)
        self.received += len(block)
        self._refuse_above_limit(self.received)
        return block

    def _refuse_above_limit(self, size: int) -> None:
        if self._limit is not None and size > self._limit:
            raise UploadTooLarge(max_bytes=self._limit)

    def linger(self, response: Response) -> Response:
        """Read the rest of the body after ``response`` was sent, for ``LINGER_SECONDS`` at most. Return ``response``.

        A server that closes a connection with unread bytes resets it, and a client that sends its whole request before
        it reads would never see the answer (RFC 9112, section 9.6).
        """
        if not self._broken and self.received != self.size and not self._is_left_to_the_server():
            response.call_on_close(self._drop)
        return response

    def _is_left_to_the_server(self) -> bool:
        seekable: Callable[[], bool] | None = getattr(self._stream, "seekable", None)
        if seekable is not None and seekable():  # Waitress has read it all
            return True
        # The client may wait for "100 Continue", which a read would send. These servers have sent it already.
        has_been_asked = "gunicorn.socket" in self._environ or "werkzeug.socket" in self._environ
        return self.received == 0 and "HTTP_EXPECT" in self._environ and not has_been_asked

    def _drop(self) -> None:
        development = self._environ.get("werkzeug.socket")
        with suppress(Exception):  # the client is gone: then the server closes the connection
            if development is not None:
                _drop_all(development, time.monotonic() + LINGER_SECONDS)
            else:
                self._drop_rest(self._environ.get("gunicorn.socket"))

    def _drop_rest(self, connection: socket | None) -> None:
        """Read to the end of the body, where the next request of the connection begins."""
        over = Event()

        def end() -> None:
            if connection is not None:
                # Gunicorn reads until it has all bytes of a block, however slowly they come. Nor may it take what comes
                # later for the next request.
                with suppress(OSError):
                    connection.shutdown(SHUT_RDWR)
            over.set()

        timer = Timer(LINGER_SECONDS, end)
        timer.name, timer.daemon = "silo-linger", True
        timer.start()
        try:
            while not over.is_set():
                left = LINGER_BLOCK if self.size is None else min(LINGER_BLOCK, self.size - self.received)
                block = self._stream.read(left) if left else b""
                if not block:
                    break
                self.received += len(block)
        finally:
            timer.cancel()


def _drop_all(connection: socket, end: float) -> None:
    """Read what a connection still brings. Its server closes it afterwards.

    The development server has read on by itself, so where the body ends is not known. It stops after a pause of 10 ms.
    """
    while time.monotonic() < end and select([connection], [], [], PATIENCE)[0]:
        if not connection.recv(LINGER_BLOCK):
            break
