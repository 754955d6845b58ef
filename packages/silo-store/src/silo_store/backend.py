"""The seam below ``SessionStore``: where sessions are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, Protocol

from .record import Change, Record

ROTATED_RETAIN = 60.0
"""Seconds for which an id is remembered as rotated. By then, requests that were sent before the client knew the new id
have arrived, and requests that waited for the write lock have got it."""

SMALL = 65536
"""Bytes up to which a part of a record takes as long as the whole record."""


class Life(NamedTuple):
    """One life of a session."""

    sid: str
    uid: str


class Moment(NamedTuple):
    """The present time, and how long a session lives. All in seconds.

    A record is *due* once ``now - active > ttl``.
    """

    now: float
    """The store's clock."""
    ttl: float
    """How long a session lives after its last use."""
    touch_interval: float = 0.0
    """A use this short after the last recorded one need not be recorded."""


class Claim(NamedTuple):
    """The right of one process to write a session."""

    sid: str
    token: str


class Look(NamedTuple):
    """What a backend knows of an id."""

    record: Record | None
    """Its record, as ``Backend.load`` returns it."""
    trace: Literal["expired", "rotated", "lost"] | None = None
    """What became of an id without a record: it expired; its session was renamed; or the backend has noticed that it
    lost all its records and knows nothing else of this id. None for an id that never existed, or is forgotten."""
    since: float = 0.0
    """When that happened."""


class Finding(NamedTuple):
    """A result of a health check of a backend."""

    level: Literal["ok", "warning", "error"]
    topic: str
    message: str


