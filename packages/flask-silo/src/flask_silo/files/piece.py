"""The bytes of an open file from one position to another: the body of a download."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

BLOCK = 256 * 1024
"""Bytes that are read and sent at a time, where the server does not send the file itself."""

_TESTED = frozenset({"gunicorn.http.wsgi", "waitress.buffers"})
"""The modules of the file wrappers that send the right bytes of a file that does not begin at its start."""


class Piece:
    """A part of an open file, which is closed with it. A file for the server, and an iterator of blocks.

    Positions are those of the whole file, so a server that takes the descriptor (``sendfile``) begins where a server
    that reads begins. Reading never passes the end of the part.

    Args:
        file: The open file. From now on it belongs to the piece.
        start: Position of the first byte.
        stop: Position after the last byte.
    """

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file = file
        self._stop = stop
        self._at = 0
        if start:
            self.seek(start)

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes; an empty ``bytes`` at the end.

        Raises:
            OSError: The file has become shorter. The server ends the connection, so that the client notices.
        """
        left = self._stop - self._at
        if not left:
            return b""
        block = self._file.read(left if size < 0 else min(size, left))
        if size and not block:
            raise OSError(f"a file that is being sent ended {left} bytes early")
        self._at += len(block)
        return block

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it. ``SEEK_END`` counts from the end of the part."""
        self._at = offset + (0, self._at, self._stop)[whence]
        return self._file.seek(self._at)

    def tell(self) -> int:
        """Return the position in the whole file."""
        return self._at

    def seekable(self) -> bool:
        """Return whether the file can be moved in."""
        return self._file.seekable()

    def fileno(self) -> int:
        """Return the descriptor of a file of the system. Its position is that of the piece.

        Raises:
            io.UnsupportedOperation: The bytes are not those of a descriptor.
        """
        if not is_system_file(self._file):
            raise io.UnsupportedOperation("fileno")
        return self._file.fileno()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = self.read(BLOCK)
        if not block:
            self.close()
            raise StopIteration
        return block

    def __del__(self) -> None:
        # A response that is replaced, as by a hook, is never closed.
        self._file.close()


def is_system_file(file: BinaryIO) -> bool:
    """Return whether a file is one of the system, whose descriptor has the bytes that reading it returns."""
    return isinstance(getattr(file, "raw", file), io.FileIO)


def body(environ: WSGIEnvironment, piece: Piece) -> Iterable[bytes]:
    """Return the body of a response that sends a piece: what the server itself sends, or else the piece in blocks."""
    wrapper = environ.get("wsgi.file_wrapper")
    # With gevent, Gunicorn has no sendfile: it would read and send blocks of 8 KiB.
    greenlet = type(environ.get("gunicorn.socket")).__module__.startswith("gevent")
    if wrapper is not None and wrapper.__module__ in _TESTED and not greenlet:
        wrapped: Iterable[bytes] = wrapper(piece, BLOCK)
        return wrapped
    return piece
