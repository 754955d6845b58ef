"""Few, plain operations on the disk, with our modes and our errors.

Paths are plain strings here and in the modules above: with pathlib, making a path costs as much as using it.
"""
# ruff: noqa: PTH101, PTH102, PTH208

from __future__ import annotations

import errno
import os
import stat

from silo_files.errors import StorageFull

READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
APPEND = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
LOCK = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)

FILE_MODE = 0o600
DIR_MODE = 0o700

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_fchmod = getattr(os, "fchmod", None)


def raise_if_full(error: OSError) -> None:
    """Raise `StorageFull` if the system says that the disk or the user's share of it is full."""
    if error.errno in _FULL:
        raise StorageFull(error.errno, "no room left for the file") from error


def create_file(path: str) -> int:
    """Create a file that must not exist, readable by its owner alone whatever the umask. Return its descriptor."""
    fd = os.open(path, CREATE, FILE_MODE)
    if _fchmod is not None:
        try:
            _fchmod(fd, FILE_MODE)
        except BaseException:
            os.close(fd)
            raise
    return fd


def open_read(path: str, _flags: int = 0) -> int:
    """Open a file for reading, but not through a link. Serves as `opener` too."""
    return os.open(path, READ)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`; the system may take it in parts."""
    written = os.write(fd, data)
    if written == len(data):
        return
    with memoryview(data) as view:
        while written < len(view):
            written += os.write(fd, view[written:])


def make_dir(path: str) -> None:
    """Make one folder for its owner alone whatever the umask, if it is not there. The parent must exist."""
    try:
        os.mkdir(path, DIR_MODE)
    except FileExistsError:
        return
    os.chmod(path, DIR_MODE)


def is_real_dir(path: str) -> bool:
    """Tell whether `path` is a folder and not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def sync_dir(path: str) -> None:
    """Bring a folder's entries to the disk, where the system offers it."""
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def names_in(path: str) -> list[str]:
    """Return the names in a folder, none if it is not there."""
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
