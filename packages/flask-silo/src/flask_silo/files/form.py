"""Reads a ``multipart/form-data`` body part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from flask import Request
from werkzeug.formparser import MultiPartParser
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from .body import Body, refuse_above
from .errors import MalformedUpload

FORM = "multipart/form-data"

PIECE = 64 * 1024
"""Bytes that are parsed at a time: the parser copies its buffer, and this much stays in the processor's cache."""


class Part(Protocol):
    """One part of a form: a field or a file."""

    def write(self, data: bytes) -> object:
        """Take the next bytes of the part."""

    def end(self) -> object:
        """Note that the part is complete."""


class FieldPart:
    """A field. Its value is added to a list of names and values when it is complete."""

    def __init__(self, head: Field, max_bytes: int | None, fields: list[tuple[str, str]]) -> None:
        self._head = head
        self._max_bytes = max_bytes
        self._fields = fields
        self._value = bytearray()

    def write(self, data: bytes) -> None:
        """Take the next bytes of the value.

        Raises:
            RequestEntityTooLarge: The value has more than ``MAX_FORM_MEMORY_SIZE``.
        """
        refuse_above(self._max_bytes, len(self._value) + len(data))
        self._value += data

    def end(self) -> None:
        """Add the value to the fields."""
        charset = MultiPartParser().get_part_charset(self._head.headers)
        self._fields.append((self._head.name, self._value.decode(charset, "replace")))


def read_form(body: Body, request: Request, begin_file: Callable[[File], Part]) -> list[tuple[str, str]]:
    """Read a form to its end. Return the names and values of its fields, in their order.

    Args:
        body: The body of the request.
        request: The request, for the boundary of the parts, ``MAX_FORM_PARTS`` and ``MAX_FORM_MEMORY_SIZE``.
        begin_file: Called for each file. Its errors, and those of the part that it returns, pass through.

    Raises:
        MalformedUpload: The body is no form, or the form has no end.
        TruncatedInput: The body ended early.
        RequestEntityTooLarge: The form has too many parts, or a field or the body is too large.
    """
    fields: list[tuple[str, str]] = []
    part: Part
    for event in _events(body, request):
        if isinstance(event, File):
            part = begin_file(event)
        elif isinstance(event, Field):
            part = FieldPart(event, request.max_form_memory_size, fields)
        elif isinstance(event, Data):
            part.write(event.data)
            if not event.more_data:
                part.end()
    return fields


def _events(body: Body, request: Request) -> Iterator[Event]:
    boundary = request.mimetype_params.get("boundary", "").encode("utf-8", "replace")
    if not boundary:
        raise MalformedUpload("the form names no boundary of its parts")
    decoder = MultipartDecoder(boundary, request.max_form_memory_size, max_parts=request.max_form_parts)
    for piece in _pieces(body):
        decoder.receive_data(piece)
        while True:
            try:
                event = decoder.next_event()
            except ValueError as error:
                raise MalformedUpload("the form is incomplete, or not a form") from error
            if isinstance(event, (NeedData, Epilogue)):
                break
            yield event


def _pieces(body: Body) -> Iterator[bytes | None]:
    """Yield the bytes of the body, and None at its end."""
    while block := body.read():
        for start in range(0, len(block), PIECE):
            yield block[start : start + PIECE]
    yield None
