"""Reads a ``multipart/form-data`` body part by part (RFC 7578).

The parts are found by ``multipart``, which passes on the blocks of the body as they are. Werkzeug's parser copies each
byte five times, which takes longer than to write it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from flask import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser
from werkzeug.datastructures import Headers
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header

from ..limits import UploadTooLarge
from .body import BLOCK_SIZE, Body
from .errors import MalformedUpload

FORM = "multipart/form-data"

MAX_HEAD_LINE = 2048
"""Bytes that a line of a part's head may have. To join a line that is folded takes time by the square of its length."""


class Head(NamedTuple):
    """What the head of a part says.

    Attributes:
        name: The name of the field.
        filename: The file's name as the client gives it, without the folder of a full Windows path; None if the part is
            not a file.
        headers: All of the head.
    """

    name: str
    filename: str | None
    headers: Headers


class Part(Protocol):
    """Takes one part of a form: a field or a file."""

    def write(self, data: bytes) -> object:
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

    def write(self, data: bytes) -> None:
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
    max_parts = request.max_form_parts
    fields: list[tuple[str, str]] = []
    number = 0
    part: Part  # the parser yields a segment, its data and None, in this order
    try:
        parser = PushMultipartParser(boundary, max_header_size=MAX_HEAD_LINE)
        for event in parser.parse_blocking(body.read, BLOCK_SIZE):
            if isinstance(event, MultipartSegment):
                number += 1
                if max_parts is not None and number > max_parts:
                    raise UploadTooLarge(max_parts=max_parts)
                head = _head(event)
                is_file = head.filename is not None
                part = begin_file(head) if is_file else FieldPart(head, request.max_form_memory_size, fields)
            elif event is None:
                part.end()
            else:
                part.write(event)
    except MultipartError as error:
        raise MalformedUpload(f"the form is malformed: {error.args[0]}") from error
    while body.read():  # what follows the last part means nothing
        pass
    return fields


def _head(segment: MultipartSegment) -> Head:
    if not segment.name:
        raise MalformedUpload("a part of the form has no name")
    filename = segment.filename
    options = segment.header("Content-Disposition")
    if "filename*" in options:  # HttpClient of .NET sends a name that is not ASCII so; multipart does not read it
        filename = parse_options_header(options)[1].get("filename")
    try:
        return Head(segment.name, filename, Headers(segment.headerlist))
    except ValueError as error:  # a line feed without a carriage return
        raise MalformedUpload("the form is malformed: the head of a part cannot be read") from error
