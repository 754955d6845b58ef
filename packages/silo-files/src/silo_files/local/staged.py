"""A file that is being written to the local disk."""
# ruff: noqa: PTH105, PTH106, PTH108, PTH120  (see disk.py)

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from ..backend import Block
from ..errors import AreaGone
from .disk import raise_if_full, sync_dir, write_all


class LocalStagedFile:
    """A file that is being written in the folder of its writer, within the area.

    The rename that removes the area takes the file along. A commit then finds it gone, even if the area was created
    again.
    """

    __slots__ = ("_durable", "_fd", "_folder", "_part", "_record", "_target")

    def __init__(self, fd: int, part: str, target: str, *, durable: bool, record: Callable[[], None]) -> None:
        self._fd = fd
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
            if self._durable:
                os.fsync(self._fd)
            self._close()
        except OSError as error:
            raise_if_full(error)
            raise

    def commit(self) -> str:
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
            self._part = ""
            if self._durable:
                sync_dir(os.path.dirname(self._target))
        except FileNotFoundError:
            raise AreaGone from None
        except OSError as error:
            raise_if_full(error)
            raise
        return self._target

    def abort(self) -> None:
        """Delete what was written so far. Does nothing after ``commit()``."""
        with contextlib.suppress(OSError):
            self._close()
        if self._part:
            with contextlib.suppress(OSError):
                os.unlink(self._part)
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
