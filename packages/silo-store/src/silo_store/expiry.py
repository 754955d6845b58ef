"""Finding what is due without looking at what is not."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from .record import Record


class ExpiryIndex:
    """Records by the second of their last known use.

    Using a session does not move it: that keeps a read down to one assignment. A record that turns out to be younger
    than its bucket is moved when the bucket comes up, so each record is looked at about once per time-to-live.
    The owner's lock guards every method.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, set[str]] = {}
        self._order: list[int] = []  # a heap of the buckets' seconds

    def add(self, record: Record) -> None:
        """Index a record by its time of last use."""
        second = int(record.active)
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = set()
            heapq.heappush(self._order, second)
        record.bucket = second
        bucket.add(record.sid)

    def discard(self, record: Record) -> None:
        """Forget a record."""
        bucket = self._buckets.get(record.bucket)
        if bucket is not None:
            bucket.discard(record.sid)

    def take(self, until: float) -> list[tuple[int, set[str]]]:
        """Take out, oldest first, the buckets that may hold records last used before ``until``."""
        taken = []
        while self._order and self._order[0] < until:
            second = heapq.heappop(self._order)
            taken.append((second, self._buckets.pop(second)))
        return taken


class Tombstones(dict[str, float]):
    """Expired ids and when each expired, oldest first."""

    def bury(self, sid: str, now: float) -> None:
        """Remember an id as expired at ``now``."""
        self.pop(sid, None)  # a dict keeps the place of a key that is set again
        self[sid] = now

    def older(self, before: float, limit: int) -> Iterator[str]:
        """Yield up to ``limit`` ids that expired before this time."""
        for sid, at in self.items():
            if at >= before or limit == 0:
                return
            limit -= 1
            yield sid
