"""The seam below `SessionStore`: where sessions are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, Protocol

from .record import Change, Record

ROTATED_RETAIN = 60.0
"""Seconds for which an id is remembered as rotated. By then, requests that were sent before the client knew the new id
have arrived, and requests that waited for their turn have got it."""

SMALL = 65536
"""Bytes up to which a `part` of a record takes no less time than all of it."""


class Life(NamedTuple):
    """One life of a session."""

    sid: str
    uid: str


class Moment(NamedTuple):
    """When something happens, and for how long a session lives. All in seconds.

    A record is *due* once ``now - active > ttl``.
    """

    now: float
    """The store's clock."""
    ttl: float
    """How long a session lives after its last use."""
    touch_interval: float = 0.0
    """A use this short after the last one that was noted need not be noted."""


class Claim(NamedTuple):
    """The right to write one session, which no other process has meanwhile."""

    sid: str
    token: str


class Look(NamedTuple):
    """What a backend knows of an id."""

    record: Record | None
    """Its record, as `Backend.load` returns it."""
    trace: Literal["expired", "rotated", "lost"] | None = None
    """What became of an id without a record: it expired; its session was renamed; or the backend has noticed that it
    lost all its records and knows nothing else of this id. None for an id that never was, or that is forgotten."""
    since: float = 0.0
    """When that happened."""


class Finding(NamedTuple):
    """What a look at a backend's health brought up."""

    level: Literal["ok", "warning", "error"]
    topic: str
    message: str


class Backend(Protocol):
    """Keeps records. Knows nothing of namespaces' meaning, factories or callbacks.

    Every method is safe to call from several threads and runs no code of the user. One that cannot reach what it
    needs, or has no room, raises `StoreUnavailable` within the backend's timeout, and nothing is half done. A method
    that finds a damaged record at a session's id raises `RecordDamaged`. A method that looks at many records skips it.
    """

    live: bool
    """True: a record holds the very objects that callers change. False: it holds encoded `Blob` values."""
    shared: bool
    """Whether other processes see the same sessions."""

    # Reading

    def load(self, sid: str, at: Moment) -> Record | None:
        """Return the record, renewed unless it is due. None where there is none."""

    def look(self, sid: str, at: Moment) -> Look:
        """Return what `load` returns, or what became of an id without a record, in one round trip."""

    def peek(self, sid: str) -> Record | None:
        """Return the record as it is, due or not, and renew nothing."""

    # Writing, where `live` is false

    def claim(self, sid: str, at: Moment, timeout: float) -> tuple[Claim, Record | None]:
        """Wait until no other process writes the session, keep them from it, and load it.

        There need not be a record yet. Threads of this process take turns before they come here. A claim lasts until
        it is given back, or its process is killed. A backend may take away the claim of a process that it has not
        heard of for a while; the late writer finds out when it writes.

        Raises:
            LockTimeout: another process kept its claim for longer than ``timeout`` seconds; at once where that is 0.
        """

    def release(self, claim: Claim) -> None:
        """Give a claim back. Raises nothing, also where the claim is lost."""

    def create(
        self,
        record: Record,
        at: Moment,
        claim: Claim | None = None,
        *,
        last: bool = False,
        limit: int | None = None,
    ) -> Record:
        """Keep a new record and forget that its id had expired; where one exists, return that one instead.

        Where `live` is false, that one is a copy. The number of records is compared with ``limit`` in the same step, so
        that there are never more, however many threads and processes create records.

        Args:
            record: the new record.
            at: when.
            claim: the writer's, if it has one.
            last: give the claim back with it.
            limit: how many records there may be, including those that are due and not yet swept; None for any number.

        Raises:
            LockLost: the claim was taken away. Nothing was written.
            TooManySessions: the id has no record, and there are ``limit`` records already. Nothing was written, and the
                claim is kept.
        """

    def write(
        self, life: Life, changes: Mapping[str, Change], at: Moment, claim: Claim | None = None, *, last: bool = False
    ) -> None:
        """Write all changes and renew the record, or do nothing. Arguments as for `create`.

        Raises:
            SessionExpired: this life of the session is over.
            SessionConflict: a namespace has another version than the change expects.
            LockLost: the claim was taken away.
        """

    # Writing, where `live` is true

    def put(self, session: Record, now: float) -> None:
        """Keep the objects of a live session and renew it.

        Raises:
            SessionExpired: this life of the session is over.
        """

    # Lives

    def touch(self, life: Life, at: Moment) -> bool:
        """Renew the record. False where that life is over."""

    def remove(self, life: Life) -> bool:
        """Drop the record without a trace. False where that life is over.

        An empty uid stands for the uid of a damaged record that cannot be read. Only such a record is dropped then.
        """

    def rename(self, life: Life, sid: str, at: Moment) -> bool:
        """Move the record to another id; its uid stays. False where that life is over, or the id is taken.

        The old id is remembered as rotated for at least `ROTATED_RETAIN` seconds.
        """

    def find(self, uid: str) -> str | None:
        """Return the id to which a life was renamed last. None where it is over; where it never was, None or its id."""

    def alive(self, uid: str) -> bool:
        """Say whether any record has this uid, due or not. Asked at a start, of files that were left; may scan."""

    # Expiry

    def due(self, at: Moment) -> Iterator[list[Life]]:
        """Yield the due lives in small batches, each once. What is not expired meanwhile comes again next time."""

    def expire(self, lives: Iterable[Life], at: Moment, claim: Claim | None = None) -> list[Life]:
        """End those lives that are still due: remember the id as expired and the life as ended.

        A life that is held, or claimed by anyone but ``claim``, lives on and is renewed.

        Returns:
            the lives that live on, for this reason or because they were used meanwhile.
        """

    def ended(self) -> list[Life]:
        """Claim a batch of expired lives whose callbacks have not run. Empty when there are none.

        No other process gets them, unless this one is killed before it has settled them.
        """

    def settle(self, lives: Iterable[Life]) -> None:
        """Forget lives claimed from `ended`: their callbacks have run."""

    def expired_at(self, sid: str) -> float | None:
        """When the id expired; None where it did not or that is forgotten.

        A backend that has noticed that all its records were lost gives that time for every id without a record.
        """

    def prune(self, before: float) -> None:
        """Forget ids that expired, or were rotated, before this time."""

    def hold(self, uid: str) -> None:
        """Keep a life from expiring until `unhold` is called as often, or this process is killed."""

    def unhold(self, uid: str) -> None:
        """Take one `hold` back."""

    def held(self, uid: str) -> bool:
        """Say whether a life is held by any process."""

    # Looking in

    def count(self) -> int:
        """How many records there are, those included that are due and not yet swept. Does not scan."""

    def expired_count(self) -> int:
        """How many expired ids are remembered."""

    def sids(self) -> list[str]:
        """The ids of all records. May scan."""

    def check(self, now: float) -> list[Finding]:
        """Look whether the backend is reachable and set up as sessions need it, for people to read.

        Raises nothing: what fails is a finding. ``now`` is the caller's clock, to compare with the server's.
        """

    def close(self) -> None:
        """Give connections and files back."""


def part_of(backend: Backend, sid: str, beginning: str) -> Record | None:
    """Return the record as `Backend.peek` does, where only some namespaces matter: the others may be left out.

    A backend that can look at these alone has a method ``part(sid, beginning)``. So it costs little to look at a
    session with much state again and again.

    Args:
        backend: where the session is.
        sid: its id.
        beginning: what the names of the namespaces begin with.
    """
    part: Callable[[str, str], Record | None] | None = getattr(backend, "part", None)
    return part(sid, beginning) if part is not None else backend.peek(sid)
