"""A lock for each key, within the process."""

from __future__ import annotations

import contextlib
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
