"""A storage backend: sessions in a file of the standard library's ``shelve``, for one process.

BACKENDS.md explains it. Try it with ``python shelf_backend.py FILE``: each run continues the count of the previous run.
"""
# ruff: noqa: ARG002, D101  (arguments that this backend does not need)

from __future__ import annotations

import os
import shelve
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dbm import dumb
from typing import Any

from silo_store import (
    Blob,
    Change,
    Claim,
    Finding,
    HoldCounts,
    Life,
    Look,
    Moment,
    Record,
    SessionConflict,
    SessionExpired,
    SessionStore,
    TooManySessions,
    WholeRecords,
)


def open_shelf(path: str) -> shelve.Shelf[Any]:
    """Open a shelf over ``dbm.dumb``, which threads can share."""
    return shelve.Shelf(dumb.open(path))  # type: ignore[arg-type]  # dbm.dumb is a mapping of bytes


class ShelfBackend(WholeRecords, HoldCounts):  # for records in one piece, and for one process
    live, shared = False, False

    def __init__(self, path: str) -> None:
        self.origin: str | None = f"shelf:{os.path.realpath(path)}"
        self.records, self.gone = open_shelf(f"{path}.records"), open_shelf(f"{path}.gone")
        self.attachments = open_shelf(f"{path}.attachments")
        self.told: list[Life] = []
        self.rotated: dict[str, float] = {}
        self.lock = threading.Lock()
        super().__init__()

    def peek(self, sid: str) -> Record | None:
        if sid not in self.records:
            return None
        uid, created, active, blobs = self.records[sid]
        record = Record(sid, uid, created, active)
        record.update(blobs)
        return record

    def keep(self, record: Record) -> None:
        self.records[record.sid] = (record.uid, record.created, record.active, dict(record))

    def load(self, sid: str, at: Moment) -> Record | None:
        with self.lock:
            record = self.peek(sid)
            if record is not None and at.touch_interval < at.now - record.active <= at.ttl:
                record.active = at.now
                self.keep(record)
            return record

    def look(self, sid: str, at: Moment) -> Look:
        record = self.load(sid, at)
        if record is None and sid in self.gone:
            return Look(None, "expired", self.gone[sid])
        if record is None and sid in self.rotated:
            return Look(None, "rotated", self.rotated[sid])
        return Look(record if record is not None else self.load(sid, at))  # it may have been created just now

    def claim(self, sid: str, at: Moment, timeout: float) -> tuple[Claim, Record | None]:
        return Claim(sid, ""), self.load(sid, at)  # no other process can hold the claim

    def release(self, claim: Claim) -> None: ...

    def create(
        self,
        record: Record,
        at: Moment,
        claim: Claim | None = None,
        *,
        last: bool = False,
        limit: int | None = None,
    ) -> Record:
        with self.lock:
            if (other := self.peek(record.sid)) is not None:
                return other
            if limit is not None and len(self.records) >= limit:
                raise TooManySessions(limit)
            self.gone.pop(record.sid, None)
            self.keep(record)
            return record

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
        with self.lock:
            record = self.current(life)
            if record is None:
                raise SessionExpired(life.sid)
            self.change(record, changes)
            record.active = at.now
            self.keep(record)
            return record

    def change(self, record: Record, changes: Mapping[str, Change]) -> None:
        if any(change.version != record.get(name, Blob(0, b"")).version for name, change in changes.items()):
            raise SessionConflict(record.sid)
        record.update({name: Blob(change.version + 1, change.data) for name, change in changes.items()})

    def attached(self, sid: str, at: Moment | None = None) -> Record | None:
        record = self.load(sid, at) if at is not None else self.peek(sid)
        if record is None:
            return None
        found = Record(sid, record.uid, record.created, record.active)
        found.update(self.attachments.get(record.uid, {}))
        return found

    def attach(self, life: Life, name: str, change: Change, at: Moment) -> None:
        with self.lock:
            record, attached = self.current(life), self.attached(life.sid)
            if record is None or attached is None:
                raise SessionExpired(life.sid)
            self.change(attached, {name: change})
            self.attachments[life.uid] = dict(attached)
            record.active = at.now
            self.keep(record)

    def put(self, session: Record, now: float) -> None:
        raise NotImplementedError  # for backends of live objects

    def current(self, life: Life) -> Record | None:
        record = self.peek(life.sid)
        return record if record is not None and record.uid == life.uid else None

    def touch(self, life: Life, at: Moment) -> bool:
        with self.lock:
            if (record := self.current(life)) is not None:
                record.active = at.now
                self.keep(record)
            return record is not None

    def remove(self, life: Life) -> bool:
        with self.lock:
            if (record := self.current(life)) is not None:
                del self.records[life.sid]
                self.attachments.pop(life.uid, None)
            return record is not None

    def rename(self, life: Life, sid: str, at: Moment) -> bool:
        with self.lock:
            if (record := self.current(life)) is None or sid in self.records:
                return False
            del self.records[life.sid]
            self.rotated[life.sid] = at.now
            record.sid = sid
            self.keep(record)
            return True

    def find(self, uid: str) -> str | None:  # a backend for many sessions needs an index
        with self.lock:
            return next((sid for sid, (its, *_) in self.records.items() if its == uid), None)

    def due(self, at: Moment) -> Iterator[list[Life]]:  # here too
        with self.lock:
            lives = [Life(sid, uid) for sid, (uid, _, active, _) in self.records.items() if at.now - active > at.ttl]
        yield from ([life] for life in lives)

    def expire(self, lives: Iterable[Life], at: Moment, claim: Claim | None = None) -> list[Life]:
        kept = [life for life in lives if self.held(life.uid) and self.touch(life, at)]
        for life in lives:
            record = self.current(life)
            if record is not None and at.now - record.active <= at.ttl:
                kept += [] if life in kept else [life]
            elif record is not None and self.remove(life):
                self.gone[life.sid] = at.now
                self.told.append(life)
        return kept

    def ended(self) -> list[Life]:
        with self.lock:
            lives, self.told = self.told, []
            return lives

    def settle(self, lives: Iterable[Life]) -> None: ...

    def expired_at(self, sid: str) -> float | None:
        return self.gone.get(sid)

    def prune(self, before: float) -> None:
        for sid in [sid for sid, at in self.gone.items() if at < before]:
            del self.gone[sid]
        self.rotated = {sid: at for sid, at in self.rotated.items() if at >= before - 60}

    def count(self) -> int:
        return len(self.records)

    def expired_count(self) -> int:
        return len(self.gone)

    def sids(self) -> list[str]:
        return list(self.records)

    def check(self, now: float) -> list[Finding]:
        return [Finding("ok", "shelf", "sessions are in a file of this process")]

    def close(self) -> None:
        self.records.close()
        self.gone.close()
        self.attachments.close()


def main(path: str) -> None:
    """Count the runs of this program."""
    store = SessionStore(backend=ShelfBackend(path))
    store.register_namespace("counter", lambda: {"value": 0})
    with store.edit("0123456789abcdef", "counter") as counter:
        counter["value"] += 1
        print(f"run number {counter['value']}")
    store.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python shelf_backend.py FILE")
    main(sys.argv[1])
