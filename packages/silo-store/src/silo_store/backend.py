"""``Backend``, the interface below ``SessionStore`` to the place that keeps sessions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from .record import Blob, Change, Record

ROTATED_RETAIN = 60.0
"""Seconds for which an id is remembered as rotated. By then, requests that were sent before the client knew the new id
have arrived, and requests that waited for the write lock have got it."""


class Life(NamedTuple):
    """One life of a session."""

    sid: str
    uid: str


class Moment:
    """The present time, and how long a session lives. All in seconds.

    A record is *due* once ``now - active > ttl``.

    Attributes:
        now: The store's clock.
        ttl: How long a session lives after its last use.
        touch_interval: A use this short after the last recorded one need not be recorded.
    """

    __slots__ = ("now", "touch_interval", "ttl")  # made in half the time of a named tuple

    def __init__(self, now: float, ttl: float, touch_interval: float = 0.0) -> None:
        self.now: float = now
        self.ttl: float = ttl
        self.touch_interval: float = touch_interval


class Claim:
    """The right of one process to write a session.

    Attributes:
        sid: The session's id.
        token: The backend's name for the claim.
    """

    __slots__ = ("sid", "token")

    def __init__(self, sid: str, token: str) -> None:
        self.sid: str = sid
        self.token: str = token


class Look(NamedTuple):
    """What a backend knows about an id."""

    record: Record | None
    """The id's record, as ``Backend.load`` returns it."""
    trace: Literal["expired", "rotated", "lost"] | None = None
    """Why an id has no record: it expired; its session has another id now; or the backend noticed that it lost all its
    records and knows nothing else about this id. None for an id that never existed, or is forgotten."""
    since: float = 0.0
    """When that happened, in seconds of the store's clock."""


class Finding(NamedTuple):
    """A result of a health check of a backend."""

    level: Literal["ok", "warning", "error"]
    topic: str
    message: str


