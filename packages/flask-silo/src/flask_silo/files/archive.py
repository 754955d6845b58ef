"""All files of a session as one zip archive, which is made while it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from flask import Response, request
from silo_files import FileInfo, FileMissing, portable_names

from .headers import SAFE_HEADERS, disposition
from .piece import Piece

OPEN_FILES = 32
"""Files that an archive has open from its beginning. Each further one is opened when its turn comes."""

BLOCK = 64 * 1024
"""The small blocks of an archive, such as the names of its files, are sent together in blocks of this size."""

_UNSIZED = 65_535
"""With exactly this number of files, zipstream-ng 1.9 leaves a record of the archive's end out of its length."""

Open = Callable[[str], tuple[BinaryIO, FileInfo]]
"""Opens the file of this name."""


class Member:
    """A file of an archive. Iterating yields its bytes.

    Args:
        open_file: Opens a file by its name.
        info: The file, as the archive announces it.
        file: The open file; None to open it when its turn comes.
    """

    def __init__(self, open_file: Open, info: FileInfo, file: BinaryIO | None = None) -> None:
        self.info = info
        self._open = open_file
        self._piece = None if file is None else Piece(file, 0, info.size)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes of the file.

        Raises:
            FileMissing: The file was deleted since the archive was announced.
            RuntimeError: The file was replaced since then.
        """
        if self._piece is None:
            file, info = self._open(self.info.name)
            self._piece = Piece(file, 0, info.size)
            if info.etag != self.info.etag:
                raise RuntimeError("a file was replaced while the archive with it was sent")
        return self._piece

    def close(self) -> None:
        """Close the file."""
        if self._piece is not None:
            self._piece.close()


class Archive:
    """The body of a response: the bytes of an archive."""

    def __init__(self, stream: Iterable[bytes], members: list[Member]) -> None:
        self._blocks = _together(stream)
        self._members = members

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def close(self) -> None:
        """Close the files."""
        for member in self._members:
            member.close()

    def __del__(self) -> None:
        # A response that is replaced, as by a hook, is never closed.
        self.close()


def response_with_all(infos: list[FileInfo], open_file: Open, download_name: str) -> Response:
    """Return the response that sends files as one archive to the client of the running request.

    Args:
        infos: The files, as they are now.
        open_file: Opens a file by its name.
        download_name: The name of the archive.

    Raises:
        InvalidFileName: ``download_name`` cannot be the name of a file.
        ImportError: zipstream-ng is not installed.
    """
    stream = zip_stream()(sized=True)
    headers = {
        **SAFE_HEADERS,
        "Accept-Ranges": "none",
        "Content-Disposition": disposition(download_name),
        "Content-Type": "application/zip",
    }
    members = _members(infos, open_file)
    content = Archive(stream, members)
    names = portable_names(member.info.name for member in members)
    for member in members:
        stream.add(member, names[member.info.name], size=member.info.size)
    if len(members) != _UNSIZED:
        headers["Content-Length"] = str(len(stream))
    if request.method == "HEAD":
        content.close()
    return Response(content, headers=headers, direct_passthrough=True)


def _members(infos: list[FileInfo], open_file: Open) -> list[Member]:
    """Return the files of an archive. One that was deleted since ``infos`` were read is left out."""
    members = []
    for info in infos[:OPEN_FILES]:
        with suppress(FileMissing):
            file, opened = open_file(info.name)
            members.append(Member(open_file, opened, file))
    return members + [Member(open_file, info) for info in infos[OPEN_FILES:]]


def _together(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, with small blocks put together."""
    small = bytearray()
    for block in blocks:
        if len(block) < BLOCK:
            small += block
        if len(small) >= BLOCK or (small and len(block) >= BLOCK):
            yield bytes(small)
            small.clear()
        if len(block) >= BLOCK:
            yield block
    if small:
        yield bytes(small)


def zip_stream(or_else: str = "") -> Any:
    """Return the class that makes archives.

    Args:
        or_else: The end of the error's message, if there is another way than to install the package.

    Raises:
        ImportError: zipstream-ng is not installed.
    """
    try:
        from zipstream import ZipStream
    except ImportError as error:
        message = "an archive of files needs zipstream-ng, which is not installed: pip install zipstream-ng"
        raise ImportError(message + or_else, name=error.name) from error
    return ZipStream
