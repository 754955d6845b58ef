"""``RedisBackend``, the methods of the interface, each in one round trip."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from ...backend import ROTATED_RETAIN, Claim, Finding, Life, Look, Moment
from ...errors import LockLost, RecordDamaged, SessionConflict, SessionExpired, TooManySessions
from ...record import Apart, Blob, Change, Record
from ..options import options, seconds
from ..packing import PackedRecord, pack, whole_of
from . import records, scripts
from .claims import Claims
from .connections import Connections
from .expiry import Expiry
from .health import findings
from .holds import Holds
from .keeper import Keeper
from .keys import BUCKET, SHARDS
from .location import read
from .prefix import Prefix, new_epoch
from .records import HEAD_BYTES, REVISIONS, VERSION, head_of, record_of
from .scripts import ALL, keep, renewal

ASKED = 1000
"""Lives asked for by one script: some milliseconds."""
SHARDS_READ = 8
"""Shards read by one script: at most some milliseconds."""
HEAD_READ = 4096
"""Bytes of each record that a check for damage reads, usually enough for the names of its namespaces."""


class RedisBackend:
    """Sessions on a Redis server of release 6.2 or later, or on Valkey. See ``Backend`` for what each method does.

    Args:
        url: A URL of redis-py: ``redis://user:password@host:6379/0``, ``rediss://`` with TLS, ``unix:///path``. In
            user name and password, ``/`` is written as ``%2F``, ``?`` as ``%3F``, ``#`` as ``%23``.
        prefix: Keeps the sessions of several applications apart on one server.
        timeout: Seconds after which a server that does not answer counts as unreachable.
        lease: Seconds after which a process that gives no sign of life loses its claims and holds.
    """

    live = False
    shared = True

    def __init__(self, url: str, *, prefix: str = "silo", timeout: float = 2.0, lease: float = 10.0) -> None:
        if not prefix or "{" in prefix or "}" in prefix:
            raise ValueError("the prefix of the keys must be some text without braces")
        if not (0 < timeout < math.inf and 0 < lease < math.inf):
            raise ValueError("timeout and lease must be positive numbers of seconds")
        self._server = Connections(url, timeout)
        self.origin: str | None = f"{self._server.place} {prefix}"
        self._prefix = Prefix(self._server, prefix)
        self._keys = self._prefix.keys
        self._run = self._prefix.run
        self._keeper = Keeper(self._renew, lease / 3)
        self._claims = Claims(self._prefix, self._keeper, max(1, int(lease * 1000)))
        self._lease = self._claims.lease
        self._holds = Holds(self._prefix, self._keeper, self._claims)
        self._expiry = Expiry(self._prefix, self._keeper, self._lease)

    @classmethod
    def from_url(cls, url: str) -> RedisBackend:
        """Make the backend of a URL. The options after the ``?`` may include this class's arguments.

        Raises:
            ValueError: The URL cannot be read, or an option is unknown or has an invalid value. The message repeats no
                value, as it may contain a password.
        """
        own: dict[str, Any] = {}
        rest = options(read(url))
        for name in ("prefix", "timeout", "lease"):
            if name in rest:
                value = rest.pop(name)
                own[name] = value if name == "prefix" else seconds(name, value)
        base = url.strip().partition("?")[0]
        return cls(f"{base}?{urlencode(rest)}" if rest else base, **own)

    # Reading

    def load(self, sid: str, at: Moment) -> Record | None:
        data = self._load(sid, ALL, at)
        return record_of(sid, data, at) if data is not None else None

    def load_head(self, sid: str, at: Moment) -> Record | None:
        data = self._load(sid, HEAD_BYTES - 1, at)
        return head_of(sid, data, at) if data is not None else None

    def _load(self, sid: str, last: int, at: Moment) -> bytes | None:
        prefix, known = self._prefix, self._prefix.epoch
        answer = prefix.read(scripts.LOAD, (self._keys.record + sid,), last, *renewal(at))
        prefix.compare(known, answer[1], at.now)
        data: bytes | None = answer[0]
        return data

    def look(self, sid: str, at: Moment) -> Look:
        keys, prefix, known = self._keys, self._prefix, self._prefix.epoch
        asked = (keys.record + sid, keys.gone, keys.rotated + sid, keys.lost)
        data, epoch, _, *trace = prefix.read(scripts.LOOK, asked, ALL, *renewal(at), sid)
        prefix.compare(known, epoch, at.now)
        if data is None and not trace and epoch != known is not None:  # compare() has just recorded the loss
            data, epoch, _, *trace = prefix.read(scripts.LOOK, asked, ALL, *renewal(at), sid)
        if trace:
            return Look(None, trace[0].decode(), float(trace[1]))
        return Look(record_of(sid, data, at) if data is not None else None)

    def peek(self, sid: str) -> Record | None:
        data = self._run(scripts.PEEK, (self._keys.record + sid,), ALL)
        return record_of(sid, data) if data is not None else None

    def peek_head(self, sid: str) -> Record | None:
        data = self._run(scripts.PEEK, (self._keys.record + sid,), HEAD_BYTES - 1)
        return head_of(sid, data) if data is not None else None

    def read(self, sid: str) -> Record | None:
        data, _, _, fields = self._run(scripts.READ, (self._keys.record + sid,), ALL, records.LARGE)
        return whole_of(record_of(sid, data), records.blobs_of(sid, fields)) if data is not None else None

    def fetch(self, life: Life, name: str) -> Blob | None:
        keys, (sid, uid) = self._keys, life
        answer = self._run(scripts.FETCH, (keys.record + sid, keys.large + uid), uid, name)
        if answer is None:
            raise SessionExpired(sid)
        apart, *rest = answer
        if apart is not None:
            return records.blob_of(sid, apart)
        blob: Blob | Apart | None = record_of(sid, rest[0]).get(name)
        if isinstance(blob, Apart):
            raise RecordDamaged(sid, uid)
        return blob

    def attached(self, sid: str, at: Moment | None = None) -> Record | None:
        prefix, known = self._prefix, self._prefix.epoch
        words = (HEAD_BYTES - 1, records.ATTACHED, *(renewal(at) if at is not None else ()))
        data, epoch, _, fields = prefix.read(scripts.READ, (self._keys.record + sid,), *words)
        if at is not None:
            prefix.compare(known, epoch, at.now)
        if data is None:
            return None
        record = head_of(sid, data, at)
        record.update(records.blobs_of(sid, fields))
        return record

    # Writing

    def claim(self, sid: str, at: Moment, timeout: float) -> tuple[Claim, Record | None]:
        claim, data = self._claims.take(sid, at, timeout)
        try:
            return claim, record_of(sid, data, at) if data is not None else None
        except RecordDamaged:
            self.release(claim)
            raise

    def release(self, claim: Claim) -> None:
        self._claims.give_back(claim)

    def create(
        self,
        record: Record,
        at: Moment,
        claim: Claim | None = None,
        *,
        last: bool = False,
        limit: int | None = None,
    ) -> Record:
        keys, (sid, uid), known = self._keys, (record.sid, record.uid), self._prefix.epoch
        bucket, packed = max(0, int(record.active // BUCKET) * BUCKET), pack(record)
        reply = self._run(
            scripts.CREATE,
            (
                *self._claimed(sid, claim),
                keys.gone,
                f"{keys.bucket}{bucket}",
                keys.buckets,
                keys.count,
                keys.large + uid,
            ),
            *self._claim_words(claim, last=last),
            uid,
            sid,
            keep(at),
            limit if limit is not None else "",
            new_epoch(),
            bucket,
            records.data_of(record, packed),
            *records.fields_of(packed.apart, {name: blob.version for name, blob in record.items()}),
        )
        if reply == b"lost":
            raise LockLost(sid)
        if reply == b"full" and limit is not None:
            raise TooManySessions(limit)
        old, epoch = reply
        self._prefix.compare(known, epoch, at.now)
        if old is not None:
            return record_of(sid, old)
        if last and claim:
            self._claims.gave_back(claim)
        return record

    def _claimed(self, sid: str, claim: Claim | None) -> tuple[str, str, str]:
        """Return the keys of a record, and of the claim with which it is written."""
        keys, claimed = self._keys, claim.sid if claim else sid
        return keys.record + sid, keys.claim + claimed, keys.queue + claimed

    def _claim_words(self, claim: Claim | None, *, last: bool) -> tuple[str, str, str, str]:
        """Return the arguments with which a script checks a claim, and passes it on."""
        self._claims.check(claim)
        return claim.token if claim else "", "1" if last and claim else "0", self._lease, self._keys.wake

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
        record = base if isinstance(base, PackedRecord) and base.uid == life.uid and base.fits(changes) else None
        while True:
            written = self._write(life, record, changes, at, claim, last=last)
            if isinstance(written, PackedRecord):
                break
            record = record_of(life.sid, written)  # another writer was first, or there was no usable base
            if not record.fits(changes):
                raise SessionConflict(life.sid)
        if last and claim:
            self._claims.gave_back(claim)
        return written

    def _write(
        self,
        life: Life,
        record: PackedRecord | None,
        changes: Mapping[str, Change],
        at: Moment,
        claim: Claim | None,
        *,
        last: bool,
    ) -> PackedRecord | bytes:
        """Write changes to a record. If it is None, or has changed, return the bytes of the record as it is now."""
        sid, uid = life
        self._claims.check(claim)
        held, passed_on = (claim.token, self._lease if last else "") if claim else ("", "")
        read, more = b"", []
        if record is None:
            data = records.nothing_of(uid)
        else:
            new, apart, no_longer_apart = record.with_changes(changes)
            new.sid, new.active, new.revision = sid, at.now, new.revision % REVISIONS
            data, read = records.rewritten(new), records.READ.pack(record.created, record.revision)
            if apart or no_longer_apart:
                more = [len(no_longer_apart), *no_longer_apart]
                more += records.fields_of(apart, {name: change.version + 1 for name, change in changes.items()})
        reply = self._run(scripts.WRITE, self._claimed(sid, claim), data, keep(at), read, held, passed_on, *more)
        if isinstance(reply, list):
            current: bytes = reply[0]
            return current
        if record is None or isinstance(reply, bytes):
            raise _REFUSALS[reply](sid)
        new.may_have_attached = bool(reply & records.ATTACHED)
        return new

    def attach(self, life: Life, name: str, change: Change, at: Moment) -> None:
        keys, (sid, uid), (version, data) = self._keys, life, change
        reply = self._run(
            scripts.ATTACH,
            (keys.record + sid, keys.attached + uid),
            uid,
            at.now,
            keep(at),
            name,
            VERSION.pack(version) if version else "",
            VERSION.pack(version + 1) + data,
        )
        if reply != b"ok":
            raise _REFUSALS[reply](sid)

    def put(self, session: Record, now: float) -> None:
        raise NotImplementedError("put() is for backends of live objects")

    # Lives

    def touch(self, life: Life, at: Moment) -> bool:
        words = (life.uid, at.now, at.touch_interval, keep(at))
        return bool(self._run(scripts.TOUCH, (self._keys.record + life.sid,), *words))

    def remove(self, life: Life) -> bool:
        sid, uid = life
        known = uid or next((uid for uid, each, _, _ in self._records(1) if each == sid), "?")
        return bool(self._run(scripts.REMOVE, (self._keys.record + sid,), uid, known))

    def rename(self, life: Life, sid: str, at: Moment) -> bool:
        keys = self._keys
        touched = (keys.record + life.sid, keys.record + sid, keys.rotated + life.sid)
        return bool(self._run(scripts.RENAME, touched, life.uid, sid, at.now, keep(at), int(ROTATED_RETAIN * 1000)))

    def find(self, uid: str) -> str | None:
        sid = self._run(scripts.FIND, (), self._keys.record, uid)
        return sid.decode() if sid is not None else None

    def living(self, uids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for first in range(0, len(uids), ASKED):
            living = self._run(scripts.LIVING, (), self._keys.record, *uids[first : first + ASKED])
            found.update(map(bytes.decode, living))
        return found

    # Expiry

    def due(self, at: Moment) -> Iterator[list[Life]]:
        return self._expiry.due(at)

    def expire(self, lives: Iterable[Life], at: Moment, claim: Claim | None = None) -> list[Life]:
        return self._expiry.expire(lives, at, claim)

    def ended(self) -> list[Life]:
        return self._expiry.ended()

    def settle(self, lives: Iterable[Life]) -> None:
        self._expiry.settle(lives)

    def expired_at(self, sid: str) -> float | None:
        prefix, known = self._prefix, self._prefix.epoch
        at, epoch = self._expired_at(sid)
        if epoch != known is not None:
            prefix.compare(known, epoch, prefix.now())
            at, _ = self._expired_at(sid)
        return float(at) if at is not None else None

    def _expired_at(self, sid: str) -> tuple[bytes | None, bytes | None]:
        keys = self._keys
        at, epoch = self._run(scripts.EXPIRED_AT, (keys.record + sid, keys.gone, keys.lost), sid)
        return at, epoch

    def prune(self, before: float) -> None:
        self._run(scripts.PRUNE, (self._keys.gone, self._keys.lost), before)

    def hold(self, uid: str) -> None:
        self._holds.add(uid)

    def unhold(self, uid: str) -> None:
        self._holds.remove(uid)

    def held(self, uid: str) -> bool:
        return self._holds.has(uid)

    def _renew(self, names: list[str]) -> None:
        ended = []
        for name in names:
            kind, _, rest = name.partition(" ")
            if kind == "claim":
                self._claims.renew(*rest.split(" "))
            elif kind == "hold":
                self._holds.renew(*rest.split(" "))
            else:
                ended.append(rest)
        if ended:
            self._expiry.renew(ended)

    # Looking in

    def count(self) -> int:
        return int(self._prefix.call("GET", self._keys.count) or 0)

    def expired_count(self) -> int:
        return int(self._prefix.call("ZCARD", self._keys.gone))

    def sids(self) -> list[str]:
        return [sid for _, sid, _, _ in self._records(1)]

    def _records(self, size: int) -> Iterator[tuple[str, str, bytes, int]]:
        """Yield the uid and id of each record, its bytes up to ``size``, and how many it has."""
        for first in range(0, SHARDS, SHARDS_READ):
            words = (first, first + SHARDS_READ - 1, self._keys.record, size - 1)
            for uid, sid, data, length in self._run(scripts.RECORDS, (), *words):
                yield uid.decode(errors="replace"), sid.decode(errors="replace"), data, length

    def _is_damaged(self, sid: str, data: bytes, length: int) -> bool:
        """Return whether a record is damaged, given its first bytes. Read the rest only if its names do not fit in."""
        try:
            record_of(sid, data.ljust(length, b"\0"))
        except RecordDamaged:
            if length <= len(data):
                return True
            try:
                self.peek(sid)
            except RecordDamaged:
                return True
        return False

    def check(self, now: float) -> list[Finding]:
        found = self._records(HEAD_READ)
        return findings(self._server, now, ((sid, self._is_damaged(sid, data, size)) for _, sid, data, size in found))

    def close(self) -> None:
        self._keeper.stop()
        self._server.close()


_REFUSALS = {b"gone": SessionExpired, b"conflict": SessionConflict, b"lost": LockLost, b"damaged": RecordDamaged}
