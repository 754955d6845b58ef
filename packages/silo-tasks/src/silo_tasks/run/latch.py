"""An event that costs next to nothing until somebody waits for it."""

from __future__ import annotations

import threading
from typing import Protocol


class Waiter(Protocol):
    """Who waits for a latch: a lock that its thread hangs on, or whatever else wants to be told."""

    def release(self) -> None:
        """The latch is set. Called once, by the thread that set it; must not raise."""


class Latch:
    """Starts open, is set once, stays set.

    Each thread that waits hangs on a lock of its own, which is half the price of a `threading.Event`. It needs no lock
    around its list of waiters, as a single append or pop is atomic.
    """

    __slots__ = ("_waiters", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._waiters: list[Waiter] = []

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self._waiters)

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
        if not self.add(waiter):
            return True
        if timeout is None:
            waiter.acquire()
            return True
        waiter.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))
        return self.is_set or not self.remove(waiter)

    def add(self, waiter: Waiter) -> bool:
        """Have the waiter released by `set()`; False when the latch is set and nobody needs to wait any more."""
        self._waiters.append(waiter)
        # set() may have emptied the list just before this waiter was on it.
        return not self.is_set

    def remove(self, waiter: Waiter) -> bool:
        """Forget a waiter; False when `set()` has released it or is about to."""
        try:
            self._waiters.remove(waiter)
        except ValueError:
            return False
        return True
