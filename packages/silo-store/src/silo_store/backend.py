"""The seam below `SessionStore`: where sessions are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from .record import Change, Record


class Life(NamedTuple):
    """One life of a session."""

    sid: str
    uid: str


class Backend(Protocol):
    """Keeps records. Knows nothing of namespaces' meaning, factories, callbacks or turns.

    Every method is safe to call from several threads and runs no code of the user. Times are seconds of the store's
    clock, handed in by the caller. ``ttl`` is in seconds; a record is *due* once ``now - active > ttl``.
    """

    live: bool
    """True: a record holds the very objects that callers change. False: it holds encoded `Blob` values."""

    def load(self, sid: str, now: float, ttl: float) -> Record | None:
        """Return the record, renewed to ``now`` unless it is due. None where there is none."""

    def peek(self, sid: str) -> Record | None:
        """Return the record as it is, due or not, and renew nothing."""

    def create(self, record: Record) -> Record:
        """Keep a new record and forget that its id had expired; where one exists, return that one instead.

        Where `live` is false, that one is a copy.
        """

    def write(self, life: Life, changes: Mapping[str, Change], now: float) -> None:
        """Write all changes and renew the record, or do nothing.

        Raises:
            SessionExpired: this life of the session is over.
            SessionConflict: a namespace has another version than the change expects.
        """

    def put(self, session: Record, now: float) -> None:
        """Keep the objects of a live session and renew it. Called only where `live` is true.

        Raises:
            SessionExpired: this life of the session is over.
        """

    def touch(self, life: Life, now: float) -> bool:
        """Renew the record. False where that life is over."""

    def remove(self, life: Life) -> bool:
        """Drop the record without a trace. False where that life is over."""

    def rename(self, life: Life, sid: str) -> bool:
        """Move the record to another id; its uid stays. False where that life is over."""

    def due(self, now: float, ttl: float) -> Iterator[list[Life]]:
        """Yield the due lives in small batches, each once. What is not expired meanwhile comes again next time."""

    def expire(self, lives: Iterable[Life], now: float, ttl: float) -> None:
        """End those lives that are still due and not held: remember the id as expired and the life as ended."""

    def ended(self) -> list[Life]:
        """Claim a batch of expired lives whose callbacks have not run. Empty when there are none."""

    def settle(self, lives: Iterable[Life]) -> None:
        """Forget lives claimed from `ended`: their callbacks have run."""

    def expired_at(self, sid: str) -> float | None:
        """When the id expired; None where it did not or that is forgotten."""

    def prune(self, before: float) -> None:
        """Forget ids that expired before this time."""

    def hold(self, uid: str) -> None:
        """Keep a life from expiring until `unhold` is called as often."""

    def unhold(self, uid: str) -> None:
        """Take one `hold` back."""

    def held(self, uid: str) -> bool:
        """Say whether a life is held."""

    def alive(self, uid: str) -> bool:
        """Say whether any record has this uid, due or not. Asked at a start, of files that were left; may scan."""

    def count(self) -> int:
        """How many records there are, those included that are due and not yet swept."""

    def expired_count(self) -> int:
        """How many expired ids are remembered."""

    def sids(self) -> list[str]:
        """The ids of all records."""

    def close(self) -> None:
        """Give connections and files back."""
