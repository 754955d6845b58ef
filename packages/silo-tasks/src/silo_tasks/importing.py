"""The lock under which a running program imports what it needs only now."""

from __future__ import annotations

import contextlib
import os
import threading

from .fork import reset_after_fork

LONGEST_WAIT = 1.0
"""Seconds that a fork waits for an import. Not for ever: the logging module holds its lock during a fork, and an import
of that module takes the lock near its end."""


class _Importing:
    """The lock, to be held as ``with importing:``.

    A child that is forked while another thread imports a module can never import it. So a fork waits for the lock.
    """

    def __init__(self) -> None:
        self._after_fork()
        reset_after_fork(self)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before_fork, after_in_parent=self._after_in_parent)

    def _after_fork(self) -> None:
        # Reentrant: a garbage collection during an import may run code that imports.
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _before_fork(self) -> None:
        self._lock.acquire(timeout=LONGEST_WAIT)

    def _after_in_parent(self) -> None:
        with contextlib.suppress(RuntimeError):  # the fork has not got the lock
            self._lock.release()


importing: _Importing = _Importing()
