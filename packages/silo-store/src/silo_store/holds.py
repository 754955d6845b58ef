"""Counting what holds sessions in one process."""

from __future__ import annotations

import threading
from collections import Counter


class HoldCounts:
    """The part of a `Backend` that keeps held lives from expiring, for backends of one process."""

    def __init__(self) -> None:
        self.release_all()

    def release_all(self) -> None:
        """Begin with no holds."""
        self._hold_lock = threading.Lock()
        self._holds: Counter[str] = Counter()

    def hold(self, uid: str) -> None:
        """Keep a life from expiring until `unhold` is called as often."""
        with self._hold_lock:
            self._holds[uid] += 1

    def unhold(self, uid: str) -> None:
        """Take one `hold` back."""
        with self._hold_lock:
            self._holds[uid] -= 1
            if self._holds[uid] <= 0:
                del self._holds[uid]

    def held(self, uid: str) -> bool:
        """Say whether a life is held."""
        return uid in self._holds
