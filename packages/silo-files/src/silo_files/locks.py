"""Locks: one for each key within the process, and one on a file between processes."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from .fork import reset_after_fork

_STRIPES = 64


class KeyLocks:
    """A lock for each key. Some keys share one, so hold one at a time, or all."""

    def __init__(self) -> None:
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Replace the locks: a thread that is not in the child may have held one."""
        self._locks = tuple(threading.Lock() for _ in range(_STRIPES))

    def of(self, key: str) -> threading.Lock:
        """Return the lock of `key`."""
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
        """Lock the open file `fd` against other openings of it. Return False if it is taken and not `wait`.

        Windows has no shared lock here, so `shared` is exclusive too: slower, not wrong.
        """
        while True:
            try:
                msvcrt.locking(fd, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError:
                # LK_LOCK gives up after ten seconds; waiting means waiting.
                if not wait:
                    return False
            else:
                return True

    def unlock_fd(fd: int) -> None:
        """Give the lock up."""
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def lock_fd(fd: int, *, shared: bool = False, wait: bool = True) -> bool:
        """Lock the open file `fd` against other openings of it. Return False if it is taken and not `wait`.

        Closing the file, or the end of the process however it comes, gives the lock up.
        """
        mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(fd, mode if wait else mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock_fd(fd: int) -> None:
        """Give the lock up, also for a child that was forked while it was held: closing would not."""
        fcntl.flock(fd, fcntl.LOCK_UN)
