"""Sessions in the memory of one process."""
# ruff: noqa: ARG002  (every backend has the parameters of the interface)

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..backend import ROTATED_RETAIN, Claim, Finding, Life, Look, Moment
from ..errors import SessionConflict, SessionExpired, TooManySessions
from ..fork import reset_after_fork
from ..hold import HoldCounts
from ..ids import ID_CHARACTERS
from ..record import Blob, Change, Record, copy_of
from ..whole import WholeRecords

BATCH = 256
"""Records handled while the lock is held once: a few hundred microseconds."""


class MemoryBackend(WholeRecords, HoldCounts):
    """The default backend. See ``Backend`` for what each method does.

    Args:
        copy: Keep encoded copies instead of live objects, as the shared backends do. A view that fails then changes
            nothing, and state must be encodable.
    """

    shared = False
    origin: str | None = None

    def __init__(self, *, copy: bool = False) -> None:
        self.live: bool = not copy
        self.records: dict[str, Record] = {}
        self._index = ExpiryIndex()
        self._by_uid: dict[str, Record] | None = None  # made by the first ``find``, which not all applications need
        self.tombstones: Tombstones = Tombstones()
        self._rotated: dict[str, float] = {}
        self._attached: dict[str, dict[str, Blob]] = {}
        self._ended: deque[Life] = deque()
        super().__init__()
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin with a free lock and no holds: the holders of sessions run in the parent."""
        self._lock = threading.Lock()
        self._sweeps: list[list[tuple[int, list[str]]]] = []  # what each running sweep has taken from the index
        self.release_all()

    def _current(self, life: Life) -> Record | None:
        record = self.records.get(life.sid)
        return record if record is not None and record.uid == life.uid else None

    def load(self, sid: str, at: Moment) -> Record | None:
        record = self.records.get(sid)
        if record is None:
            return None
        if at.now - record.active <= at.ttl:
            record.active = at.now
        return record if self.live else copy_of(record)

    def look(self, sid: str, at: Moment) -> Look:
        record = self.load(sid, at)
        if record is not None:
            return Look(record)
        since = self.tombstones.at(sid)
        if since is not None:
            return Look(None, "expired", since)
        since = self._rotated.get(sid)
        if since is not None:
            return Look(None, "rotated", since)
        return Look(self.load(sid, at))  # it may have begun just now

    def peek(self, sid: str) -> Record | None:
        record = self.records.get(sid)
        return record if record is None or self.live else copy_of(record)

    def claim(self, sid: str, at: Moment, timeout: float) -> tuple[Claim, Record | None]:
        """Claim and load at once: the process has the sessions for itself."""
        return Claim(sid, ""), self.load(sid, at)

    def release(self, claim: Claim) -> None:
        """Do nothing: a claim keeps nothing."""

    def create(
        self,
        record: Record,
        at: Moment,
        claim: Claim | None = None,
        *,
        last: bool = False,
        limit: int | None = None,
    ) -> Record:
        kept = record if self.live else copy_of(record)
        with self._lock:
            winner = self.records.get(record.sid)
            if winner is None:
                if limit is not None and len(self.records) >= limit:
                    raise TooManySessions(limit)
                winner = self.records[record.sid] = kept
                self._index.add(kept)
                if self._by_uid is not None:
                    self._by_uid[kept.uid] = kept
                self.tombstones.discard(record.sid)
        if winner is kept:
            return record
        return winner if self.live else copy_of(winner)

    def write(
        self,
        life: Life,
        changes: Mapping[str, Change],
        at: Moment,
        claim: Claim | None = None,
        *,
        last: bool = False,
        base: Record | None = None,
    ) -> Record:
        with self._lock:
            record = self._current(life)
            if record is None:
                raise SessionExpired(life.sid)
            # One update() of plain dicts: a reader sees all of the changes or none.
            record.update(_written(life, changes, record))
            record.active = at.now
            return copy_of(record)

    def attached(self, sid: str, at: Moment | None = None) -> Record | None:
        record = self.records.get(sid)
        if record is None:
            return None
        if at is not None and at.now - record.active <= at.ttl:
            record.active = at.now
        found = Record(record.sid, record.uid, record.created, record.active)
        found.update(self._attached.get(record.uid, {}))
        return found

    def attach(self, life: Life, name: str, change: Change, at: Moment) -> None:
        with self._lock:
            record = self._current(life)
            if record is None:
                raise SessionExpired(life.sid)
            attached = self._attached.get(life.uid, {})
            self._attached[life.uid] = {**attached, **_written(life, {name: change}, attached)}
            record.active = at.now

    def put(self, session: Record, now: float) -> None:
        if self.records.get(session.sid) is not session:
            raise SessionExpired(session.sid)
        session.active = now

    def touch(self, life: Life, at: Moment) -> bool:
        record = self._current(life)
        if record is None:
            return False
        record.active = at.now
        return True

    def remove(self, life: Life) -> bool:
        with self._lock:
            record = self._current(life)
            if record is None:
                return False
            self._drop(record)
            return True

    def rename(self, life: Life, sid: str, at: Moment) -> bool:
        with self._lock:
            record = self._current(life)
            if record is None or sid in self.records:
                return False
            self._rotated.pop(life.sid, None)  # a dict keeps the place of a key that is set again
            self._rotated[life.sid] = at.now  # before the record goes, for a look that no longer finds it
            del self.records[life.sid]
            record.sid = sid
            self.records[sid] = record
            self._index.add(record)
            return True

    def _drop(self, record: Record) -> None:
        del self.records[record.sid]
        self._attached.pop(record.uid, None)
        if self._by_uid is not None:
            self._by_uid.pop(record.uid, None)

    def find(self, uid: str) -> str | None:
        with self._lock:  # not during a rename
            record = self._lives().get(uid)
            return record.sid if record is not None else None

    def living(self, uids: Sequence[str]) -> set[str]:
        with self._lock:
            lives = self._lives()
            return {uid for uid in uids if uid in lives}

    def _lives(self) -> dict[str, Record]:
        if self._by_uid is None:
            self._by_uid = {record.uid: record for record in self.records.values()}
        return self._by_uid

    def due(self, at: Moment) -> Iterator[list[Life]]:
        with self._lock:
            others = [bucket for sweep in self._sweeps for bucket in sweep]
            buckets = self._index.take(at.now - at.ttl)
            self._sweeps.append(buckets)
        rest = _entries(buckets)
        try:
            while chunk := list(itertools.islice(rest, BATCH)):
                try:
                    lives = self._due_of(chunk, at)
                    if lives:
                        yield lives
                finally:
                    self._reindex(chunk)
        finally:  # the caller may stop half-way
            while chunk := list(itertools.islice(rest, BATCH)):
                self._reindex(chunk)
            with self._lock:
                self._sweeps = [sweep for sweep in self._sweeps if sweep is not buckets]
        rest = _entries(others)
        while chunk := list(itertools.islice(rest, BATCH)):
            lives = self._due_of(chunk, at)
            if lives:
                yield lives

    def _due_of(self, entries: list[tuple[int, str]], at: Moment) -> list[Life]:
        # No lock: it reads each record once, and ``expire`` looks again. Under the lock, making the tuples could start
        # the garbage collector.
        records = [r for second, sid in entries if (r := self.records.get(sid)) is not None and r.bucket == second]
        return [Life(r.sid, r.uid) for r in records if at.now - r.active > at.ttl]

    def _reindex(self, entries: list[tuple[int, str]]) -> None:
        with self._lock:
            for second, sid in entries:
                record = self.records.get(sid)
                if record is not None and record.bucket == second:
                    self._index.add(record)

    def expire(self, lives: Iterable[Life], at: Moment, claim: Claim | None = None) -> list[Life]:
        kept = []
        with self._lock:
            for life in lives:
                record = self._current(life)
                if record is None:
                    continue
                held = self.held(life.uid)
                if held:
                    record.active = at.now
                if held or at.now - record.active <= at.ttl:
                    kept.append(life)
                else:
                    # The tombstone comes first, for a look that no longer finds the record.
                    self.tombstones.add(life.sid, at.now)
                    self._drop(record)
                    self._ended.append(life)
        return kept

    def ended(self) -> list[Life]:
        batch: list[Life] = []
        with contextlib.suppress(IndexError):  # another thread may empty it in the meantime
            while len(batch) < BATCH:
                batch.append(self._ended.popleft())
        return batch

    def settle(self, lives: Iterable[Life]) -> None:
        """Do nothing: claimed lives are gone when this process ends."""

    def expired_at(self, sid: str) -> float | None:
        return self.tombstones.at(sid)

    def prune(self, before: float) -> None:
        while True:
            with self._lock:
                old = self.tombstones.older(before, 4)
                for sid in old:
                    self.tombstones.discard(sid)
                rotated = next(iter(self._rotated.items()), None)
                if rotated is not None and rotated[1] < before - ROTATED_RETAIN:
                    del self._rotated[rotated[0]]
                elif not old:
                    return

    def count(self) -> int:
        return len(self.records)

    def expired_count(self) -> int:
        return len(self.tombstones)

    def sids(self) -> list[str]:
        return list(self.records)

    def check(self, now: float) -> list[Finding]:
        return [Finding("ok", "memory", "sessions live in this process and end with it")]

    def close(self) -> None:
        """Do nothing: no file or connection is open."""


def _written(life: Life, changes: Mapping[str, Change], known: Mapping[str, Blob]) -> dict[str, Blob]:
    """Return the new blobs of the changed names.

    Raises:
        SessionConflict: A change expects another version.
    """
    for name, change in changes.items():
        blob = known.get(name)
        if change.version != (blob.version if blob is not None else 0):
            raise SessionConflict(life.sid)
    return {name: Blob(change.version + 1, change.data) for name, change in changes.items()}


def _entries(buckets: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, str]]:
    return ((second, sid) for second, sids in buckets for sid in sids)


class Tombstones:
    """Expired ids and when each expired, oldest first in each shard. The owner's lock guards every change.

    Each last character of an id has its own dict, because a growing dict blocks while it is resized: 36 ms for a
    million random ids, 4.5 ms with shards.

    Attributes:
        shards: The dicts by last character.
    """

    def __init__(self) -> None:
        self.shards: dict[str, dict[str, float]] = {character: {} for character in ID_CHARACTERS}

    def __len__(self) -> int:
        return sum(map(len, self.shards.values()))

    def at(self, sid: str) -> float | None:
        """Return when the id expired; None if it did not."""
        return self.shards[sid[-1]].get(sid)

    def add(self, sid: str, now: float) -> None:
        """Remember an id as expired at ``now``."""
        shard = self.shards[sid[-1]]
        shard.pop(sid, None)  # a dict keeps the place of a key that is set again
        shard[sid] = now

    def discard(self, sid: str) -> None:
        """Forget an id."""
        self.shards[sid[-1]].pop(sid, None)

    def older(self, before: float, limit: int) -> list[str]:
        """Return up to ``limit`` ids of each shard that expired before this time."""
        found: list[str] = []
        for shard in self.shards.values():
            for sid, at in itertools.islice(shard.items(), limit):
                if at >= before:
                    break
                found.append(sid)
        return found


class ExpiryIndex:
    """Ids by the second of their records' last known use.

    Using a session does not move it, so a read costs one assignment. A record that was used after its bucket's second
    is moved when the bucket comes up, so each is looked at about once per time-to-live. An id whose record is gone, or
    is in another bucket by now, is skipped then: a list of ids is a quarter of the size of a set, which would allow
    removing it. The owner's lock guards every method.
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
