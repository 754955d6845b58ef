"""Finding what is due without looking at what is not."""

from __future__ import annotations

import heapq

from ..record import Record


class ExpiryIndex:
    """Ids by the second of their records' last known use.

    Using a session does not move it: that keeps a read down to one assignment. A record that turns out to be younger
    than its bucket is moved when the bucket comes up, so each is looked at about once per time-to-live. An id whose
    record is gone, or lies in another bucket by now, is passed over then: a list of ids is a quarter of the size of a
    set that one could take it out of. The owner's lock guards every method.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, tuple[int, list[str]]] = {}
        self._order: list[int] = []  # a heap of the buckets' seconds

    def add(self, record: Record) -> None:
        """Index a record by its time of last use."""
        second = int(record.active)
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = (second, [])
            heapq.heappush(self._order, second)
        record.bucket = bucket[0]  # one int object for all its records
        bucket[1].append(record.sid)

    def take(self, until: float) -> list[tuple[int, list[str]]]:
        """Take out, oldest first, the buckets that may hold records last used before ``until``."""
        taken = []
        while self._order and self._order[0] < until:
            taken.append(self._buckets.pop(heapq.heappop(self._order)))
        return taken
