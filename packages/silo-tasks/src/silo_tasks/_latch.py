"""An event that costs next to nothing until somebody waits for it."""

from __future__ import annotations

import threading


class Latch:
    """Starts open, is set once, stays set."""

    __slots__ = ("_box", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._box: dict[str, threading.Event] = {}

    def set(self) -> None:
        """Let every waiter go, now and later."""
        self.is_set = True
        event = self._box.get("event")
        if event is not None:
            event.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds (None: for ever); whether the latch is set."""
        if self.is_set:
            return True
        # setdefault is atomic, so two waiters share one event without a lock.
        event = self._box.setdefault("event", threading.Event())
        # set() may have looked for the event just before it was there.
        if self.is_set:
            return True
        return event.wait(timeout)
