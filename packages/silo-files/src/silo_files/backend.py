"""The seam below `FileStore`: what a place that keeps files must be able to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol, runtime_checkable

Block = bytes | bytearray | memoryview
"""A piece of a file. A memoryview is valid only until the next block is asked for."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A saved file."""

    name: str
    """The name it was saved under."""
    size: int
    """Its size in bytes."""
    modified: float
    """When it was saved, in seconds since 1970 (UTC)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What lies in one session's area, or in all of them."""

    bytes: int
    """Bytes of all finished files."""
    files: int
    """Number of finished files."""


class StagedFile(Protocol):
    """A file that is being written and that nobody sees yet."""

    def write(self, block: Block, /) -> None:
        """Append `block`. Raises `StorageFull` when there is no room."""

    def finish(self) -> None:
        """All blocks are written: do now what is slow. Called once, before `commit`, with no lock held.

        Raises `StorageFull` when there is no room.
        """

    def commit(self) -> str:
        """Let the whole file appear under its name at once, in place of an older one. Return its location.

        Raises `AreaGone` if the area was removed since `stage`, `StorageFull` when there is no room. After an
        error the caller calls `abort`.
        """

    def abort(self) -> None:
        """Throw the bytes away. Never raises an error of the storage; does nothing after `commit`."""


@runtime_checkable
class FileBackend(Protocol):
    """Keeps named files in areas, one area for each key.

    Keys and names have passed the gate. All methods may be called from several threads at once. An area exists
    from the first `stage` or `area_path(create=True)` until `remove_area`; an unknown key is an empty area.
    """

    def stage(self, key: str, name: str) -> StagedFile:
        """Begin to write a file. Raises `StorageFull` when there is no room."""

    def path(self, key: str, name: str) -> str | None:
        """Return the absolute path of the finished file; None if there is none, or no local path leads to it."""

    def area_path(self, key: str, *, create: bool) -> str | None:
        """Return the absolute path of the area's folder, or None if the backend has no folders."""

    def stat(self, key: str, name: str) -> FileInfo | None:
        """Describe a finished file; None if there is none."""

    def open(self, key: str, name: str) -> BinaryIO:
        """Open a finished file for reading. Raises `FileMissing`."""

    def list(self, key: str) -> list[FileInfo]:
        """Describe all finished files of the area, ordered by name."""

    def delete(self, key: str, name: str) -> bool:
        """Delete one file. Return whether there was one."""

    def remove_area(self, key: str) -> bool:
        """Remove the area with all it holds, at once for everybody. Return whether there was one.

        A file staged before and not yet committed can no longer be committed, even if the area is made anew.
        """

    def remove_all(self) -> None:
        """Remove all areas."""

    def usage(self, key: str) -> Usage:
        """Count the finished files of the area."""

    def total(self) -> Usage:
        """Count the finished files of all areas. May be slow: it may look at each file."""

    def purge(self) -> None:
        """Free the room of what was removed, and return when that is done."""

    def sweep(self, is_live: Callable[[str], bool]) -> int:
        """Remove areas that no living process wrote to and whose key is not live. Return how many.

        `is_live` is called with no lock held. If it raises, the area stays.
        """

    def close(self) -> None:
        """Give up locks and files that the backend holds open. Saved files stay; using it again reopens."""
