"""An event that costs almost nothing until a caller waits for it."""

from __future__ import annotations

import threading
from typing import Protocol


class Waiter(Protocol):
    """Anything that can wait on a latch: it needs a ``release()`` method, as a lock has."""

    def release(self) -> None:
        """Wake the waiter: the latch is set. Called once, by the thread that set it; must not raise."""


class Latch:
    """A flag that is set once and stays set.

    Each waiting thread blocks on a lock of its own, which costs half as much as a ``threading.Event``. The list of
    waiters needs no lock, as a single append or pop is atomic.
    """

    __slots__ = ("_waiters", "is_set")

    def __init__(self) -> None:
        self.is_set: bool = False
        self._waiters: list[Waiter] = []

    @property
    def is_awaited(self) -> bool:
        """Whether a thread or a coroutine waits for the latch."""
        return bool(self._waiters)

    def set(self) -> None:
        """Set the flag and release every waiter."""
        self.is_set = True
        waiters = self._waiters
        while waiters:
            try:
                waiter = waiters.pop()
            except IndexError:
                # A waiter whose timeout has passed has just removed itself.
                return
            waiter.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds (None: no limit). Return whether the latch is set."""
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
        """Add a waiter, to be released by ``set()``. Return False if the latch is set already."""
        self._waiters.append(waiter)
        # set() may have emptied the list just before this waiter was on it.
        return not self.is_set

    def remove(self, waiter: Waiter) -> bool:
        """Remove a waiter. Return False if ``set()`` has released it or is about to."""
        try:
            self._waiters.remove(waiter)
        except ValueError:
            return False
        return True
