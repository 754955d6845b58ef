"""Reads a ``multipart/form-data`` body part by part (RFC 7578).

Werkzeug's parser copies each byte five times, which takes longer than to write it. This one passes on the blocks of the
body as they are, except where a boundary may begin at the end of one. What a part's head says is parsed by Werkzeug.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from flask import Request
from werkzeug.datastructures import Headers
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header

from .body import Body
from .errors import MalformedUpload, UploadTooLarge

FORM = "multipart/form-data"

MAX_HEAD = 16 * 1024
"""Bytes that the head of a part may have."""

MAX_PADDING = 64
"""Spaces and tabs that may follow a boundary."""

_FILENAME = re.compile(r';[ \t]*filename="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


class Head(NamedTuple):
    """What the head of a part says.

    Attributes:
        name: The name of the field.
        filename: The file's name as the client gives it; None if the part is not a file.
        headers: All of the head.
    """

    name: str
    filename: str | None
    headers: Headers


class Part(Protocol):
    """Takes one part of a form: a field or a file."""

    def write(self, data: memoryview) -> object:
        """Take the next bytes of the part."""

    def end(self) -> object:
        """Note that the part is complete."""


class FieldPart:
    """A field. Its value is added to a list of names and values when it is complete."""

    def __init__(self, head: Head, max_bytes: int | None, fields: list[tuple[str, str]]) -> None:
        self._head = head
        self._max_bytes = max_bytes
        self._fields = fields
        self._value = bytearray()

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the value.

        Raises:
            UploadTooLarge: The value has more than ``MAX_FORM_MEMORY_SIZE``.
        """
        if self._max_bytes is not None and len(self._value) + len(data) > self._max_bytes:
            raise UploadTooLarge(max_bytes=self._max_bytes)
        self._value += data

    def end(self) -> None:
        """Add the value to the fields."""
        charset = MultiPartParser().get_part_charset(self._head.headers)
        self._fields.append((self._head.name, self._value.decode(charset, "replace")))


def read_form(body: Body, request: Request, begin_file: Callable[[Head], Part]) -> list[tuple[str, str]]:
    """Read a form to its end. Return the names and values of its fields, in their order.

    Args:
        body: The body of the request.
        request: The request, for the boundary of the parts, ``MAX_FORM_PARTS`` and ``MAX_FORM_MEMORY_SIZE``.
        begin_file: Called for each file. Its errors, and those of the part that it returns, pass through.

    Raises:
        MalformedUpload: The body is not a form, or the form has no end.
        TruncatedInput: The body ended early.
        UploadTooLarge: The form has too many parts, or a field or the body is too large.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if not boundary or not boundary.isascii():
        raise MalformedUpload("the form names no boundary of its parts")
    reader = FormReader(body, boundary.encode())
    max_parts = request.max_form_parts
    fields: list[tuple[str, str]] = []
    for number, head in enumerate(reader.heads(), 1):
        if max_parts is not None and number > max_parts:
            raise UploadTooLarge(max_parts=max_parts)
        is_file = head.filename is not None
        part: Part = begin_file(head) if is_file else FieldPart(head, request.max_form_memory_size, fields)
        for data in reader.data():
            part.write(data)
        part.end()
    return fields


class FormReader:
    """Reads the parts of a form, one after the other.

    Args:
        body: The body of the request.
        boundary: What separates the parts.
    """

    def __init__(self, body: Body, boundary: bytes) -> None:
        self._body = body
        self._delimiter = b"\r\n--" + boundary
        self._boundary = re.compile(re.escape(self._delimiter) + rb"(?:--|[ \t]{,%d}\r\n)" % MAX_PADDING)
        self._longest = len(self._delimiter) + MAX_PADDING + 2
        self._buffer = b"\r\n"  # the first boundary may be the first line
        self._at = 0

    def heads(self) -> Iterator[Head]:
        """Yield the head of each part. The caller reads its data before it asks for the next head.

        Raises:
            MalformedUpload: A head cannot be read, or the form has no end.
            TruncatedInput: The body ended early.
        """
        for _ in self.data():  # what precedes the first boundary means nothing
            pass
        while self._buffer[self._at - 2 : self._at] != b"--":
            yield self._head()
        while self._body.read():  # neither does what follows the last one
            pass

    def data(self) -> Iterator[memoryview]:
        """Yield the bytes up to the next boundary. Each is valid until the next is asked for.

        Raises:
            MalformedUpload: There is none.
            TruncatedInput: The body ended early.
        """
        while True:
            boundary = self._next_boundary()
            end = self._undecided() if boundary is None else boundary.start()
            if end > self._at:
                yield memoryview(self._buffer)[self._at : end]
            if boundary is not None:
                self._at = boundary.end()
                return
            self._at = end
            self._read_on()

    def _next_boundary(self) -> re.Match[bytes] | None:
        """Return the next boundary that is whole in the buffer."""
        # The expression is slower, and skips much that only begins like a boundary.
        start = self._buffer.find(self._delimiter, self._at)
        return self._boundary.search(self._buffer, start) if start >= 0 else None

    def _undecided(self) -> int:
        """Return where the buffer may end with the beginning of a boundary; its end if it does not."""
        delimiter, size = self._delimiter, len(self._buffer)
        start = max(self._at, size - self._longest + 1)
        while (start := self._buffer.find(b"\r", start)) >= 0:
            if delimiter.startswith(self._buffer[start : start + len(delimiter)]):
                return start
            start += 1
        return size

    def _head(self) -> Head:
        self._at -= 2  # a head without lines ends where it begins: with two line ends
        while (end := self._buffer.find(b"\r\n\r\n", self._at, self._at + MAX_HEAD)) < 0:
            if len(self._buffer) - self._at >= MAX_HEAD:
                raise MalformedUpload(f"a part of the form has a head of more than {MAX_HEAD:,} bytes")
            self._read_on()
        head = _parse(self._buffer[self._at : end])
        self._at = end + 2
        while self._undecided() == self._at and self._more():
            pass
        if not self._boundary.match(self._buffer, self._at):  # a part without data may end with its head
            self._at += 2
        return head

    def _read_on(self) -> None:
        if not self._more():
            raise MalformedUpload("the form has no end, or is not a form")

    def _more(self) -> bool:
        """Read the next block, and drop what was used. Return False at the end of the body, and change nothing."""
        block = self._body.read()
        if block:
            self._buffer = self._buffer[self._at :] + block
            self._at = 0
        return bool(block)


def _parse(head: bytes) -> Head:
    try:
        lines = re.sub(rb"\r\n[ \t]+", b" ", head).decode().split("\r\n")
        fields = (line.partition(":") for line in lines if line)
        headers = Headers([(name.strip(), value.strip()) for name, _, value in fields])
    except ValueError as error:
        raise MalformedUpload("the head of a part of the form cannot be read") from error
    disposition = headers.get("content-disposition", "")
    options = parse_options_header(disposition)[1]
    if "name" not in options:
        raise MalformedUpload("a part of the form has no name")
    filename = options.get("filename")
    quoted = _FILENAME.search(disposition)
    if filename is not None and quoted is not None and "\\" in quoted[1]:
        # Browsers do not escape the backslashes of a path (WHATWG), and Werkzeug removes them.
        filename = quoted[1].replace('\\"', '"').replace("%22", '"')
    return Head(options["name"], filename, headers)
