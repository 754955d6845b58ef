"""Reads the data to save in blocks of bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import IO, Any

from .backend import Block
from .errors import InvalidSource

Source = IO[bytes] | Block | Iterable[Block] | os.PathLike[str]
"""What can be saved: a binary file-like object, bytes, blocks of bytes, or the path of a local file to move."""

BLOCK_SIZE = 256 * 1024
"""Bytes that are read at a time."""


def read_blocks(data: Any) -> Iterator[Block]:
    """Yield the bytes of ``data`` in blocks. A block is valid until the next one is asked for.

    An error that the source raises passes through.

    Args:
        data: An object with ``readinto()`` or ``read()``, or an iterable of bytes.

    Raises:
        InvalidSource: The data, or a block that its method returned, has the wrong type.
    """
    if callable(readinto := getattr(data, "readinto", None)):
        return _by_readinto(readinto)
    if callable(read := getattr(data, "read", None)):
        return _by_read(read)
    if isinstance(data, Iterable) and not isinstance(data, str):
        return map(as_block, data)
    raise InvalidSource(
        f"a {type(data).__name__} cannot be saved: give bytes, a binary file, blocks of bytes or a pathlib.Path"
    )


def as_block(value: Any) -> Block:
    """Return ``value`` if it is bytes, or a view of its bytes.

    Raises:
        InvalidSource: It is not a bytes, a bytearray or a contiguous memoryview.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return _flat(value)
    raise InvalidSource(f"a block is {_kind(value)}, not bytes")


def check_unchanged(before: os.stat_result, now: os.stat_result) -> None:
    """Check that a local file was not written to between two looks at it.

    Raises:
        InvalidSource: It was.
    """
    if (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns):
        raise InvalidSource("another process has changed the file while it was being saved")


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
