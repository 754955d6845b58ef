"""Reads the data to save in blocks of bytes, and checks its size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .backend import Block
from .errors import FileTooLarge, InvalidSource, TruncatedInput

BLOCK_SIZE = 256 * 1024
"""Bytes that are read at a time."""


def read_blocks(data: Any, *, size: int | None, limit: int | None) -> Iterator[Block]:
    """Yield the bytes of ``data`` in blocks. A block is valid until the next one is asked for.

    An error that the source raises passes through.

    Args:
        data: Bytes, a bytearray, a memoryview, or an object with ``readinto()`` or ``read()``.
        size: The exact number of bytes expected; None if it is unknown.
        limit: The largest number of bytes allowed; None for no limit.

    Raises:
        InvalidSource: The data, or a block that its method returned, has the wrong type.
        FileTooLarge: There are more than ``limit`` or ``size`` bytes.
        TruncatedInput: There are fewer than ``size`` bytes.
    """
    if size is not None and size < 0:
        raise ValueError("size must not be negative")
    if limit is not None and size is not None and size > limit:
        raise FileTooLarge(limit, size=size)
    taken = 0
    for block in _raw_blocks(data):
        taken += len(block)
        if limit is not None and taken > limit:
            raise FileTooLarge(limit, size=size)
        if size is not None and taken > size:
            raise FileTooLarge(size=size)
        yield block
    if size is not None and taken < size:
        raise TruncatedInput(taken, size)


def _raw_blocks(data: Any) -> Iterable[Block]:
    if isinstance(data, bytes):
        return (data,)
    if isinstance(data, (bytearray, memoryview)):
        return (_flat(data),)
    if callable(readinto := getattr(data, "readinto", None)):
        return _by_readinto(readinto)
    if callable(read := getattr(data, "read", None)):
        return _by_read(read)
    raise InvalidSource(f"a {type(data).__name__} is neither bytes nor a binary file-like object")


def _flat(data: bytearray | memoryview) -> memoryview:
    view = memoryview(data)
    if not view.c_contiguous:
        raise InvalidSource("the memoryview is not contiguous: pass bytes(view)")
    return view.cast("B")


def _by_readinto(readinto: Any) -> Iterator[Block]:
    view = memoryview(bytearray(BLOCK_SIZE))
    while True:
        count = readinto(view)
        if not isinstance(count, int) or not 0 <= count <= BLOCK_SIZE:
            raise InvalidSource(f"its readinto() returned {_kind(count)}, not a number of bytes")
        if count == 0:
            return
        yield view[:count]


def _by_read(read: Any) -> Iterator[Block]:
    while True:
        block = read(BLOCK_SIZE)
        if not isinstance(block, (bytes, bytearray, memoryview)):
            raise InvalidSource(f"its read() returned {_kind(block)}, not bytes")
        if isinstance(block, memoryview):
            block = _flat(block)
        if not block:
            return
        yield block


def _kind(value: object) -> str:
    if value is None:
        return "None (a non-blocking source?)"
    if isinstance(value, int):
        return "a number out of range"
    return f"a {type(value).__name__}"
