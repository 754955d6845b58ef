"""Sessions in the memory of one process."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from .backend import Life
from .errors import SessionConflict, SessionExpired
from .expiry import ExpiryIndex, Tombstones
from .fork import reset_after_fork
from .hold import HoldCounts
from .record import Blob, Change, Record

BATCH = 256
"""Records handled for each hold of the lock: a few hundred microseconds."""


class MemoryBackend(HoldCounts):
    """The default backend. See `Backend` for what each method does.

    Args:
        copy: keep encoded copies instead of live objects, as a backend does that processes share. A view that fails
            then changes nothing, and state must be encodable.
    """

    def __init__(self, *, copy: bool = False) -> None:
        self.live = not copy
        self.records: dict[str, Record] = {}
        self._index = ExpiryIndex()
        self.tombstones = Tombstones()
        self._ended: deque[Life] = deque()
        super().__init__()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Begin with a free lock and no holds: what held sessions runs in the parent."""
        self._lock = threading.Lock()
        self.release_all()

    def _current(self, life: Life) -> Record | None:
        record = self.records.get(life.sid)
        return record if record is not None and record.uid == life.uid else None

    def load(self, sid: str, now: float, ttl: float) -> Record | None:
        record = self.records.get(sid)
        if record is None:
            return None
        if now - record.active <= ttl:
            record.active = now
        return record if self.live else record.twin()

    def peek(self, sid: str) -> Record | None:
        record = self.records.get(sid)
        return record if record is None or self.live else record.twin()

    def create(self, record: Record) -> Record:
        kept = record if self.live else record.twin()
        with self._lock:
            winner = self.records.setdefault(record.sid, kept)
            if winner is kept:
                self._index.add(kept)
                self.tombstones.discard(record.sid)
        if winner is kept:
            return record
        return winner if self.live else winner.twin()

    def write(self, life: Life, changes: Mapping[str, Change], now: float) -> None:
        with self._lock:
            record = self._current(life)
            if record is None:
                raise SessionExpired(life.sid)
            for name, change in changes.items():
                blob = record.get(name)
                if change.version != (blob.version if blob else 0):
                    raise SessionConflict(life.sid)
            # One update() of plain dicts: a reader sees all of the changes or none.
            record.update({name: Blob(change.version + 1, change.data) for name, change in changes.items()})
            record.active = now

    def put(self, session: Record, now: float) -> None:
        if self.records.get(session.sid) is not session:
            raise SessionExpired(session.sid)
        session.active = now

    def touch(self, life: Life, now: float) -> bool:
        record = self._current(life)
        if record is None:
            return False
        record.active = now
        return True

    def remove(self, life: Life) -> bool:
        with self._lock:
            record = self._current(life)
            if record is None:
                return False
            self._drop(record)
            return True

    def rename(self, life: Life, sid: str) -> bool:
        with self._lock:
            record = self._current(life)
            if record is None or sid in self.records:
                return False
            del self.records[life.sid]
            record.sid = sid
            self.records[sid] = record
            self._index.add(record)
            return True

    def _drop(self, record: Record) -> None:
        del self.records[record.sid]

    def due(self, now: float, ttl: float) -> Iterator[list[Life]]:
        with self._lock:
            buckets = self._index.take(now - ttl)
        rest = ((second, sid) for second, sids in buckets for sid in sids)
        try:
            while chunk := list(itertools.islice(rest, BATCH)):
                try:
                    lives = self._due_of(chunk, now, ttl)
                    if lives:
                        yield lives
                finally:
                    self._reindex(chunk)
        finally:  # the caller may stop half-way
            while chunk := list(itertools.islice(rest, BATCH)):
                self._reindex(chunk)

    def _due_of(self, entries: list[tuple[int, str]], now: float, ttl: float) -> list[Life]:
        # No lock: it reads each record once, and `expire` looks again. Making tuples under the lock would let a run
        # of the garbage collector happen there.
        records = [r for second, sid in entries if (r := self.records.get(sid)) is not None and r.bucket == second]
        return [Life(r.sid, r.uid) for r in records if now - r.active > ttl]

    def _reindex(self, entries: list[tuple[int, str]]) -> None:
        with self._lock:
            for second, sid in entries:
                record = self.records.get(sid)
                if record is not None and record.bucket == second:
                    self._index.add(record)

    def expire(self, lives: Iterable[Life], now: float, ttl: float) -> None:
        with self._lock:
            for life in lives:
                record = self._current(life)
                if record is not None and now - record.active > ttl and not self.held(life.uid):
                    self._drop(record)
                    self.tombstones.bury(life.sid, now)
                    self._ended.append(life)

    def ended(self) -> list[Life]:
        batch: list[Life] = []
        with contextlib.suppress(IndexError):  # another thread may empty it meanwhile
            while len(batch) < BATCH:
                batch.append(self._ended.popleft())
        return batch

    def settle(self, lives: Iterable[Life]) -> None:
        """Nothing to do: what was claimed dies with the process that claimed it."""

    def expired_at(self, sid: str) -> float | None:
        return self.tombstones.at(sid)

    def prune(self, before: float) -> None:
        while True:
            with self._lock:
                old = self.tombstones.older(before, 4)
                for sid in old:
                    self.tombstones.discard(sid)
            if not old:
                return

    def alive(self, uid: str) -> bool:
        return any(record.uid == uid for record in list(self.records.values()))

    def count(self) -> int:
        return len(self.records)

    def expired_count(self) -> int:
        return len(self.tombstones)

    def sids(self) -> list[str]:
        return list(self.records)

    def close(self) -> None:
        """Nothing to give back."""
