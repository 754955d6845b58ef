"""A task store in the memory of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..checks import check_number
from ..fork import reset_after_fork
from .base import RunChange, TaskStore
from .stored_run import LEASE, StoredRun, TaskRecord


class MemoryTaskStore(TaskStore):
    """Keeps records in a dict, for one process.

    Args:
        lease: Seconds without a report after which a run reads as lost.
        clock: Seconds since the epoch, for tests. The default does not follow changes of the system's time.

    Raises:
        ValueError: ``lease`` is not positive.
        TypeError: ``lease`` is not a number.
    """

    def __init__(self, *, lease: float = LEASE, clock: Callable[[], float] | None = None) -> None:
        check_number("lease", lease, " of seconds")
        if not lease > 0:
            raise ValueError("lease must be positive")
        self.lease = lease
        ahead = time.time() - time.monotonic()
        self._clock = clock or (lambda: time.monotonic() + ahead)
        self._runs: dict[tuple[str, str], StoredRun] = {}
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()

    def look(self, owner: str, name: str) -> tuple[StoredRun | None, float]:
        """Return the stored run of a task, or None, and the store's time. The record must not be changed."""
        return self._runs.get((owner, name)), self._clock()

    def read(self, owner: str, name: str) -> tuple[str, TaskRecord] | None:
        """Return the token and a copy of the record of the newest run; None if nothing is stored."""
        # Not in look(), which is called twice a second for each running task and copies nothing.
        found = super().read(owner, name)
        return None if found is None else (found[0], _copy(found[1]))

    def change(self, owner: str, name: str, change: RunChange) -> bool:
        """Replace the stored run of a task by what ``change`` returns."""
        key, now = (owner, name), self._clock()
        with self._lock:
            stored = self._runs.get(key)
            new = change(stored, now)
            if isinstance(new, bool):
                return new
            if new is None:
                del self._runs[key]
            else:
                # A stored record is replaced, never changed, so that readers need no lock.
                own = new.record if stored is not None and new.record is stored.record else _copy(new.record)
                self._runs[key] = new._replace(record=own)
            return True


def _copy(record: TaskRecord) -> TaskRecord:
    import json  # a task without a store does not need it

    # Through JSON, so that a value comes back as it does from a store that processes share.
    copy: TaskRecord = json.loads(json.dumps(record))
    return copy
