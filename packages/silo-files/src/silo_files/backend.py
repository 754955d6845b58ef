"""``FileBackend``, the interface below ``FileStore`` to the place that keeps files."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import BinaryIO, Protocol, runtime_checkable

from .media import media_type

Block = bytes | bytearray | memoryview
"""A piece of a file. A memoryview is valid only until the next block is asked for."""

Living = Callable[[list[str]], Collection[str]]
"""Called with many keys. Returns those that live, perhaps among others."""

Origin = str | Callable[[], str | None] | None
"""The place where sessions are kept, or a function that returns it. None if the place has no name."""


@dataclass(frozen=True)
class FileInfo:
    """A saved file.

    Attributes:
        name: The name of the file, in Unicode form NFC.
        size: Size in bytes.
        modified: Time of the save, in seconds since the epoch.
        etag: Opaque ASCII text without quotes. Another content of the file has another one.
        digest: Algorithm and hexadecimal digest of the bytes, such as ``"sha256:9f86d0..."``; None unless asked for.
    """

    name: str
    size: int
    modified: float
    etag: str
    digest: str | None = None

    @property
    def media_type(self) -> str:
        """The media type that the name suggests, such as ``text/csv``; the bytes are not looked at."""
        return media_type(self.name)


class SavedPath(str):
    """Where a file was saved: its absolute path, or what its backend calls the place.

    Args:
        path: The path.
        info: The saved file, or a function that describes it as it was saved.
    """

    _info: FileInfo | Callable[[], FileInfo]

    def __new__(cls, path: str, info: FileInfo | Callable[[], FileInfo]) -> SavedPath:
        self = super().__new__(cls, path)
        self._info = info
        return self

    @property
    def info(self) -> FileInfo:
        """The saved file."""
        if not isinstance(self._info, FileInfo):
            self._info = self._info()
        return self._info

    def __reduce__(self) -> tuple[type[SavedPath], tuple[str, FileInfo]]:
        return SavedPath, (str(self), self.info)


@dataclass(frozen=True)
class Usage:
    """The bytes and files of one area, or of all areas together.

    Attributes:
        bytes: Bytes of all finished files.
        files: Number of finished files.
    """

    bytes: int
    files: int


class StagedFile(Protocol):
    """A file that is being written and is not visible yet."""

    def write(self, block: Block, /) -> None:
        """Append ``block``. The caller may reuse its buffer afterwards.

        Raises:
            StorageFull: There is no room left.
        """

    def adopt(self, path: str, status: os.stat_result, /) -> bool:
        """Take the bytes of a local file without copying them. Return whether that was possible.

        Called before any ``write()``. If it returns False, the caller writes the bytes. The local file stays where it
        is, and the caller removes it after the commit.

        Args:
            path: Absolute path of a regular file.
            status: What ``os.fstat()`` says about that file. Another file at ``path`` is not taken.

        Raises:
            AreaGone: The area was removed since ``stage()``.
        """

    def finish(self) -> None:
        """Do slow work, such as syncing to disk. Called once, after the last block, with no lock held.

        Raises:
            StorageFull: There is no room left.
        """

    def open(self) -> BinaryIO:
        """Open what was written, for reading. Called after ``finish()``, with no lock held. The caller closes it.

        Raises:
            AreaGone: The area was removed since ``stage()``.
        """

    def commit(self, name: str | None = None, /) -> SavedPath:
        """Make the whole file visible at once, replacing an older one of its name. Return where it is.

        After an error the caller calls ``abort()``.

        Args:
            name: The name of the file; None for the one given to ``stage()``.

        Raises:
            AreaGone: The area was removed since ``stage()``.
            InvalidSource: The adopted file was changed meanwhile.
            StorageFull: There is no room left.
        """

    def abort(self) -> None:
        """Discard the bytes. Never raises an error of the storage. Does nothing after ``commit()``."""


@runtime_checkable
class FileBackend(Protocol):
    """Keeps named files in areas, one area for each key.

    Keys and names have passed ``check_key`` and ``check_name``. All methods may be called from several threads at once.
    An area exists from the first ``stage()`` or ``area_path(create=True)`` until ``remove_area()``. An unknown key is
    an empty area.
    """

    def stage(self, key: str, name: str) -> StagedFile:
        """Begin to write a file, which will probably have this name. Its commit may give it another one.

        Raises:
            StorageFull: There is no room left.
        """

    def path(self, key: str, name: str) -> str | None:
        """Return the absolute path of a finished file; None if there is no such file, or files have no local path."""

    def area_path(self, key: str, *, create: bool) -> str | None:
        """Return the absolute path of the area's folder; None if the backend has no folders."""

    def stat(self, key: str, name: str) -> FileInfo | None:
        """Describe a finished file; None if there is no such file."""

    def size(self, key: str, name: str) -> int | None:
        """Return the bytes of a finished file, as in ``stat()``; None if there is no such file."""

    def open(self, key: str, name: str) -> tuple[BinaryIO, FileInfo]:
        """Open a finished file for reading. The caller closes it.

        Returns:
            The file, at its start, and what ``stat()`` says about this very content, also if it was replaced meanwhile.

        Raises:
            FileMissing: There is no such file.
        """

    def names(self, key: str) -> list[str]:
        """Return the names of all finished files of the area, sorted."""

    def list(self, key: str) -> list[FileInfo]:
        """Describe all finished files of the area, ordered by name."""

    def delete(self, key: str, name: str) -> bool:
        """Delete one file. Return whether it existed."""

    def remove_area(self, key: str) -> bool:
        """Remove the area with all its files, at once for every reader. Return whether it existed.

        A file that was staged before and is not committed yet can no longer be committed, even if the area is created
        again.
        """

    def remove_all(self) -> None:
        """Remove all areas."""

    def usage(self, key: str) -> Usage:
        """Count the finished files of the area."""

    def total(self) -> Usage:
        """Count the finished files of all areas. May look at each file, so it may be slow."""

    def purge(self) -> None:
        """Free the space of everything removed so far. Return when that is done."""

    def sweep(self, living: Living, *, on_progress: Callable[[int, int], object] | None = None) -> int:
        """Remove areas whose key does not live, except those that another living process has written to.

        Args:
            living: Called with keys, with no lock held: with many at once, but not with all of very many. Returns those
                that live, perhaps among others. ``FileStore`` gives one that raises nothing and asks about at most
                1,000 keys at a time.
            on_progress: Called from time to time with the number of areas looked at so far and of all areas, with no
                lock held.

        Returns:
            The number of areas removed.
        """

    def close(self) -> None:
        """Give up locks and open files. Saved files stay. Using the backend again reopens it."""
