"""What this process has reserved in the records of counts."""

from __future__ import annotations

import threading
from collections import deque

from ..fork import reset_after_fork
from .owners import Owners
from .record import Record


class Reserved:
    """What this process has reserved, from memory: a record that was lost gets it back.

    Args:
        owners: Which processes are alive.

    Attributes:
        owned: Bytes and files, by the digest of the area; under "" in the store.
        lost: Arguments of ``Counts.give_back()`` for reservations that were collected as garbage, which must take no
            lock.
    """

    def __init__(self, owners: Owners) -> None:
        self._owners = owners
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Forget what the parent has reserved."""
        self._mutex = threading.Lock()
        self.owned: dict[str, tuple[int, int]] = {}
        self.lost: deque[tuple[str, int, int, bool]] = deque()

    def add(self, name: str, bytes: int, files: int) -> None:
        """Add to what is reserved in the record of an area, or in that of the store."""
        with self._mutex:
            had_bytes, had_files = self.owned.pop(name, (0, 0))
            if had_bytes + bytes or had_files + files:
                self.owned[name] = (had_bytes + bytes, had_files + files)

    def state(self, name: str, record: Record) -> None:
        """Put what is reserved into a record."""
        owned = self.owned.get(name)
        if owned is not None:
            record.reserved[self._owners.own_id()] = owned
        elif record.reserved and (owner := self._owners.held_id()) is not None:
            record.reserved.pop(owner, None)

    def drop_dead(self, record: Record) -> bool:
        """Drop the reservations of dead processes from a record. Return whether there were any."""
        dead = [owner for owner in record.reserved if not self._owners.is_alive(owner)]
        for owner in dead:
            del record.reserved[owner]
        return bool(dead)
