"""``RedisBackend``, the methods of the interface, each in one round trip."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import re
import struct
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from ...backend import ROTATED_RETAIN, SMALL, Claim, Finding, Life, Look, Moment
from ...errors import (
    LockLost,
    LockTimeout,
    RecordDamaged,
    SessionConflict,
    SessionExpired,
    StoreUnavailable,
    TooManySessions,
)
from ...fork import reset_after_fork
from ...ids import new_uid
from ...record import Change, Record
from ...redact import short
from ..options import options, seconds
from ..packing import is_head, pack, unpack_into
from . import scripts
from .connections import Connections, Script
from .health import look, look_at_records
from .keeper import Keeper
from .location import read
from .scripts import BUCKET, HEAD, Keys

logger = logging.getLogger("silo_store")

BATCH = 256
"""Lives handled by one script: well below a millisecond."""
CALLBACKS = 1
"""Lives whose callbacks one process takes over at a time. If the server is away for longer than the lease, another
process gets the same lives too."""
WEEK = 7 * 24 * 3600.0
FOREVER = 10 * 365 * 24 * 3600.0


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
        self._keys = Keys(prefix)
        self._lease = str(max(1, int(lease * 1000)))
        self._heard = str(int(max(timeout, 1.0) * 1000))  # a waiting process gives at least two signs in that time
        self._keeper = Keeper(self._renew, lease / 3)
        self._epoch: bytes | None = None
        self._skipped: set[str] = set()  # damaged records that a sweep has logged
        self._ahead = 0.0  # seconds by which the store's clock is ahead of this host's
        self._after_fork()
        reset_after_fork(self)

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

    def _after_fork(self) -> None:
        """Use an identity on the server that differs from the parent's."""
        self._me = new_uid()
        self._numbers = itertools.count()
        self._guard = threading.Lock()
        self._holds: dict[str, list[str]] = {}
        self._unanswered: deque[Claim] = deque(maxlen=1000)

    # Reading

    def load(self, sid: str, at: Moment) -> Record | None:
        keys, known = self._keys, self._epoch
        data, epoch, _ = self._read(scripts.LOAD, (keys.record + sid, keys.epoch), *_renewal(at))
        self._compare(known, epoch, at.now)
        return self._found(sid, data, at)

    def look(self, sid: str, at: Moment) -> Look:
        keys, known = self._keys, self._epoch
        asked = (keys.record + sid, keys.epoch, keys.gone, keys.rotated + sid, keys.lost)
        data, epoch, _, *trace = self._read(scripts.LOOK, asked, *_renewal(at), sid)
        self._compare(known, epoch, at.now)
        if data is None and not trace and epoch != known is not None:  # _compare has just recorded the loss
            data, epoch, _, *trace = self._read(scripts.LOOK, asked, *_renewal(at), sid)
        if trace:
            return Look(None, trace[0].decode(), float(trace[1]))
        return Look(self._found(sid, data, at))

    def _read(self, script: Script, keys: tuple[str, ...], *arguments: Any) -> list[Any]:
        """Return a script's answer: a record's data, the epoch, whether the server is a replica, and the rest.

        A replica can read them but cannot record the use, so the server that has replaced it, if any, is asked too.
        """
        answer: list[Any] = self._server.run(script, keys, *arguments)
        if answer[2]:
            self._server.close()
            with contextlib.suppress(StoreUnavailable):
                answer = self._server.run(script, keys, *arguments)
        return answer

    def peek(self, sid: str) -> Record | None:
        data = self._server.run(scripts.PEEK, (self._keys.record + sid,))
        return _record(sid, data) if data is not None else None

    def part(self, sid: str, beginning: str) -> Record | None:
        """Return a part of the record, see ``part_of``."""
        data = self._server.run(scripts.PART, (self._keys.record + sid,), beginning, SMALL)
        return _record(sid, data) if data is not None else None

    def _found(self, sid: str, data: bytes | None, at: Moment) -> Record | None:
        if data is None:
            return None
        record = _record(sid, data)
        if at.touch_interval < at.now - record.active <= at.ttl:
            record.active = at.now  # as the script has done
        return record

    def _compare(self, known: bytes | None, epoch: bytes | None, now: float) -> None:
        """Compare the epoch in an answer with the known one, and record a loss of all records.

        Args:
            known: The epoch that this process knew when it asked. Another thread may have received a newer one since,
                so an answer is compared with the epoch of its own time.
            epoch: The epoch in the answer.
            now: The store's clock.
        """
        if epoch == known:
            return
        self._ahead = now - time.time()
        if known is None:
            if self._epoch is None:
                self._epoch = epoch
            return
        keys = self._keys
        with contextlib.suppress(StoreUnavailable):  # the server cannot write now: the next read tries again
            self._epoch = self._server.run(
                scripts.NOTE_LOSS, (keys.epoch, keys.lost, keys.noted), new_uid(), now, known
            )

    # Writing

    def claim(self, sid: str, at: Moment, timeout: float) -> tuple[Claim, Record | None]:
        keys, server, known = self._keys, self._server, self._epoch
        claim = Claim(sid, f"{self._me}:{next(self._numbers)}")
        wake = keys.wake + claim.token
        touched = (keys.record + sid, keys.epoch, keys.claim + sid, keys.queue + sid, f"{wake}:on")
        arguments = (*_renewal(at), claim.token, self._lease, self._heard)
        if self._unanswered:
            self._give_back_unanswered()
        try:
            reply = server.run(scripts.CLAIM, touched, *arguments, "0")
            if not isinstance(reply, list):
                reply = self._wait(reply, touched, arguments, wake, time.monotonic() + timeout)
            if reply is None:
                raise LockTimeout(sid)
            data, *told = reply
            for epoch in told:
                self._compare(known, epoch, at.now)
            record = self._found(sid, data, at)
            self._keeper.add(_claim_name(claim))
        except StoreUnavailable:  # giving back would fail too, and the server may still grant the claim
            self._unanswered.append(claim)
            raise
        except BaseException:
            self._keeper.discard(_claim_name(claim))
            self._give_back(claim)
            raise
        return claim, record

    def _wait(
        self, left: int, touched: tuple[str, ...], arguments: tuple[Any, ...], wake: str, deadline: float
    ) -> list[Any] | None:
        """Wait in the server's queue until the claim's owner passes it on or gives no more signs of life."""
        while (rest := deadline - time.monotonic()) > 0:
            # Not longer than the connection waits for any answer. If the claim's owner dies, its claim runs out.
            wait = min(rest, max(left, 0) / 1000 + 0.01, self._server.timeout / 2)
            woken = self._server.command("BLPOP", wake, f"{max(wait, 0.001):.3f}")  # 0 would wait for ever
            if woken is not None:
                data = woken[1] or None
                last_use = data[:8] if data is not None else b""
                if len(last_use) == 8 and arguments[0] - _time.unpack(last_use)[0] > arguments[2]:  # record it
                    data, epoch, _ = self._server.run(scripts.LOAD, touched[:2], *arguments[:4])
                    return [data, epoch]
                return [data]  # without an epoch
            reply = self._server.run(scripts.CLAIM, touched, *arguments, "1")
            if isinstance(reply, list):
                return reply
            left = reply
        return None

    def release(self, claim: Claim) -> None:
        if self._keeper.discard(_claim_name(claim)):
            self._give_back(claim)

    def _give_back(self, claim: Claim) -> None:
        try:
            self._send_back(claim)
        except StoreUnavailable:  # the claim runs out, or is given back when the server answers again
            self._unanswered.append(claim)

    def _give_back_unanswered(self) -> None:
        """Give back the claims that could not be given back while the server was away. Raise if it is still away."""
        with contextlib.suppress(IndexError):  # another thread has done it
            while True:
                claim = self._unanswered.popleft()
                try:
                    self._send_back(claim)
                except StoreUnavailable:
                    self._unanswered.append(claim)
                    raise

    def _send_back(self, claim: Claim) -> None:
        keys, sid = self._keys, claim.sid
        wake = keys.wake + claim.token
        touched = (keys.record + sid, keys.claim + sid, keys.queue + sid, wake, f"{wake}:on")
        self._server.run(scripts.RELEASE, touched, claim.token, self._lease, keys.wake)

    def _check(self, claim: Claim | None) -> None:
        """Keep a forked child from writing with a claim of its parent."""
        if claim is not None and not claim.token.startswith(self._me):
            raise LockLost(claim.sid)

    def create(
        self,
        record: Record,
        at: Moment,
        claim: Claim | None = None,
        *,
        last: bool = False,
        limit: int | None = None,
    ) -> Record:
        keys, sid, known = self._keys, record.sid, self._epoch
        self._check(claim)
        bucket = _bucket(record.active)
        uid = record.uid.encode()
        data = HEAD.pack(record.active, record.created, bucket, len(uid)) + uid + pack(record)
        reply = self._server.run(
            scripts.CREATE,
            (
                keys.record + sid,
                keys.epoch,
                keys.claim + (claim.sid if claim else sid),
                keys.queue + (claim.sid if claim else sid),
                keys.gone,
                f"{keys.bucket}{bucket}",
                keys.buckets,
                keys.living,
            ),
            sid,
            _keep(at),
            claim.token if claim else "",
            "1" if last and claim else "0",
            self._lease,
            keys.wake,
            data,
            bucket,
            new_uid(),
            limit if limit is not None else "",
        )
        if reply == b"lost":
            raise LockLost(sid)
        if reply == b"full" and limit is not None:
            raise TooManySessions(limit)
        old, epoch = reply
        self._compare(known, epoch, at.now)
        if old is not None:
            return _record(sid, old)
        if last and claim:
            self._keeper.discard(_claim_name(claim))
        return record

    def write(
        self, life: Life, changes: Mapping[str, Change], at: Moment, claim: Claim | None = None, *, last: bool = False
    ) -> None:
        keys, sid = self._keys, life.sid
        self._check(claim)
        claimed = claim.sid if claim else sid
        words: list[Any] = []
        for name, change in changes.items():
            words += (name, change.version, change.data)
        reply = self._server.run(
            scripts.WRITE,
            (keys.record + sid, keys.claim + claimed, keys.queue + claimed),
            life.uid,
            at.now,
            _keep(at),
            claim.token if claim else "",
            "1" if last and claim else "0",
            self._lease,
            keys.wake,
            *words,
        )
        if reply != b"ok":
            raise _REFUSALS[reply](sid)
        if last and claim:
            self._keeper.discard(_claim_name(claim))

    def put(self, session: Record, now: float) -> None:
        raise NotImplementedError("put() is for backends of live objects")

    # Lives

    def touch(self, life: Life, at: Moment) -> bool:
        return bool(self._server.run(scripts.TOUCH, (self._keys.record + life.sid,), life.uid, at.now, _keep(at)))

    def remove(self, life: Life) -> bool:
        keys = self._keys
        touched = (keys.record + life.sid, keys.moved + life.uid, keys.living)
        return bool(self._server.run(scripts.REMOVE, touched, life.uid, life.sid))

    def rename(self, life: Life, sid: str, at: Moment) -> bool:
        keys = self._keys
        record = self.peek(life.sid)
        if record is None:
            return False
        bucket = _bucket(record.active)
        return bool(
            self._server.run(
                scripts.RENAME,
                (
                    keys.record + life.sid,
                    keys.record + sid,
                    keys.moved + life.uid,
                    f"{keys.bucket}{bucket}",
                    keys.buckets,
                    keys.rotated + life.sid,
                    keys.living,
                ),
                life.uid,
                sid,
                bucket,
                at.now,
                int(ROTATED_RETAIN * 1000),
                life.sid,
            )
        )

    def find(self, uid: str) -> str | None:
        sid = self._server.command("GET", self._keys.moved + uid)
        return sid.decode() if sid is not None else None

    def alive(self, uid: str) -> bool:
        # The lists of ids are quick to read, but a sweep may move ids in them at the same time. A caller deletes the
        # files of a life that has ended, so the answer is False only after a look at the records themselves. A
        # record that is renamed in between is found by its uid.
        found = any(life.uid == uid for life in self._living()) or any(life.uid == uid for life in self._recorded())
        return found or self.find(uid) is not None

    # Expiry

    def due(self, at: Moment) -> Iterator[list[Life]]:
        keys = self._keys
        buckets = self._server.command("ZRANGEBYSCORE", keys.buckets, "-inf", f"({at.now - at.ttl!r}")
        for bucket in map(bytes.decode, buckets):
            key = keys.bucket + bucket
            seen: set[Life] = set()
            for _ in range(-(-self._server.command("LLEN", key) // BATCH)):
                found = self._server.run(
                    scripts.DUE,
                    (key, keys.buckets, keys.living),
                    bucket,
                    at.now,
                    at.ttl,
                    BATCH,
                    BUCKET,
                    keys.record,
                    keys.bucket,
                )
                found, damaged = found
                self._skip(damaged)
                lives = [life for life in _lives(found) if life not in seen]
                seen.update(lives)
                if lives:
                    yield lives

    def _skip(self, damaged: list[bytes]) -> None:
        """Log each damaged record once."""
        for sid in {each.decode(errors="replace") for each in damaged} - self._skipped:
            self._skipped.add(sid)
            logger.warning(
                "the record of session %s in Redis is damaged: sweeps skip it until it is reset or destroyed",
                short(sid),
            )

    def expire(self, lives: Iterable[Life], at: Moment, claim: Claim | None = None) -> list[Life]:
        keys, kept = self._keys, []
        rest = iter(lives)
        while batch := list(itertools.islice(rest, BATCH)):
            touched = [keys.gone, keys.ended, keys.living]
            words: list[str] = []
            for sid, uid in batch:
                touched += (keys.record + sid, keys.claim + sid, keys.hold + uid, keys.moved + uid)
                words += (sid, uid)
            token = claim.token if claim else ""
            stay = self._server.run(scripts.EXPIRE, tuple(touched), at.now, at.ttl, _keep(at), token, *words)
            kept += [batch[number] for number in stay]
        return kept

    def ended(self) -> list[Life]:
        while True:
            found = self._server.run(scripts.ENDED, (self._keys.ended,), CALLBACKS, self._lease)
            lives = [
                Life(*words)
                for words in (each.decode(errors="replace").split(" ") for each in found)
                if len(words) == 2
            ]
            for life in lives:
                self._keeper.add(_ended_name(life))
            if lives or not found:
                return lives
            self._server.command("ZREM", self._keys.ended, *found)
            logger.warning("a damaged entry of an ended session was removed from Redis: its callbacks were not run")

    def settle(self, lives: Iterable[Life]) -> None:
        done = list(lives)
        if done:
            self._server.command("ZREM", self._keys.ended, *(f"{life.sid} {life.uid}" for life in done))
        for life in done:
            self._keeper.discard(_ended_name(life))

    def expired_at(self, sid: str) -> float | None:
        known = self._epoch
        at, epoch = self._expired_at(sid)
        if epoch != known is not None:
            self._compare(known, epoch, time.time() + self._ahead)
            at, _ = self._expired_at(sid)
        return float(at) if at is not None else None

    def _expired_at(self, sid: str) -> tuple[bytes | None, bytes | None]:
        keys = self._keys
        at, epoch = self._server.run(scripts.EXPIRED_AT, (keys.record + sid, keys.gone, keys.lost, keys.epoch), sid)
        return at, epoch

    def prune(self, before: float) -> None:
        self._server.run(scripts.PRUNE, (self._keys.gone, self._keys.lost), before)

    def hold(self, uid: str) -> None:
        owner = f"{self._me}:{next(self._numbers)}"  # one for each hold, so that undoing one leaves the others
        self._server.run(scripts.HOLD, (self._keys.hold + uid,), owner, self._lease)
        self._keeper.add(_hold_name(uid, owner))
        with self._guard:
            self._holds.setdefault(uid, []).append(owner)

    def unhold(self, uid: str) -> None:
        with self._guard:
            owners = self._holds.get(uid)
            if owners is None:
                return
            owner = owners.pop()
            if not owners:
                del self._holds[uid]
        self._keeper.discard(_hold_name(uid, owner))
        with contextlib.suppress(StoreUnavailable):  # the hold runs out
            self._server.command("ZREM", self._keys.hold + uid, owner)

    def held(self, uid: str) -> bool:
        return bool(self._server.run(scripts.HELD, (self._keys.hold + uid,)))

    def _renew(self, names: list[str]) -> None:
        keys = self._keys
        ended = []
        for name in names:
            kind, _, rest = name.partition(" ")
            if kind == "claim":
                sid, token = rest.split(" ")
                self._server.run(scripts.RENEW_CLAIM, (keys.claim + sid,), token, self._lease)
            elif kind == "hold":
                uid, owner = rest.split(" ")
                self._server.run(scripts.HOLD, (keys.hold + uid,), owner, self._lease)
            else:
                ended.append(rest)
        if ended:
            self._server.run(scripts.RENEW_ENDED, (keys.ended,), self._lease, *ended)

    # Looking in

    def count(self) -> int:
        return int(self._server.command("SCARD", self._keys.living))

    def expired_count(self) -> int:
        return int(self._server.command("ZCARD", self._keys.gone))

    def sids(self) -> list[str]:
        return list(dict.fromkeys(life.sid for life in self._living()))

    def _living(self) -> Iterator[Life]:
        keys = self._keys
        for bucket in map(bytes.decode, self._server.command("ZRANGE", keys.buckets, 0, -1)):
            key = keys.bucket + bucket
            for first in range(0, self._server.command("LLEN", key), BATCH):
                last = first + BATCH - 1
                yield from _lives(self._server.run(scripts.LIVING, (key,), bucket, first, last, keys.record))

    def _recorded(self) -> Iterator[Life]:
        """Yield lives as ``_living`` does, and miss none that exists all the time. Scans all keys of the server."""
        keys, cursor = self._keys, b"0"
        pattern = _GLOB.sub(r"\\\g<0>", keys.record) + "*"
        while True:
            cursor, found = self._server.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            if found:
                sids = [key[len(keys.record.encode()) :] for key in found]
                yield from _lives(self._server.run(scripts.RECORDED, (keys.buckets,), keys.record, *sids))
            if cursor == b"0":
                return

    def check(self, now: float) -> list[Finding]:
        return [*look(self._server, now), *look_at_records(self._server, self._keys.record, self._living())]

    def close(self) -> None:
        self._keeper.stop()
        self._server.close()


_GLOB = re.compile(r"[\[\]*?\\^-]")
_time = struct.Struct(">d")
_REFUSALS = {b"gone": SessionExpired, b"conflict": SessionConflict, b"lost": LockLost, b"damaged": RecordDamaged}


def _renewal(at: Moment) -> tuple[float, float, float, int]:
    return at.now, at.ttl, at.touch_interval, _keep(at)


def _keep(at: Moment) -> int:
    """Return the milliseconds after which the server may drop an unused record: long after the session has expired."""
    return int(min(2 * at.ttl + WEEK, FOREVER) * 1000)


def _bucket(active: float) -> int:
    return max(0, int(active // BUCKET) * BUCKET)


def _record(sid: str, data: bytes) -> Record:
    try:
        active, created, bucket, length = HEAD.unpack_from(data)
        start = HEAD.size + length
        uid = data[HEAD.size : start].decode()
    except (struct.error, UnicodeDecodeError):
        raise RecordDamaged(sid) from None
    if len(data) < start or not is_head(uid, created, active):
        raise RecordDamaged(sid)
    record = Record(sid, uid, created, active)
    record.bucket = bucket
    return unpack_into(record, data, start)


def _lives(flat: list[bytes]) -> list[Life]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return [Life(sid.decode(errors="replace"), uid.decode()) for sid, uid in pairs]


def _claim_name(claim: Claim) -> str:
    return f"claim {claim.sid} {claim.token}"


def _hold_name(uid: str, owner: str) -> str:
    return f"hold {uid} {owner}"


def _ended_name(life: Life) -> str:
    return f"ended {life.sid} {life.uid}"
