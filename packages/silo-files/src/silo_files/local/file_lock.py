"""A lock on an open file, between processes and between openings within one."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import errno
    import msvcrt
    import os

    # What LK_NBLCK and LK_LOCK raise if another opening holds the lock: the latter gives up after ten seconds.
    _TAKEN = (errno.EACCES, errno.EDEADLK)

    # Windows locks bytes, and refuses to read or write locked ones. This byte lies beyond the content of every file.
    _LOCKED_BYTE = 1 << 30

    def lock_fd(fd: int, *, shared: bool = False, wait: bool = True) -> bool:  # noqa: ARG001
        """Lock the open file ``fd``. Return False if another opening of it holds the lock and ``wait`` is False.

        Windows has no shared lock here, so ``shared`` is exclusive too: slower, not wrong.
        """
        while True:
            os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(fd, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                if not wait:
                    return False
            else:
                return True

    def unlock_fd(fd: int) -> None:
        """Release the lock."""
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
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
