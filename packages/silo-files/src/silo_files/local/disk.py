"""File system operations that set our modes, follow no links and raise our errors.

Paths are plain strings here and in the modules above: creating a ``pathlib.Path`` costs as much as using it.
"""
# ruff: noqa: PTH101, PTH102, PTH112, PTH116, PTH120, PTH208

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys

from ..errors import StorageFull, UnsafeFolder

# Follow no link, and do not block on a pipe.
_SAFE = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
READ = os.O_RDONLY | _SAFE
_CREATE = os.O_CREAT | os.O_EXCL | _SAFE
APPEND = os.O_WRONLY | os.O_APPEND | _SAFE
LOCK = os.O_RDWR | _SAFE

FILE_MODE = 0o600
DIR_MODE = 0o700

RENAMES_BUSY_FOLDERS = os.name != "nt"
"""Whether the system renames a folder while a file in it is open."""

# Errors of opening a link or a socket.
_NOT_A_FILE = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO})
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_KINDS = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_fchmod = getattr(os, "fchmod", None)


def raise_if_full(error: OSError) -> None:
    """Raise ``StorageFull`` if ``error`` says that the disk is full or the user's quota is used up."""
    if error.errno in _FULL:
        raise StorageFull(error.errno or errno.ENOSPC) from error


def create_file(path: str, flags: int = os.O_WRONLY) -> int:
    """Create a file that must not exist yet, readable only by its owner whatever the umask. Return its descriptor."""
    fd = create_masked(path, flags)
    if _fchmod is not None:
        try:
            _fchmod(fd, FILE_MODE)
        except BaseException:
            os.close(fd)
            raise
    return fd


def create_masked(path: str, flags: int = os.O_WRONLY) -> int:
    """Create a file as ``create_file()`` does. The umask may deny even its owner access until ``unmask()``."""
    return os.open(path, _CREATE | flags, FILE_MODE)


def unmask(fd: int, status: os.stat_result) -> None:
    """Give an open file of this ``status`` the mode of our files, if the umask has changed that."""
    if status.st_mode & 0o777 != FILE_MODE and _fchmod is not None:
        _fchmod(fd, FILE_MODE)


def open_read(path: str, _flags: int = 0) -> int:
    """Open a regular file for reading; anything else counts as missing. Can be the ``opener`` of ``open()``."""
    try:
        fd = os.open(path, READ)
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            raise FileNotFoundError(errno.ENOENT, "not a file") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a file")
    except BaseException:
        os.close(fd)
        raise
    return fd


def other_kind(path: str) -> str | None:
    """Return what is at ``path``, such as ``"a link"``; None if it is a regular file or cannot be looked at."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "a device")


def open_lock(path: str) -> int:
    """Open a lock file for reading and writing. Create it if it is missing."""
    while True:
        try:
            return os.open(path, LOCK)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                return create_file(path, os.O_RDWR)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``, in as many system calls as that takes."""
    written = os.write(fd, data)
    if written == len(data):
        return
    with memoryview(data) as view:
        while written < len(view):
            written += os.write(fd, view[written:])


if sys.platform == "win32":

    def read_at_start(fd: int, count: int) -> bytes:
        """Return up to ``count`` bytes from the beginning of an open file."""
        os.lseek(fd, 0, os.SEEK_SET)
        return os.read(fd, count)

    def write_at(fd: int, data: bytes, position: int) -> None:
        """Write all of ``data`` at ``position`` of an open file."""
        os.lseek(fd, position, os.SEEK_SET)
        write_all(fd, data)

else:

    def read_at_start(fd: int, count: int) -> bytes:
        """Return up to ``count`` bytes from the beginning of an open file."""
        return os.pread(fd, count, 0)

    def write_at(fd: int, data: bytes, position: int) -> None:
        """Write all of ``data`` at ``position`` of an open file."""
        written = os.pwrite(fd, data, position)
        while written < len(data):
            written += os.pwrite(fd, data[written:], position + written)


def make_dir(path: str) -> None:
    """Create one folder for its owner only, whatever the umask, unless it exists. Its parent must exist.

    Raises:
        UnsafeFolder: A link or a file has this path.
    """
    try:
        os.mkdir(path, DIR_MODE)
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):  # another process may just have removed it
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise UnsafeFolder(path) from None
        return
    os.chmod(path, DIR_MODE)


def make_base(path: str, *, durable: bool) -> None:
    """Create the folder ``path`` for its owner only, and missing parents with the modes that the umask allows."""
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
    """Return whether ``path`` is a folder and not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def same_file(fd: int, path: str) -> bool:
    """Return whether ``path`` still leads to the open file ``fd``."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False


def sync_dir(path: str) -> None:
    """Sync a folder's entries to disk. Does nothing on Windows, which has no call for it."""
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def names_in(path: str) -> list[str]:
    """Return the names in a folder; an empty list if it is missing."""
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def free_bytes(path: str) -> int:
    """Return the bytes that this process may still write to the file system of ``path``."""
    if hasattr(os, "statvfs"):
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize
    import shutil  # takes milliseconds, as it imports modules for archives

    return shutil.disk_usage(path).free
