"""Lives that are due or have ended, on the server."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator

from ...backend import Claim, Life, Moment
from ...redact import short
from . import scripts
from .keeper import Keeper
from .keys import BUCKET
from .prefix import Prefix
from .scripts import keep

logger = logging.getLogger("silo_store")

BATCH = 256
"""Lives handled by one script: well below a millisecond."""
CALLBACKS = 1
"""Lives whose callbacks one process takes over at a time. If the server is away for longer than the lease, another
process gets the same lives too."""


class Expiry:
    """Ends lives that are due, and gives each ended life to one process. ``Backend`` says what each method does.

    Args:
        prefix: The keys.
        keeper: Renews the claims of this process on ended lives.
        lease: Milliseconds after which the server gives an ended life to another process, as an argument of scripts.
    """

    def __init__(self, prefix: Prefix, keeper: Keeper, lease: str) -> None:
        self._prefix = prefix
        self._keeper = keeper
        self._lease = lease
        self._skipped: set[str] = set()  # damaged records that a sweep has logged

    def due(self, at: Moment) -> Iterator[list[Life]]:
        keys = self._prefix.keys
        buckets = self._prefix.call("ZRANGEBYSCORE", keys.buckets, "-inf", f"({at.now - at.ttl!r}")
        for bucket in map(bytes.decode, buckets):
            key = keys.bucket + bucket
            seen: set[Life] = set()
            for _ in range(-(-self._prefix.server.command("LLEN", key) // BATCH)):
                found, damaged = self._prefix.run(
                    scripts.DUE,
                    (key, keys.buckets),
                    bucket,
                    at.now,
                    at.ttl,
                    BATCH,
                    BUCKET,
                    keys.record,
                    keys.bucket,
                )
                self._skip(damaged)
                pairs = zip(found[::2], found[1::2], strict=True)
                lives = [Life(sid.decode(), uid.decode()) for sid, uid in pairs]
                lives = [life for life in lives if life not in seen]
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
        keys, kept = self._prefix.keys, []
        rest = iter(lives)
        while batch := list(itertools.islice(rest, BATCH)):
            touched = [keys.gone, keys.ended]
            words: list[str] = []
            for sid, uid in batch:
                touched += (keys.record + sid, keys.claim + sid, keys.hold + uid)
                words += (sid, uid)
            token = claim.token if claim else ""
            stay = self._prefix.run(scripts.EXPIRE, tuple(touched), at.now, at.ttl, keep(at), token, *words)
            kept += [batch[number] for number in stay]
        return kept

    def ended(self) -> list[Life]:
        while True:
            found = self._prefix.run(scripts.ENDED, (self._prefix.keys.ended,), CALLBACKS, self._lease)
            lives = [
                Life(*words)
                for words in (each.decode(errors="replace").split(" ") for each in found)
                if len(words) == 2
            ]
            for life in lives:
                self._keeper.add(_name(life))
            if lives or not found:
                return lives
            self._prefix.server.command("ZREM", self._prefix.keys.ended, *found)
            logger.warning("a damaged entry of an ended session was removed from Redis: its callbacks were not run")

    def settle(self, lives: Iterable[Life]) -> None:
        done = list(lives)
        if done:
            self._prefix.server.command("ZREM", self._prefix.keys.ended, *(f"{life.sid} {life.uid}" for life in done))
        for life in done:
            self._keeper.discard(_name(life))

    def renew(self, lives: list[str]) -> None:
        """Keep ended lives, each as the rest of its name in the keeper, for another lease."""
        self._prefix.run(scripts.RENEW_ENDED, (self._prefix.keys.ended,), self._lease, *lives)


def _name(life: Life) -> str:
    return f"ended {life.sid} {life.uid}"
