"""A task store in this process's memory."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass

from silo_tasks._fork import renew_after_fork
from silo_tasks.store import Record


@dataclass
class _Slot:
    token: str
    record: Record
    cancel: bool = False


class MemoryTaskStore:
    """Keeps records in a dict; for one process. See `TaskStore` for the rules."""

    def __init__(self) -> None:
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()

    def begin(self, owner: str, name: str, token: str, record: Record, *, expect: str | None) -> bool:
        """Make `token` the newest run if the newest one still is `expect`."""
        slot = _Slot(token, copy.deepcopy(record))
        with self._lock:
            now = self._slots.get((owner, name))
            if (None if now is None else now.token) != expect:
                return False
            self._slots[owner, name] = slot
            return True

    def publish(self, owner: str, name: str, token: str, record: Record) -> bool:
        """Replace the record if `token` is the newest run."""
        copied = copy.deepcopy(record)
        with self._lock:
            slot = self._find(owner, name, token)
            if slot is not None:
                slot.record = copied
            return slot is not None

    def read(self, owner: str, name: str) -> tuple[str, Record] | None:
        """The token and the record of the newest run, or None."""
        with self._lock:
            slot = self._slots.get((owner, name))
            if slot is None:
                return None
            token, record = slot.token, slot.record
        # A stored record is replaced, never changed, so it can be copied without the lock.
        return token, copy.deepcopy(record)

    def request_cancel(self, owner: str, name: str, token: str) -> bool:
        """Raise the cancel flag if `token` is the newest run."""
        with self._lock:
            slot = self._find(owner, name, token)
            if slot is not None:
                slot.cancel = True
            return slot is not None

    def cancel_requested(self, owner: str, name: str, token: str) -> bool:
        """Whether the flag is up or the run is no longer the newest."""
        with self._lock:
            slot = self._find(owner, name, token)
            return slot is None or slot.cancel

    def forget(self, owner: str, name: str, token: str) -> bool:
        """Delete the record if `token` is the newest run."""
        with self._lock:
            found = self._find(owner, name, token) is not None
            if found:
                del self._slots[owner, name]
            return found

    def _find(self, owner: str, name: str, token: str) -> _Slot | None:
        slot = self._slots.get((owner, name))
        return slot if slot is not None and slot.token == token else None
