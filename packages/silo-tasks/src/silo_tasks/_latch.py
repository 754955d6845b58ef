"""An event that costs next to nothing until somebody waits for it."""

from __future__ import annotations

import threading


class Latch:
    """Starts open, is set once, stays set.

    Each waiter hangs on a lock of its own, which is half the price of a `threading.Event`. It needs no lock around its
    list of waiters, as a single append or pop is atomic.
    """

    __slots__ = ("_waiters", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._waiters: list[threading.Lock] = []

    def set(self) -> None:
        """Let every waiter go, now and later."""
        self.is_set = True
        waiters = self._waiters
        while waiters:
            try:
                waiter = waiters.pop()
            except IndexError:
                # A waiter whose time was up has just left.
                return
            waiter.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds (None: for ever); whether the latch is set."""
        if self.is_set:
            return True
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        # set() may have emptied the list just before this waiter was on it.
        if self.is_set:
            return True
        waiter.acquire(timeout=-1 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))
        if not self.is_set:
            try:
                self._waiters.remove(waiter)
            except ValueError:
                # set() is about to let this one go.
                return True
        return self.is_set
