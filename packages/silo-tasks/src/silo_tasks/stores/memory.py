"""A task store in this process's memory."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from ..fork import reset_after_fork
from .base import Record
from .stored_run import LEASE, Change, Slot, SlotStore


class MemoryTaskStore(SlotStore):
    """Keeps records in a dict; for one process. See `TaskStore` for the rules.

    Args:
        lease: Seconds after which a run that nothing was heard of reads as lost.
        clock: Seconds since the epoch, for tests. By default it does not follow when the system's time is set.
    """

    def __init__(self, *, lease: float = LEASE, clock: Callable[[], float] | None = None) -> None:
        self.lease = lease
        ahead = time.time() - time.monotonic()
        self._clock = clock or (lambda: time.monotonic() + ahead)
        self._slots: dict[tuple[str, str], Slot] = {}
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()

    def look(self, owner: str, name: str) -> tuple[Slot | None, float]:
        """Return what is stored of a task, and the time by the store's clock."""
        return self._slots.get((owner, name)), self._clock()

    def change(self, owner: str, name: str, change: Change) -> bool:
        """Store what `change` makes of what is stored."""
        key, now = (owner, name), self._clock()
        with self._lock:
            slot = self._slots.get(key)
            new = change(slot, now)
            if isinstance(new, bool):
                return new
            if new is None:
                del self._slots[key]
            else:
                # A stored record is replaced, never changed, so it can be copied out without the lock.
                own = new.record if slot is not None and new.record is slot.record else _copy(new.record)
                self._slots[key] = replace(new, record=own)
            return True

    def read(self, owner: str, name: str) -> tuple[str, Record] | None:
        """The token and the record of the newest run, or None."""
        found = super().read(owner, name)
        return None if found is None else (found[0], _copy(found[1]))


def _copy(record: Record) -> Record:
    # As every store elsewhere does: a value comes back the same, wherever it was.
    copy: Record = json.loads(json.dumps(record))
    return copy
