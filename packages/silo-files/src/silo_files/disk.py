"""Few, plain operations on the disk, with our modes and our errors.

Paths are plain strings here and in the modules above: with pathlib, making a path costs as much as using it.
"""
# ruff: noqa: PTH101, PTH102, PTH112, PTH116, PTH120, PTH208

from __future__ import annotations

import contextlib
import errno
import os
import stat

from .errors import StorageFull, UnsafeFolder

# Not through a link, and not waiting for whoever may be at the other end of a pipe.
_SAFE = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_READ = os.O_RDONLY | _SAFE
_CREATE = os.O_CREAT | os.O_EXCL | _SAFE
APPEND = os.O_WRONLY | os.O_APPEND | _SAFE
LOCK = os.O_RDWR | _SAFE

FILE_MODE = 0o600
DIR_MODE = 0o700

# Opening a link, or a socket.
_NOT_A_FILE = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO})
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_fchmod = getattr(os, "fchmod", None)


def raise_if_full(error: OSError) -> None:
    """Raise `StorageFull` if the system says that the disk or the user's share of it is full."""
    if error.errno in _FULL:
        raise StorageFull(error.errno or errno.ENOSPC) from error


def create_file(path: str, flags: int = os.O_WRONLY) -> int:
    """Create a file that must not exist, readable by its owner alone whatever the umask. Return its descriptor."""
    fd = os.open(path, _CREATE | flags, FILE_MODE)
    if _fchmod is not None:
        try:
            _fchmod(fd, FILE_MODE)
        except BaseException:
            os.close(fd)
            raise
    return fd


def open_read(path: str, _flags: int = 0) -> int:
    """Open a regular file for reading; anything else counts as missing. Serves as `opener` too."""
    try:
        fd = os.open(path, _READ)
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            raise FileNotFoundError(errno.ENOENT, "not a file") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "not a file")
    return fd


def open_lock(path: str) -> int:
    """Open a file to be locked, and create it if it is not there."""
    while True:
        try:
            return os.open(path, LOCK)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                return create_file(path, os.O_RDWR)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`; the system may take it in parts."""
    written = os.write(fd, data)
    if written == len(data):
        return
    with memoryview(data) as view:
        while written < len(view):
            written += os.write(fd, view[written:])


def make_dir(path: str) -> None:
    """Make one folder for its owner alone whatever the umask, if it is not there. The parent must exist.

    Raises `UnsafeFolder` if there is a link or a file.
    """
    try:
        os.mkdir(path, DIR_MODE)
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):  # others may remove it meanwhile
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise UnsafeFolder(path) from None
        return
    os.chmod(path, DIR_MODE)


def make_base(path: str, *, durable: bool) -> None:
    """Make the folder `path` for its owner alone, and those above it as the umask says, if they are not there."""
    if os.path.isdir(path):
        return
    missing = [path]
    while not os.path.isdir(above := os.path.dirname(missing[-1])) and above != missing[-1]:
        missing.append(above)
    for folder in reversed(missing):
        try:
            os.mkdir(folder, DIR_MODE if folder == path else 0o777)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
        else:
            os.chmod(folder, os.stat(folder).st_mode | DIR_MODE)
        if durable:
            sync_dir(os.path.dirname(folder))


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
