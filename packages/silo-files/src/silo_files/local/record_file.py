"""The files of counts: opened and locked, each with one record."""
# ruff: noqa: PTH120  (see disk.py)

from __future__ import annotations

import contextlib
import os

from ..errors import FolderUnusable, UnsafeCounts
from ..fork import reset_after_fork
from .disk import LOCK, open_lock, other_kind, raise_if_full
from .file_lock import lock_fd, unlock_fd
from .record import Record, mark_uncertain, write_record
from .reserved import Reserved


class RecordFiles:
    """Locks files of counts. A forked child closes those that its parent has locked.

    Args:
        base: The base folder, which errors name.
    """

    def __init__(self, base: str) -> None:
        self._base = base
        self._open: set[int] = set()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Close what the parent has locked."""
        for fd in self._open:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._open = set()

    def lock(self, path: str, *, create: bool = False) -> int:
        """Open and lock a file. Return its descriptor.

        Raises:
            FolderUnusable: This process may not write to the file.
            StorageFull: There is no room left for the file.
            UnsafeCounts: There is something else in its place.
        """
        try:
            fd = open_lock(path) if create else os.open(path, LOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            raise_if_full(error)
            self.require_file(path)
            if isinstance(error, PermissionError):
                raise FolderUnusable(os.path.dirname(path), error.errno) from error
            raise
        self._open.add(fd)
        try:
            lock_fd(fd)
        except BaseException:
            self.release(fd)
            raise
        return fd

    def release(self, fd: int) -> None:
        """Unlock and close a file."""
        self._open.discard(fd)
        try:
            unlock_fd(fd)
        finally:
            os.close(fd)

    def require_file(self, path: str) -> None:
        """Raise ``UnsafeCounts`` if there is anything but a file in place of a record."""
        found = other_kind(path)
        if found is not None:
            raise UnsafeCounts(path, found, self._base)


class LockedRecord:
    """A record whose file is open and locked.

    Args:
        files: Locked the file.
        reserved: What this process has reserved.
        fd: Descriptor of the file.
        name: The digest of the area; "" for the store.
        record: The counts.

    Attributes:
        record: The counts, with what this process has reserved.
    """

    __slots__ = ("_fd", "_files", "_name", "_reserved", "record")

    def __init__(self, files: RecordFiles, reserved: Reserved, fd: int, name: str, record: Record) -> None:
        self._files = files
        self._reserved = reserved
        self._fd = fd
        self._name = name
        self.record: Record = record
        if reserved.owned or record.reserved:
            reserved.state(name, record)

    def doubt(self) -> None:
        """Mark the record as uncertain: files are about to change."""
        mark_uncertain(self._fd)

    def own(self, bytes: int, files: int) -> None:
        """Add to what this process has reserved here. Does not write the record."""
        self._reserved.add(self._name, bytes, files)
        self._reserved.state(self._name, self.record)

    def write(self) -> None:
        """Write the record, which is certain then. A negative one stays uncertain."""
        record = self.record
        if record.bytes >= 0 and record.files >= 0:
            write_record(self._fd, record)

    def drop_dead(self) -> bool:
        """Drop the reservations of dead processes, without writing that. Return whether there were any."""
        return self._reserved.drop_dead(self.record)

    def close(self) -> None:
        """Release the lock."""
        self._files.release(self._fd)