class Backend(Protocol):
    """Keeps records. It does not know what namespaces mean, nor factories and callbacks.

    Every method can be called from several threads and runs no code of the application. A method that cannot reach its
    server or file, or finds no room there, raises ``StoreUnavailable`` within the backend's timeout, and nothing is
    half done. A method that finds a damaged record at a session's id raises ``RecordDamaged``. A method that looks at
    many records skips a damaged one.
    """

    live: bool
    """True: a record holds the very objects that callers change. False: it holds encoded ``Blob`` values."""
    shared: bool
    """Whether other processes see the same sessions."""

    # Reading

    def load(self, sid: str, at: Moment) -> Record | None:
        """Return the record, renewed unless it is due. None where there is none."""

    def look(self, sid: str, at: Moment) -> Look:
        """Return what ``load`` returns, or what became of an id without a record, in one round trip."""

    def peek(self, sid: str) -> Record | None:
        """Return the record as it is, due or not, and renew nothing."""

    # Writing, where live is false

    def claim(self, sid: str, at: Moment, timeout: float) -> tuple[Claim, Record | None]:
        """Wait until no other process has a claim on the session, claim it, and load it.

        There need not be a record yet. Only one thread of a process claims a session at a time. A claim lasts until it
        is given back, or its process is killed. A backend may take the claim away from a process that gives no sign of
        life for a while; that writer gets ``LockLost`` when it writes.

        Raises:
            LockTimeout: Another process kept its claim for longer than ``timeout`` seconds; at once where that is 0.
        """

    def release(self, claim: Claim) -> None:
        """Give a claim back. A claim that is lost, or a failing backend, is not an error."""

    def create(
        self,
        record: Record,
        at: Moment,
        claim: Claim | None = None,
        *,
        last: bool = False,
        limit: int | None = None,
    ) -> Record:
        """Keep a new record and forget that its id had expired. Where the id has a record, return that instead.

        Where ``live`` is false, the record that is returned is a copy. The number of records is compared with ``limit``
        in the same step, so that there are never more, however many threads and processes create records.

        Args:
            record: The new record.
            at: The present time.
            claim: The writer's claim, if it has one.
            last: Give the claim back with the write.
            limit: How many records there may be, including those that are due and not yet swept; None for any number.

        Raises:
            LockLost: The claim was taken away. Nothing was written.
            TooManySessions: The id has no record, and there are ``limit`` records already. Nothing was written, and the
                claim is kept.
        """

    def write(
        self, life: Life, changes: Mapping[str, Change], at: Moment, claim: Claim | None = None, *, last: bool = False
    ) -> None:
        """Write all changes and renew the record, or do nothing. Arguments as for ``create``.

        Raises:
            SessionExpired: This life of the session is over.
            SessionConflict: A namespace has another version than the change expects.
            LockLost: The claim was taken away.
        """

    # Writing, where live is true

    def put(self, session: Record, now: float) -> None:
        """Keep the objects of a live session and renew it.

        Raises:
            SessionExpired: This life of the session is over.
        """

    # Lives

    def touch(self, life: Life, at: Moment) -> bool:
        """Renew the record. False where that life is over."""

    def remove(self, life: Life) -> bool:
        """Drop the record, without a tombstone. False where that life is over.

        An empty uid stands for a damaged record whose uid cannot be read. Only such a record is dropped then.
        """

    def rename(self, life: Life, sid: str, at: Moment) -> bool:
        """Move the record to another id; its uid stays. False where that life is over, or the id is taken.

        The old id is remembered as rotated for at least ``ROTATED_RETAIN`` seconds.
        """

    def find(self, uid: str) -> str | None:
        """Return the id to which a life was renamed last; None where it is over.

        For a life that was never renamed, return its id or None.
        """

    def alive(self, uid: str) -> bool:
        """Return whether any record has this uid, due or not. Called at a start, for files that were left; may scan."""

    # Expiry

    def due(self, at: Moment) -> Iterator[list[Life]]:
        """Yield the due lives in small batches, each once. A life that is not expired comes again in the next call."""

    def expire(self, lives: Iterable[Life], at: Moment, claim: Claim | None = None) -> list[Life]:
        """End those lives that are still due: remember the id as expired and the life as ended.

        A life that is held, or claimed with another claim than ``claim``, lives on and is renewed.

        Returns:
            The lives that live on, for this reason or because they were used in the meantime.
        """

    def ended(self) -> list[Life]:
        """Return a batch of expired lives whose callbacks have not run. Empty when there are none.

        No other process gets them, unless this one is killed before it has settled them.
        """

    def settle(self, lives: Iterable[Life]) -> None:
        """Forget lives that ``ended`` returned: their callbacks have run."""

    def expired_at(self, sid: str) -> float | None:
        """Return when the id expired; None where it did not, or that is forgotten.

        A backend that has noticed that all its records were lost returns that time for every id without a record.
        """

    def prune(self, before: float) -> None:
        """Forget ids that expired, or were rotated, before this time."""

    def hold(self, uid: str) -> None:
        """Keep a life from expiring until ``unhold`` is called as often, or this process is killed."""

    def unhold(self, uid: str) -> None:
        """Take one ``hold`` back."""

    def held(self, uid: str) -> bool:
        """Return whether any process holds a life."""

    # Looking in

    def count(self) -> int:
        """Return how many records there are, including those that are due and not yet swept. Does not scan."""

    def expired_count(self) -> int:
        """Return how many expired ids are remembered."""

    def sids(self) -> list[str]:
        """Return the ids of all records. May scan."""

    def check(self, now: float) -> list[Finding]:
        """Check whether the backend can be reached and is set up as sessions need it, for operators.

        A failing backend becomes a finding, never an exception. ``now`` is the time of the caller's clock, to compare
        with the server's.
        """

    def close(self) -> None:
        """Close connections and files."""


def part_of(backend: Backend, sid: str, beginning: str) -> Record | None:
    """Return the record as ``Backend.peek`` does, but names that do not begin with ``beginning`` may be left out.

    A backend that can read a part of a record has a method ``part(sid, beginning)``. So it costs little to look at a
    session with much state repeatedly.

    Args:
        backend: The backend.
        sid: The session's id.
        beginning: What the names that matter begin with.
    """
    part: Callable[[str, str], Record | None] | None = getattr(backend, "part", None)
    return part(sid, beginning) if part is not None else backend.peek(sid)
