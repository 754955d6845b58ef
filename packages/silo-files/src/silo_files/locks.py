"""Locks: one for each key within the process, and one on a file between processes."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from .fork import reset_after_fork

_STRIPES = 64


class KeyLocks:
    """A lock for each key. Keys may share a lock, so a thread holds one at a time, or all."""

    def __init__(self) -> None:
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Replace the locks: a thread of the parent may have held one."""
        self._locks = tuple(threading.Lock() for _ in range(_STRIPES))

    def of(self, key: str) -> threading.Lock:
        """Return the lock of ``key``."""
        return self._locks[hash(key) % _STRIPES]

    @contextlib.contextmanager
    def all(self) -> Iterator[None]:
        """Hold the locks of all keys."""
        with contextlib.ExitStack() as stack:
            for lock in self._locks:
                stack.enter_context(lock)
            yield


if sys.platform == "win32":
    import msvcrt

    def lock_fd(fd: int, *, shared: bool = False, wait: bool = True) -> bool:  # noqa: ARG001
        """Lock the open file ``fd``. Return False if another opening of it holds the lock and ``wait`` is False.

        Windows has no shared lock here, so ``shared`` is exclusive too: slower, not wrong.
        """
        while True:
            try:
                msvcrt.locking(fd, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError:
                # LK_LOCK gives up after ten seconds: try again.
                if not wait:
                    return False
            else:
                return True

    def unlock_fd(fd: int) -> None:
        """Release the lock."""
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def lock_fd(fd: int, *, shared: bool = False, wait: bool = True) -> bool:
        """Lock the open file ``fd``. Return False if another opening of it holds the lock and ``wait`` is False.

        The lock is released when the file is closed or the process ends, however it ends.
        """
        mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(fd, mode if wait else mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock_fd(fd: int) -> None:
        """Release the lock, also in a child that was forked while it was held, where closing the file would not."""
        fcntl.flock(fd, fcntl.LOCK_UN)
