"""A file that is being written to the local disk."""
# ruff: noqa: PTH101, PTH105, PTH106, PTH108  (see disk.py)

from __future__ import annotations

import builtins
import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from ..backend import Block, FileInfo, SavedPath
from ..errors import AreaGone
from ..names import hash_name
from ..source import check_unchanged
from .disk import FILE_MODE, create_masked, open_read, raise_if_full, sync_dir, unmask, write_all

_geteuid = getattr(os, "geteuid", None)
_SETS_TIMES_OF_OPEN_FILES = os.utime in os.supports_fd


def describe(name: str, status: os.stat_result) -> FileInfo:
    """Return what ``stat()`` says about the file ``name``."""
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return FileInfo(name, status.st_size, status.st_mtime, etag)


class LocalStagedFile:
    """A file that is being written in the folder of its writer, within the area.

    The rename that removes the area takes the file along. A commit then finds it gone, even if the area was created
    again.
    """

    __slots__ = (
        "_adopted",
        "_area",
        "_durable",
        "_fd",
        "_folder",
        "_name",
        "_part",
        "_record",
        "_status",
        "_unfinished",
    )

    def __init__(
        self,
        fd: int,
        part: str,
        folder: str,
        area: str,
        name: str,
        *,
        durable: bool,
        record: Callable[[str], None],
        unfinished: set[str],
    ) -> None:
        unfinished.add(part)
        self._unfinished = unfinished
        self._fd = fd
        self._name = name
        self._adopted: os.stat_result | None = None
        self._status: os.stat_result | None = None
        self._area = area
        self._folder = folder
        self._part = part
        self._durable = durable
        self._record = record

    def write(self, block: Block, /) -> None:
        """Append ``block``.

        Raises:
            StorageFull: There is no room left.
        """
        self._require_own()
        try:
            write_all(self._fd, block)
        except OSError as error:
            raise_if_full(error)
            raise

    def adopt(self, path: str, status: os.stat_result, /) -> bool:
        """Make the unfinished file another link of the file at ``path``. Return whether that was possible.

        A file on another file system, with more links, or of another user cannot be taken.

        Raises:
            AreaGone: The area was removed.
        """
        if status.st_nlink != 1 or (_geteuid is not None and status.st_uid != _geteuid()):
            return False
        self._close()
        try:
            os.unlink(self._part)
            with contextlib.suppress(OSError):  # another file system, or one without links
                os.link(path, self._part)
                self._fd = open_read(self._part)
                found = os.fstat(self._fd)
                if os.path.samestat(found, status) and found.st_nlink == 2:
                    self._adopted = status
                    return True
            self._close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._part)
            self._fd = create_masked(self._part)
        except (FileNotFoundError, NotADirectoryError):
            raise AreaGone from None
        return False

    def finish(self) -> None:
        """Close the file; if it is to be durable, sync it to disk first.

        Raises:
            StorageFull: There is no room left.
        """
        try:
            if self._adopted is None and _SETS_TIMES_OF_OPEN_FILES:
                # The kernel's own times tick every few milliseconds, and two contents need two ETags.
                now = time.time_ns()
                os.utime(self._fd, ns=(now, now))
            self._status = os.fstat(self._fd)
            if self._adopted is None:
                unmask(self._fd, self._status)
            if self._durable:
                os.fsync(self._fd)
            self._close()
        except OSError as error:
            raise_if_full(error)
            raise

    def open(self) -> BinaryIO:
        """Open what was written, for reading. The caller closes it.

        Raises:
            AreaGone: The area was removed.
        """
        try:
            return builtins.open(self._part, "rb", opener=open_read)
        except (FileNotFoundError, NotADirectoryError):
            raise AreaGone from None

    def commit(self, name: str | None = None, /) -> SavedPath:
        """Record the name and rename the file into place. Return its path.

        Raises:
            AreaGone: The area was removed.
            InvalidSource: Another process has changed the adopted file.
            StorageFull: There is no room left for the name.
        """
        assert self._status is not None, "finish() comes first"
        self._require_own()
        name = name or self._name
        target = f"{self._area}/{hash_name(name)}"
        try:
            # The name of an existing file is in a journal already.
            if not os.access(target, os.F_OK):
                self._record(name)
            if self._adopted is not None:
                self._own(self._adopted)
            os.replace(self._part, target)
            self._unfinished.discard(self._part)
            self._part = ""
        except FileNotFoundError:
            raise AreaGone from None
        except OSError as error:
            raise_if_full(error)
            raise
        if self._durable:
            sync_dir(self._area)  # an error here does not fail the save: the file is in its place
        return SavedPath(target, partial(describe, name, self._status))

    def _own(self, before: os.stat_result) -> None:
        """Give the adopted file, which is still at its old place too, the mode and the time of a saved file."""
        check_unchanged(before, os.lstat(self._part))
        os.chmod(self._part, FILE_MODE)
        now = time.time_ns()
        os.utime(self._part, ns=(now, now))
        self._status = os.lstat(self._part)

    def abort(self) -> None:
        """Delete what was written so far. Does nothing after ``commit()``."""
        with contextlib.suppress(OSError):
            self._close()
        if self._part in self._unfinished:
            with contextlib.suppress(OSError):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._part)
                self._unfinished.discard(self._part)
            self._part = ""
            # An area that was removed piece by piece may leave these folders behind. They would obstruct the next save,
            # or stay for good. A folder in use is not empty, so it is kept.
            for folder in (self._folder, self._area):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)

    def __del__(self) -> None:
        # A caller has lost it without ``commit()`` or ``abort()``.
        if self._fd >= 0 or self._part:
            self.abort()

    def _require_own(self) -> None:
        if self._part not in self._unfinished:
            raise ValueError("another process began to write this file: only that process can write and save it")

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