class Backend(Protocol):
    """Keeps records. A backend does not interpret namespaces, and knows no factories or callbacks.

    Every method can be called from several threads and runs no code of the application. A method that cannot reach its
    server or file, or finds no room there, raises ``StoreUnavailable`` within the backend's timeout and changes
    nothing. A method that finds a damaged record at a session's id raises ``RecordDamaged``. A method that looks at
    many records skips a damaged one.
    """

    live: bool
    """True: a record holds the very objects that callers change. False: it holds encoded ``Blob`` values."""
    shared: bool
    """Whether other processes see the same sessions."""
    origin: str | None
    """Names the place of the records: the same text in all processes that share them, and another one for other
    records. It contains no password. None if the records end with the process."""

    # Reading
    #
    # In a record that is not live, a backend may give an ``Apart`` for a large namespace, whose data ``fetch`` returns.
    # All other data comes with the record. Each of these methods takes one round trip.

    def load(self, sid: str, at: Moment) -> Record | None:
        """Return the record, renewed unless it is due; None if the id has no record."""

    def load_head(self, sid: str, at: Moment) -> Record | None:
        """Return what ``load`` returns, with or without the namespaces."""

    def look(self, sid: str, at: Moment) -> Look:
        """Return what ``load`` returns, or why the id has no record, in one round trip."""

    def peek(self, sid: str) -> Record | None:
        """Return the record as it is, due or not, and renew nothing; None if the id has no record."""

    def peek_head(self, sid: str) -> Record | None:
        """Return what ``peek`` returns, with or without the namespaces."""

    def read(self, sid: str) -> Record | None:
        """Return what ``peek`` returns, with the data of all namespaces as it was at one moment."""

    def fetch(self, life: Life, name: str) -> Blob | None:
        """Return a namespace as it is now; None if it is not stored. Not called if ``live`` is True.

        Raises:
            SessionExpired: This life of the session has ended.
        """

    def attached(self, sid: str, at: Moment | None = None) -> Record | None:
        """Return the record, with what is attached to the session in place of its namespaces; None if there is none.

        Args:
            sid: The session's id.
            at: Renew the record as ``load`` does; None to renew nothing.
        """

    # Writing, if ``live`` is False

    def claim(self, sid: str, at: Moment, timeout: float) -> tuple[Claim, Record | None]:
        """Wait until no other process has a claim on the session, claim it, and load it.

        There need not be a record yet. Only one thread of a process claims a session at a time. A claim lasts until it
        is given back, or its process is killed. A backend may take the claim away from a process that gives no sign of
        life for a while; that writer gets ``LockLost`` when it writes.

        Raises:
            LockTimeout: Another process kept its claim for longer than ``timeout`` seconds. Raised at once if
                ``timeout`` is 0.
        """

    def release(self, claim: Claim) -> None:
        """Give a claim back. A claim that was lost, or a failing backend, is not an error."""

    def create(
        self,
        record: Record,
        at: Moment,
        claim: Claim | None = None,
        *,
        last: bool = False,
        limit: int | None = None,
    ) -> Record:
        """Keep a new record and forget that its id had expired. If the id has a record, return that one instead.

        If ``live`` is False, the returned record is a copy. The number of records is compared with ``limit`` in the
        same step, so that there are never more, however many threads and processes create records.

        Args:
            record: The new record.
            at: The present time.
            claim: The writer's claim, if it has one.
            last: Give the claim back with the write.
            limit: Number of records that may exist, including those that are due and not yet swept; None for no limit.

        Raises:
            LockLost: The claim was taken away. Nothing was written.
            TooManySessions: The id has no record, and there are ``limit`` records already. Nothing was written, and the
                claim is kept.
        """

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
        """Write all changes and renew the record, or do nothing.

        Args:
            life: The life of the session.
            changes: The namespaces to be written.
            at: The present time.
            claim: The writer's claim, if it has one.
            last: Give the claim back with the write.
            base: The record that the writer has read or written last. If it has not changed since, the backend need
                not read it again.

        Returns:
            The record as it is now.

        Raises:
            SessionExpired: This life of the session has ended.
            SessionConflict: A namespace has another version than the change expects.
            LockLost: The claim was taken away.
        """

    def attach(self, life: Life, name: str, change: Change, at: Moment) -> None:
        """Attach data to the session under a name, or replace what is attached under it, and renew the record.

        Raises:
            SessionExpired: This life of the session has ended.
            SessionConflict: What is attached has another version than the change expects.
        """

    # Writing, if ``live`` is True

    def put(self, session: Record, now: float) -> None:
        """Keep the objects of a live session and renew it.

        Raises:
            SessionExpired: This life of the session has ended.
        """

    # Lives

    def touch(self, life: Life, at: Moment) -> bool:
        """Renew the record, due or not. Return False if that life has ended."""

    def remove(self, life: Life) -> bool:
        """Drop the record, without a tombstone. Return False if that life has ended.

        An empty uid stands for a damaged record whose uid cannot be read. Only such a record is dropped then.
        """

    def rename(self, life: Life, sid: str, at: Moment) -> bool:
        """Move the record to another id; its uid stays. Return False if that life has ended, or the id is taken.

        The old id is remembered as rotated for at least ``ROTATED_RETAIN`` seconds.
        """

    def find(self, uid: str) -> str | None:
        """Return the id that a life has now; None if the life has ended. Does not scan."""

    def living(self, uids: Sequence[str]) -> set[str]:
        """Return those of ``uids`` for which ``find`` returns an id. Asks for many of them in one round trip."""

    # Expiry

    def due(self, at: Moment) -> Iterator[list[Life]]:
        """Yield the due lives in small batches, each once. The next call yields those again that were not expired."""

    def expire(self, lives: Iterable[Life], at: Moment, claim: Claim | None = None) -> list[Life]:
        """End those lives that are still due: remember the id as expired and the life as ended.

        A life that is held, or claimed with another claim than ``claim``, lives on and is renewed.

        Returns:
            The lives that live on, for this reason or because they were used in the meantime.
        """

    def ended(self) -> list[Life]:
        """Return a batch of expired lives whose callbacks have not run; an empty list if there are none.

        No other process gets these lives, unless this one is killed before it has settled them.
        """

    def settle(self, lives: Iterable[Life]) -> None:
        """Forget lives that ``ended`` returned: their callbacks have run."""

    def expired_at(self, sid: str) -> float | None:
        """Return when the id expired; None if it did not, or was forgotten.

        A backend that has noticed that all its records were lost returns that time for every id without a record.
        """

    def prune(self, before: float) -> None:
        """Forget ids that expired, or were rotated, before this time."""

    def hold(self, uid: str) -> None:
        """Keep a life from expiring until each ``hold`` is undone by an ``unhold``, or this process is killed."""

    def unhold(self, uid: str) -> None:
        """Undo one ``hold``."""

    def held(self, uid: str) -> bool:
        """Return whether any process holds a life."""

    # Counts, checks and closing

    def count(self) -> int:
        """Return the number of records, including those that are due and not yet swept. Does not scan."""

    def expired_count(self) -> int:
        """Return the number of expired ids that are remembered."""

    def sids(self) -> list[str]:
        """Return the ids of all records. May scan."""

    def check(self, now: float) -> list[Finding]:
        """Check, for operators, whether the backend can be reached and is configured well.

        Returns at least one finding. A failing backend becomes a finding, never an exception. ``now`` is the time of
        the caller's clock, to be compared with the server's.
        """

    def close(self) -> None:
        """Close connections and files."""
