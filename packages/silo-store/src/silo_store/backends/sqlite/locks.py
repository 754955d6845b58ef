"""Locks between processes on single bytes of a file. The system frees them as soon as their process ends."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Iterable

from ...errors import StoreUnavailable
from ...fork import reset_after_fork

LOOK_EVERY = 0.005
"""Seconds between two checks that the open file is still the one at its path. A check takes as long as a lock."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.01  # seconds between two tries at a lock that is taken

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int, offset: int, *, shared: bool = False) -> bool:  # noqa: ARG001 - Windows has no shared lock here
        os.lseek(fd, offset, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(fd: int, offset: int) -> None:
        os.lseek(fd, offset, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, lockf

    _EXCLUSIVE, _SHARED = LOCK_EX | LOCK_NB, LOCK_SH | LOCK_NB

    def _lock(fd: int, offset: int, *, shared: bool = False) -> bool:
        try:
            lockf(fd, _SHARED if shared else _EXCLUSIVE, 1, offset)
        except (BlockingIOError, PermissionError):  # systems differ
            return False
        return True

    def _unlock(fd: int, offset: int) -> None:
        lockf(fd, LOCK_UN, 1, offset)


class LockFile:
    """The locks that this process has on the bytes of one file. Nothing is written into it.

    The system tracks such locks by process, and frees them all when the process closes the file once. So a process has
    one ``LockFile`` for each path, see ``lock_file``. It opens the file once and remembers what it has locked. A forked
    child has none of its parent's locks.

    Attributes:
        path: The file, created at the first lock.
        opening: Keeps threads apart that open the database to which this file belongs.
    """

    def __init__(self, path: str, like: str) -> None:
        self.path = path
        self._like = like
        self._fd = -1
        self._inode = (0, 0)
        self._look_at = 0.0
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin without locks: the parent keeps them. The child can use the open file."""
        self._mutex = threading.Lock()
        self.opening: threading.Lock = threading.Lock()
        self._held: dict[str, int] = {}
        self._taken: set[int] = set()

    def take(self, offset: int) -> str | None:
        """Lock a byte and return a token that unlocks it; None if this or another process has it locked.

        Raises:
            StoreUnavailable: The file cannot be opened or locked.
        """
        with self._mutex:
            try:
                fd = self._current()
                if offset in self._taken or not _lock(fd, offset):
                    return None
            except OSError as error:
                raise self._unavailable(error) from error
            token = str(next(_tokens))
            self._held[token] = offset
            self._taken.add(offset)
            return token

    def wait(self, offset: int, timeout: float) -> str | None:
        """Lock a byte like ``take``, waiting up to ``timeout`` seconds for it."""
        token = self.take(offset)
        if token is None:
            deadline = time.monotonic() + timeout
            pause = _FIRST_PAUSE
            while token is None and (left := deadline - time.monotonic()) > 0:
                time.sleep(min(left, pause * (0.5 + random.random())))  # noqa: S311 - spreads the waiting threads
                pause = min(1.5 * pause, _LONGEST_PAUSE)
                token = self.take(offset)
        return token

    def has(self, token: str) -> bool:
        """Return whether this process still has the lock of a token."""
        return token in self._held

    def give_back(self, token: str) -> None:
        """Unlock a byte. Do nothing if this process does not have the lock, as in a child of the owner."""
        with self._mutex:
            offset = self._held.pop(token, None)
            if offset is not None:
                self._taken.discard(offset)
                try:  # noqa: SIM105 - suppress() takes as long as unlocking
                    _unlock(self._fd, offset)
                except OSError:  # the caller could not do anything about it
                    pass

    def taken(self, offsets: Iterable[int], but: str | None = None) -> set[int]:
        """Return which of the bytes are locked by this or another process, leaving out the lock of token ``but``.

        Raises:
            StoreUnavailable: The file cannot be opened or locked.
        """
        with self._mutex:
            try:
                fd = self._current()
                own = self._held.get(but or "")
                return {offset for offset in offsets if offset != own and self._is_taken(fd, offset)}
            except OSError as error:
                raise self._unavailable(error) from error

    def _is_taken(self, fd: int, offset: int) -> bool:
        if offset in self._taken:
            return True
        if not _lock(fd, offset, shared=True):  # shared: two processes that check do not see each other as owners
            return True
        _unlock(fd, offset)
        return False

    def close(self) -> None:
        """Close the file if this process has nothing locked. It is opened again when needed."""
        with self._mutex:
            if not self._held:
                self._close()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        fd, self._fd, self._inode, self._look_at = self._fd, -1, (0, 0), 0.0
        if fd >= 0:
            os.close(fd)

    def _current(self) -> int:
        """Return a descriptor of the file at the path. If the file was deleted or replaced, open it again."""
        now = time.monotonic()
        if now < self._look_at:
            return self._fd
        try:
            found = os.stat(self.path)  # noqa: PTH116 - for many claims: pathlib takes as long again
        except FileNotFoundError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._inode:
            self._reopen()
        self._look_at = now + LOOK_EVERY
        return self._fd

    def _reopen(self) -> None:
        """Open the file at the path, and lock the bytes that this process had locked in the previous file.

        A byte that another process has locked there in the meantime is lost.
        """
        fd = _open(self.path, self._like)
        try:
            lost = [token for token, offset in self._held.items() if not _lock(fd, offset)]
            opened = os.fstat(fd)
        except BaseException:
            os.close(fd)
            raise
        for token in lost:
            self._taken.discard(self._held.pop(token))
        self._close()
        self._fd, self._inode = fd, (opened.st_dev, opened.st_ino)

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"sessions cannot be locked in {self.path}: {error.strerror or error}")


def _open(path: str, like: str) -> int:
    """Open the lock file. If it is missing, create it with the rights of the database."""
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            model = os.stat(like)  # noqa: PTH116
            os.fchmod(fd, model.st_mode & 0o666)
            if os.geteuid() == 0:
                os.fchown(fd, model.st_uid, model.st_gid)
    return fd


_tokens = itertools.count(1)  # continues in a forked child, so that the parent's tokens are not valid there


class _Files:
    """The lock files that are in use in this process."""

    def __init__(self) -> None:
        self._files: weakref.WeakValueDictionary[str, LockFile] = weakref.WeakValueDictionary()
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def of(self, path: str, like: str) -> LockFile:
        with self._lock:
            found = self._files.get(path)
            if found is None:
                found = self._files[path] = LockFile(path, like)
            return found


_files = _Files()


def byte_of(sid: str) -> int:
    """Return the byte of the lock file that stands for a session. Two sessions share one by chance only.

    The hash of a number is its remainder of division by a prime near ``2 ** 61``, the same in each process.
    """
    return hash(int.from_bytes(sid.encode(), "little"))


def lock_file(path: str) -> LockFile:
    """Return this process's locks for a file. They are on the file beside it whose name ends in ``-locks``.

    Args:
        path: The file, without symbolic links.
    """
    return _files.of(path + "-locks", path)
