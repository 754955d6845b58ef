"""``MovedFile``, a local file that is moved into a store."""
# ruff: noqa: PTH108, PTH116, PTH101, PTH118, PTH120  (see local/disk.py)

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator

from .backend import Block
from .errors import InvalidSource
from .source import check_unchanged, read_blocks

logger = logging.getLogger("silo_files")

# Follow no link, and do not block on a pipe that took the place of the file.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class MovedFile:
    """A local file, open for reading, that is removed once a store has saved it.

    As a context manager it closes the file and, after an error, gives it back the mode and the times that it had.

    Args:
        path: Path of the file.
        base_dir: The folder of the store, whose own files cannot be moved.

    Attributes:
        path: Absolute path of the file.
        status: What ``os.fstat()`` said about the file when it was opened.

    Raises:
        InvalidSource: The path leads to a link, a folder or a device, or into ``base_dir``.
        PermissionError: This process may not remove the file.
    """

    def __init__(self, path: os.PathLike[str], base_dir: str) -> None:
        folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - follows no link
        folder = os.path.realpath(folder)
        self.path: str = os.path.join(folder, name)
        if _is_inside(folder, base_dir):
            raise InvalidSource("it is a file of the store: open it, and save what is open")
        # A device is not even opened: some begin to work then.
        _check_regular(os.lstat(self.path))
        try:
            fd = os.open(self.path, _READ)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise InvalidSource("it is a link: give the path of the file itself") from None
            raise
        try:
            self.status: os.stat_result = os.fstat(fd)
            _check_regular(self.status)
            _check_removable(folder, self.status)
            self._file = os.fdopen(fd, "rb", buffering=0)
        except BaseException:
            os.close(fd)
            raise

    @property
    def size(self) -> int:
        """Its number of bytes."""
        return self.status.st_size

    def __enter__(self) -> MovedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is not None:
            self._restore()

    def blocks(self) -> Iterator[Block]:
        """Yield the bytes of the file in blocks."""
        return read_blocks(self._file)

    def close(self) -> None:
        """Close the file, which Windows does not rename while it is open.

        Raises:
            InvalidSource: Another process has changed the file since it was opened.
        """
        now = os.fstat(self._file.fileno())
        self._file.close()
        check_unchanged(self.status, now)

    def remove(self) -> None:
        """Remove the file: it is saved. If that fails, the log says so."""
        try:
            if os.path.samestat(os.lstat(self.path), self.status):
                os.unlink(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("a file was saved, and could not be removed from where it was: %s", error)

    def _restore(self) -> None:
        with contextlib.suppress(OSError):
            # With another link it is saved already, and has the mode and the times of a saved file.
            if os.path.samestat(now := os.lstat(self.path), self.status) and now.st_nlink == 1:
                if now.st_mode != self.status.st_mode:
                    os.chmod(self.path, stat.S_IMODE(self.status.st_mode))
                if now.st_mtime_ns != self.status.st_mtime_ns and now.st_size == self.status.st_size:
                    os.utime(self.path, ns=(self.status.st_atime_ns, self.status.st_mtime_ns))


def _is_inside(folder: str, base_dir: str) -> bool:
    """Return whether a folder is ``base_dir`` or below it, also where names differ in case only, as on macOS."""
    try:
        base = os.stat(base_dir)
    except FileNotFoundError:
        return False
    above = ""
    while folder != above:
        if os.path.samestat(os.stat(folder), base):
            return True
        folder, above = os.path.dirname(folder), folder
    return False


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        is_link = stat.S_ISLNK(status.st_mode)
        raise InvalidSource("it is a link: give the path of the file itself" if is_link else "it is not a regular file")


def _check_removable(folder: str, status: os.stat_result) -> None:
    may_remove = os.access(folder, os.W_OK | os.X_OK)
    if may_remove and hasattr(os, "geteuid") and (above := os.stat(folder)).st_mode & stat.S_ISVTX:
        may_remove = os.geteuid() in (0, status.st_uid, above.st_uid)
    if not may_remove:
        reason = "this process may not remove the file, so it cannot be moved: open it, and save what is open"
        raise PermissionError(errno.EACCES, reason)
