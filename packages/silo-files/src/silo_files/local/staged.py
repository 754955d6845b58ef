"""A file that is being written to the local disk."""
# ruff: noqa: PTH105, PTH106, PTH108, PTH120  (see disk.py)

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from ..backend import Block, FileInfo, SavedPath
from ..errors import AreaGone
from .disk import raise_if_full, sync_dir, write_all


def describe(name: str, status: os.stat_result) -> FileInfo:
    """Return what ``stat()`` says about the file ``name``."""
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return FileInfo(name, status.st_size, status.st_mtime, etag)


class LocalStagedFile:
    """A file that is being written in the folder of its writer, within the area.

    The rename that removes the area takes the file along. A commit then finds it gone, even if the area was created
    again.
    """

    __slots__ = ("_durable", "_fd", "_folder", "_name", "_part", "_record", "_status", "_target", "_unfinished")

    def __init__(
        self,
        fd: int,
        part: str,
        name: str,
        target: str,
        *,
        durable: bool,
        record: Callable[[], None],
        unfinished: set[str],
    ) -> None:
        unfinished.add(part)
        self._unfinished = unfinished
        self._fd = fd
        self._name = name
        self._status: os.stat_result | None = None
        self._folder = os.path.dirname(part)
        self._part = part
        self._target = target
        self._durable = durable
        self._record = record

    def write(self, block: Block, /) -> None:
        """Append ``block``.

        Raises:
            StorageFull: There is no room left.
        """
        try:
            write_all(self._fd, block)
        except OSError as error:
            raise_if_full(error)
            raise

    def finish(self) -> None:
        """Close the file; if it is to be durable, sync it to disk first.

        Raises:
            StorageFull: There is no room left.
        """
        try:
            if os.utime in os.supports_fd:
                # The kernel's own times tick every few milliseconds, and two contents need two ETags.
                now = time.time_ns()
                os.utime(self._fd, ns=(now, now))
            self._status = os.fstat(self._fd)
            if self._durable:
                os.fsync(self._fd)
            self._close()
        except OSError as error:
            raise_if_full(error)
            raise

    def commit(self) -> SavedPath:
        """Record the name and rename the file into place. Return its path.

        Raises:
            AreaGone: The area was removed.
            StorageFull: There is no room left for the name.
        """
        try:
            # The name of an existing file is in a journal already.
            if not os.path.lexists(self._target):
                self._record()
            os.replace(self._part, self._target)
            self._unfinished.discard(self._part)
            self._part = ""
            if self._durable:
                sync_dir(os.path.dirname(self._target))
        except FileNotFoundError:
            raise AreaGone from None
        except OSError as error:
            raise_if_full(error)
            raise
        assert self._status is not None, "finish() comes first"
        return SavedPath(self._target, describe(self._name, self._status))

    def abort(self) -> None:
        """Delete what was written so far. Does nothing after ``commit()``."""
        with contextlib.suppress(OSError):
            self._close()
        if self._part:
            with contextlib.suppress(OSError):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._part)
                self._unfinished.discard(self._part)
            self._part = ""
            # An area that was removed piece by piece may leave these folders behind. They would obstruct the next save,
            # or stay for good. A folder in use is not empty, so it is kept.
            for folder in (self._folder, os.path.dirname(self._folder)):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
