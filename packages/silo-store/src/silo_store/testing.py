"""What every backend and every codec must do, as test suites to subclass.

Use them in a test module of yours::

    from silo_store.testing import BackendContract

    class TestMyBackend(BackendContract):
        def make_backend(self):
            return MyBackend(...)

They use plain asserts and need no test framework of this package's choosing.
"""
# ruff: noqa: ARG002  (the defaults of what a suite is told)

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .backend import SMALL, Backend, Life, Moment, part_of
from .codec import Codec
from .errors import LockLost, LockTimeout, SessionConflict, SessionExpired, TooManySessions
from .record import Blob, Change, Record
from .session import Session
from .unencodable import Unencodable

SID = "a" * 32
"""A session id, for tests."""
TTL = 60.0
"""A time-to-live in seconds, for tests."""


class Clock:
    """A clock for tests: seconds that pass when the test says so. ``SessionStore(clock=Clock())``."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work(0) ... work(count - 1)`` in as many threads, released together; return what they returned.

    Raises:
        BaseException: the first error that any of them raised.
    """
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count
    errors: list[BaseException] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = work(number)
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def at(now: float, touch_interval: float = 0.0) -> Moment:
    """Make a moment with a time-to-live of `TTL`."""
    return Moment(now, TTL, touch_interval)


def all_due(backend: Backend, now: float) -> list[Life]:
    """Return what is due at ``now`` with a time-to-live of `TTL`."""
    return [life for batch in backend.due(at(now)) for life in batch]


class BackendContract:
    """The suite for a `Backend`. Each test asks for a fresh, empty one."""

    def make_backend(self) -> Backend:
        """Return a new, empty backend."""
        raise NotImplementedError

    def make_peer(self, backend: Backend) -> Backend | None:
        """Return a second backend that sees what ``backend`` keeps, as another process would open it.

        None, the default, for backends of one process.
        """
        return None

    def lose_claims(self, backend: Backend) -> bool:
        """Do what happens to the claims of a process that is not heard of for too long; False where nothing does."""
        return False

    def begin(
        self, backend: Backend, sid: str = "sid-a", uid: str = "uid-1", now: float = 0.0, limit: int | None = None
    ) -> Record:
        """Create a record with one namespace, ``ns``."""
        kind = Session if backend.live else Record
        record = kind(sid, uid, now, now)
        record["ns"] = {"value": 1} if backend.live else Blob(1, b"one")
        return backend.create(record, at(now), limit=limit)

    def is_refused(self, backend: Backend, sid: str, limit: int) -> bool:
        """Say whether `limit` keeps a record from being created, and check that a refusal leaves nothing."""
        refusal = None
        try:
            self.begin(backend, sid, f"uid-{sid}", limit=limit)
        except TooManySessions as error:
            refusal = error
        assert refusal is None or (refusal.limit == limit and backend.peek(sid) is None)
        return refusal is not None

    def test_nothing_is_there_at_first(self) -> None:
        backend = self.make_backend()
        assert backend.load("sid-a", at(0.0)) is None
        assert backend.peek("sid-a") is None
        assert backend.expired_at("sid-a") is None
        assert (backend.count(), backend.expired_count(), backend.sids()) == (0, 0, [])
        assert list(backend.due(at(1e9))) == []
        assert backend.ended() == []

    def test_a_created_record_is_found_with_all_that_it_was_given(self) -> None:
        backend = self.make_backend()
        self.begin(backend, now=5.0)
        found = backend.load("sid-a", at(6.0))
        assert found is not None
        assert (found.sid, found.uid, found.created, found.active) == ("sid-a", "uid-1", 5.0, 6.0)
        assert found["ns"] == ({"value": 1} if backend.live else Blob(1, b"one"))
        assert (backend.count(), backend.sids()) == (1, ["sid-a"])
        assert backend.alive("uid-1")
        assert not backend.alive("uid-2")

    def test_loading_renews_until_the_time_is_over_and_peeking_never(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        backend.load("sid-a", at(TTL))
        peeked = backend.peek("sid-a")
        assert peeked is not None
        assert peeked.active == TTL
        late = backend.load("sid-a", at(2 * TTL + 0.001))
        assert late is not None
        assert late.active == TTL, "a due record must not be renewed by a load"

    def test_a_part_of_a_record_is_as_a_look_at_all_of_it(self) -> None:
        """For a backend that has the method `part_of` asks for."""
        backend = self.make_backend()
        assert part_of(backend, "sid-a", "_tag:") is None
        if backend.live:
            return
        for sid, size in (("sid-a", 9), ("sid-b", SMALL + 1), ("sid-c", 3_000_000)):
            record = Record(sid, f"uid-{sid}", 1.0, 2.0)
            for number, name in enumerate(("ns", "_tag:one", "ä", "_tag:", "_ta", "größe", "_tag:ä")):
                record[name] = Blob(number + 1, b"%d" % number * (size if name in ("ns", "größe") else 9))
            record["_tag:none"] = Blob(1, b"")
            backend.create(record, at(2.0))
            backend.write(Life(sid, f"uid-{sid}"), {"_tag:one": Change(2, b"written")}, at(3.0))
            for beginning in ("_tag:", "ä", "größe", "no such", ""):
                whole, part = backend.peek(sid), part_of(backend, sid, beginning)
                assert whole is not None
                assert part is not None
                assert (part.sid, part.uid, part.created, part.active) == (sid, whole.uid, 1.0, 3.0)
                wanted = {name for name in whole if name.startswith(beginning)}
                assert wanted <= set(part) <= set(whole)
                assert all(part[name] == whole[name] for name in part)

    def test_the_first_of_two_creations_wins(self) -> None:
        backend = self.make_backend()
        self.begin(backend, uid="uid-1")
        assert self.begin(backend, uid="uid-2").uid == "uid-1"
        uids = set(in_threads(8, lambda n: self.begin(backend, sid="sid-b", uid=f"uid-{n}").uid))
        assert len(uids) == 1

    def test_a_creation_beyond_the_limit_is_refused(self) -> None:
        backend = self.make_backend()
        assert self.is_refused(backend, "sid-a", 0)
        assert not self.is_refused(backend, "sid-a", 2)
        assert not self.is_refused(backend, "sid-b", 2)
        assert self.is_refused(backend, "sid-c", 2)
        assert self.begin(backend, sid="sid-a", uid="uid-2", limit=1).uid == "uid-sid-a", "what exists is no creation"
        assert not self.is_refused(backend, "sid-c", 3)
        assert (backend.count(), sorted(backend.sids())) == (3, ["sid-a", "sid-b", "sid-c"])

    def test_what_ends_makes_room_and_a_renamed_record_does_not(self) -> None:
        backend = self.make_backend()
        life = Life("sid-b", "uid-1")
        self.begin(backend)
        backend.rename(Life("sid-a", "uid-1"), "sid-b", at(1.0))
        assert self.is_refused(backend, "sid-a", 1)
        assert self.is_refused(backend, "sid-c", 1)
        assert not backend.rename(Life("sid-b", "uid-2"), "sid-d", at(1.0))
        assert not backend.remove(Life("sid-b", "uid-2"))
        assert self.is_refused(backend, "sid-c", 1), "what failed has changed the number"
        assert backend.expire([life, life], at(100.0)) == []
        assert not self.is_refused(backend, "sid-c", 1)
        assert self.is_refused(backend, "sid-b", 1)
        assert backend.expired_at("sid-b") is not None, "a refusal forgets no tombstone"
        assert backend.remove(Life("sid-c", "uid-sid-c"))
        assert not self.is_refused(backend, "sid-b", 1), "an expired id begins again where there is room"
        assert (backend.count(), backend.expired_at("sid-b")) == (1, None)

    def test_of_many_creations_as_many_live_as_may(self) -> None:
        backend = self.make_backend()
        both = (backend, self.make_peer(backend) or backend)
        self.begin(backend)

        def fill(number: int) -> int:
            tries = [f"sid-{number}-{each}" for each in range(5)]
            self.begin(both[number % 2], uid="uid-2", limit=1)  # it exists
            return sum(not self.is_refused(both[number % 2], sid, 20) for sid in tries)

        assert sum(in_threads(8, fill)) == 19
        assert (backend.count(), len(backend.sids())) == (20, 20)

    def test_a_refused_creation_keeps_its_claim(self) -> None:
        backend = self.make_backend()
        if backend.live:
            return
        self.begin(backend)
        claim, _ = backend.claim("sid-b", at(0.0), 1.0)
        mine = Record("sid-b", "uid-2", 0.0, 0.0)
        mine["ns"] = Blob(1, b"one")
        try:
            backend.create(mine, at(0.0), claim, last=True, limit=1)
        except TooManySessions:
            pass
        else:
            raise AssertionError("a creation beyond the limit must be refused")
        backend.remove(Life("sid-a", "uid-1"))
        assert backend.create(mine, at(0.0), claim, last=True, limit=1) is mine
        claim, found = backend.claim("sid-b", at(0.0), 0.0)
        backend.release(claim)
        assert found is not None

    def test_touch_remove_and_rename_act_on_their_own_life_only(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        other = Life("sid-a", "uid-2")
        assert not backend.touch(other, at(1.0))
        assert not backend.remove(other)
        assert not backend.rename(other, "sid-b", at(1.0))
        life = Life("sid-a", "uid-1")
        assert backend.touch(life, at(7.0))
        assert backend.rename(life, "sid-b", at(7.0))
        assert backend.peek("sid-a") is None
        moved = backend.peek("sid-b")
        assert moved is not None
        assert (moved.sid, moved.uid, moved.active) == ("sid-b", "uid-1", 7.0)
        assert backend.remove(Life("sid-b", "uid-1"))
        assert backend.count() == 0

    def test_a_record_is_not_renamed_onto_another(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        self.begin(backend, sid="sid-b", uid="uid-2")
        assert not backend.rename(Life("sid-a", "uid-1"), "sid-b", at(1.0))
        kept = backend.peek("sid-b")
        assert kept is not None
        assert kept.uid == "uid-2"

    def test_a_look_finds_a_record_or_says_what_became_of_its_id(self) -> None:
        backend = self.make_backend()
        assert backend.look("sid-a", at(0.0)) == (None, None, 0.0)
        self.begin(backend)
        found = backend.look("sid-a", at(TTL)).record
        assert found is not None
        assert (found.uid, found.active) == ("uid-1", TTL), "renewed as by a load"
        late = backend.look("sid-a", at(2 * TTL + 0.001)).record
        assert late is not None
        assert late.active == TTL, "a due record must not be renewed by a look"
        assert backend.rename(Life("sid-a", "uid-1"), "sid-b", at(80.0))
        assert backend.look("sid-a", at(81.0)) == (None, "rotated", 80.0)
        assert backend.look("sid-b", at(81.0)).record is not None
        assert backend.expired_at("sid-a") is None, "an id that was rotated has not expired"
        self.begin(backend, uid="uid-2", now=81.0)
        assert backend.expire([Life("sid-a", "uid-2")], at(900.0)) == []
        assert backend.look("sid-a", at(900.0)) == (None, "expired", 900.0)
        self.begin(backend, uid="uid-3", now=901.0)
        assert backend.look("sid-a", at(901.0)).record is not None
        assert backend.remove(Life("sid-a", "uid-3"))
        backend.prune(1000.0)
        assert backend.look("sid-a", at(1000.0)).trace in (None, "rotated"), "pruned, or it runs out by itself"

    def test_a_write_needs_the_version_that_it_read(self) -> None:
        backend = self.make_backend()
        if backend.live:
            return
        self.begin(backend)
        backend.write(Life("sid-a", "uid-1"), {"ns": Change(1, b"two"), "new": Change(0, b"first")}, at(7.0))
        record = backend.peek("sid-a")
        assert record is not None
        assert record.active == 7.0
        assert dict(record) == {"ns": Blob(2, b"two"), "new": Blob(1, b"first")}
        for stale in (Change(1, b"x"), Change(0, b"x"), Change(3, b"x")):
            try:
                backend.write(Life("sid-a", "uid-1"), {"new": Change(1, b"half"), "ns": stale}, at(8.0))
            except SessionConflict:
                pass
            else:
                raise AssertionError("a stale write must be refused")
        record = backend.peek("sid-a")
        assert record is not None
        assert record["new"] == Blob(1, b"first"), "a refused write must change nothing"

    def test_of_many_writers_of_one_version_one_wins(self) -> None:
        backend = self.make_backend()
        if backend.live:
            return
        self.begin(backend)

        def write(number: int) -> bool:
            try:
                backend.write(Life("sid-a", "uid-1"), {"ns": Change(1, b"%d" % number)}, at(1.0))
            except SessionConflict:
                return False
            return True

        assert sum(in_threads(8, write)) == 1

    def test_a_late_writer_finds_its_life_over(self) -> None:
        backend = self.make_backend()
        old = self.begin(backend)
        backend.remove(Life("sid-a", "uid-1"))
        for again in (False, True):
            if again:
                self.begin(backend, uid="uid-2")
            try:
                if backend.live:
                    backend.put(old, 1.0)
                else:
                    backend.write(Life("sid-a", "uid-1"), {"ns": Change(1, b"late")}, at(1.0))
            except SessionExpired:
                pass
            else:
                raise AssertionError("a late write must be refused")
        assert backend.count() == 1

    def test_what_a_caller_does_to_a_copy_stays_with_the_caller(self) -> None:
        backend = self.make_backend()
        if backend.live:
            return
        self.begin(backend)
        record = backend.load("sid-a", at(0.0))
        assert record is not None
        record["ns"] = Blob(9, b"mine")
        record.active = 99.0
        loser = self.begin(backend, uid="uid-2")
        loser["ns"] = Blob(9, b"mine")
        kept = backend.peek("sid-a")
        assert kept is not None
        assert (kept["ns"], kept.active) == (Blob(1, b"one"), 0.0)

    def test_a_record_is_due_after_its_time_not_at_it(self) -> None:
        backend = self.make_backend()
        self.begin(backend, now=10.0)
        life = Life("sid-a", "uid-1")
        assert list(backend.due(at(10.0 + TTL))) == []
        backend.expire([life], at(10.0 + TTL))
        assert backend.count() == 1
        assert all_due(backend, 10.001 + TTL) == [life]

    def test_what_is_due_and_not_expired_comes_again(self) -> None:
        backend = self.make_backend()
        for number in range(1000):
            self.begin(backend, sid=f"sid-{number}", uid=f"uid-{number}", now=number / 1000)
        late = TTL + 10
        for _ in range(2):
            lives = all_due(backend, late)
            assert len(lives) == len(set(lives)) == 1000
        given_up = backend.due(at(late))
        next(given_up)
        del given_up
        assert len(all_due(backend, late)) == 1000

    def test_a_used_record_is_due_by_its_last_use(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        backend.load("sid-a", at(50.0))
        assert list(backend.due(at(100.0))) == []
        assert list(backend.due(at(50.0 + TTL))) == []
        assert all_due(backend, 50.5 + TTL) == [Life("sid-a", "uid-1")]

    def test_expiring_leaves_a_tombstone_and_an_ended_life(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        life = Life("sid-a", "uid-1")
        backend.expire([life, life, Life("sid-a", "uid-2"), Life("sid-x", "uid-x")], at(100.0))
        assert backend.peek("sid-a") is None
        assert backend.expired_at("sid-a") == 100.0
        assert backend.expired_count() == 1
        assert backend.ended() == [life]
        backend.settle([life])
        assert backend.ended() == []
        backend.prune(100.0)
        assert backend.expired_at("sid-a") == 100.0
        backend.prune(100.001)
        assert backend.expired_at("sid-a") is None

    def test_a_removed_record_leaves_no_tombstone(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        backend.remove(Life("sid-a", "uid-1"))
        assert backend.expired_at("sid-a") is None
        assert list(backend.due(at(1e9))) == []

    def test_a_new_life_clears_the_tombstone_and_is_not_due(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        backend.expire([Life("sid-a", "uid-1")], at(100.0))
        self.begin(backend, uid="uid-2", now=100.0)
        assert backend.expired_at("sid-a") is None
        assert list(backend.due(at(100.0 + TTL))) == []

    def test_of_many_sweepers_each_life_ends_once(self) -> None:
        backend = self.make_backend()
        lives = [Life(f"sid-{number}", f"uid-{number}") for number in range(500)]
        for life in lives:
            self.begin(backend, sid=life.sid, uid=life.uid)

        def sweep(_: int) -> list[Life]:
            for due in backend.due(at(100.0)):
                backend.expire(due, at(100.0))
            ended: list[Life] = []
            while batch := backend.ended():
                ended += batch
                backend.settle(batch)
            return ended

        # A sweeper may leave what another just expired to that one; a last sweep finds nothing forgotten.
        ended = [life for batch in [*in_threads(4, sweep), sweep(0)] for life in batch]
        assert sorted(ended) == sorted(lives)

    def test_a_held_life_does_not_expire_until_all_holds_are_released(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        life = Life("sid-a", "uid-1")
        backend.hold("uid-1")
        backend.hold("uid-1")
        backend.unhold("uid-1")
        assert backend.held("uid-1")
        assert backend.expire([life], at(1e6)) == [life]
        record = backend.peek("sid-a")
        assert record is not None
        assert record.active == 1e6, "a life that is kept is renewed"
        backend.unhold("uid-1")
        assert not backend.held("uid-1")
        assert backend.expire([life], at(2e6)) == []
        assert backend.count() == 0

    def test_a_life_that_was_used_meanwhile_lives_on(self) -> None:
        backend = self.make_backend()
        self.begin(backend, now=50.0)
        life = Life("sid-a", "uid-1")
        assert backend.expire([life, Life("sid-a", "uid-2")], at(60.0)) == [life]
        assert backend.expired_count() == 0

    def test_a_renamed_life_is_found(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        assert backend.find("uid-2") is None
        backend.rename(Life("sid-a", "uid-1"), "sid-b", at(1.0))
        assert backend.find("uid-1") == "sid-b"
        assert backend.alive("uid-1")
        assert all_due(backend, 1e6) == [Life("sid-b", "uid-1")]
        assert backend.remove(Life("sid-b", "uid-1"))
        assert backend.find("uid-1") is None
        assert not backend.alive("uid-1")

    def test_a_use_within_the_slack_is_not_noted(self) -> None:
        backend = self.make_backend()
        if backend.live:
            return
        self.begin(backend)
        backend.load("sid-a", at(5.0, touch_interval=5.0))
        first = backend.peek("sid-a")
        backend.load("sid-a", at(5.1, touch_interval=5.0))
        second = backend.peek("sid-a")
        assert first is not None
        assert second is not None
        assert first.active in (0.0, 5.0)  # a backend to which noting costs nothing may note all
        assert second.active == 5.1

    def test_much_state_and_odd_names_come_back(self) -> None:
        backend = self.make_backend()
        if backend.live:
            return
        blobs = {"": Blob(1, b""), "naïve ✓": Blob(2**31, bytes(range(256)) * 300), "x" * 300: Blob(7, b"\x00")}
        record = Record("sid-a", "uid-1", 1.25, 2.5)
        record.update(blobs)
        backend.create(record, at(2.5))
        found = backend.peek("sid-a")
        assert found is not None
        assert dict(found) == blobs
        assert (found.created, found.active) == (1.25, 2.5)

    def test_a_claim_finds_what_a_load_finds(self) -> None:
        backend = self.make_backend()
        if backend.live:
            return
        claim, record = backend.claim("sid-a", at(0.0), 1.0)
        assert record is None
        mine = Record("sid-a", "uid-1", 0.0, 0.0)
        mine["ns"] = Blob(1, b"one")
        assert backend.create(mine, at(0.0), claim) is mine
        backend.write(Life("sid-a", "uid-1"), {"ns": Change(1, b"two")}, at(1.0), claim, last=True)
        claim, record = backend.claim("sid-a", at(2.0), 1.0)
        backend.release(claim)
        backend.release(claim)
        assert record is not None
        assert record["ns"] == Blob(2, b"two")
        assert record.active == 2.0

    # With a peer: what two processes see of each other.

    def test_a_peer_sees_the_same(self) -> None:
        backend = self.make_backend()
        peer = self.make_peer(backend)
        if peer is None:
            return
        assert backend.shared
        self.begin(backend)
        backend.write(Life("sid-a", "uid-1"), {"ns": Change(1, b"two")}, at(1.0))
        seen = peer.load("sid-a", at(2.0))
        assert seen is not None
        assert dict(seen) == {"ns": Blob(2, b"two")}
        assert self.begin(peer, uid="uid-2").uid == "uid-1"
        peer.expire([Life("sid-a", "uid-1")], at(100.0))
        assert backend.expired_at("sid-a") == 100.0
        assert backend.load("sid-a", at(100.0)) is None

    def test_one_claim_at_a_time(self) -> None:
        backend = self.make_backend()
        peer = self.make_peer(backend)
        if peer is None:
            return
        claim, _ = backend.claim("sid-a", at(0.0), 1.0)
        other, _ = peer.claim("sid-b", at(0.0), 1.0)
        peer.release(other)
        try:
            peer.claim("sid-a", at(0.0), 0.05)
        except LockTimeout:
            pass
        else:
            raise AssertionError("a claim must wait for the one before it")
        waiting = threading.Thread(target=lambda: peer.release(peer.claim("sid-a", at(0.0), 30.0)[0]))
        waiting.start()
        backend.release(claim)
        waiting.join(30)
        assert not waiting.is_alive()
        again, _ = backend.claim("sid-a", at(0.0), 1.0)
        backend.release(again)

    def test_no_change_is_lost_between_peers(self) -> None:
        backend = self.make_backend()
        peer = self.make_peer(backend)
        if peer is None:
            return
        self.begin(backend)
        life = Life("sid-a", "uid-1")

        def count(number: int) -> None:
            for _ in range(50):
                each = (backend, peer)[number]
                claim, record = each.claim("sid-a", at(1.0), 30.0)
                assert record is not None
                blob = record["ns"]
                data = b"%d" % (int(blob.data) + 1 if blob.data.isdigit() else 1)
                each.write(life, {"ns": Change(blob.version, data)}, at(1.0), claim, last=True)

        in_threads(2, count)
        record = backend.peek("sid-a")
        assert record is not None
        assert record["ns"] == Blob(101, b"100")

    def test_a_lost_claim_cannot_write(self) -> None:
        backend = self.make_backend()
        if self.make_peer(backend) is None:
            return
        self.begin(backend)
        claim, _ = backend.claim("sid-a", at(0.0), 1.0)
        if not self.lose_claims(backend):
            backend.release(claim)
            return
        fresh = Record("sid-b", "uid-2", 0.0, 0.0)
        for late in (
            lambda: backend.write(Life("sid-a", "uid-1"), {"ns": Change(1, b"late")}, at(1.0), claim),
            lambda: backend.create(fresh, at(1.0), claim),
        ):
            try:
                late()
            except LockLost:
                pass
            else:
                raise AssertionError("a lost claim must not write")
        assert backend.sids() == ["sid-a"]
        backend.release(claim)

    def test_a_peer_keeps_what_is_held_or_claimed(self) -> None:
        backend = self.make_backend()
        peer = self.make_peer(backend)
        if peer is None:
            return
        self.begin(backend)
        life = Life("sid-a", "uid-1")
        backend.hold("uid-1")
        assert peer.held("uid-1")
        peer.hold("uid-1")
        peer.unhold("uid-1")
        assert peer.expire([life], at(100.0)) == [life]
        backend.unhold("uid-1")
        assert not peer.held("uid-1")
        claim, _ = backend.claim("sid-a", at(101.0), 1.0)
        assert peer.expire([life], at(200.0)) == [life]
        assert backend.expire([life], at(300.0), claim) == [], "one's own claim does not keep it"
        backend.release(claim)
        assert peer.expired_at("sid-a") == 300.0

    def test_of_many_peers_each_life_ends_once(self) -> None:
        backend = self.make_backend()
        peer = self.make_peer(backend)
        if peer is None:
            return
        lives = [Life(f"sid-{number}", f"uid-{number}") for number in range(300)]
        for life in lives:
            self.begin(backend, sid=life.sid, uid=life.uid)

        def sweep(number: int) -> list[Life]:
            each = (backend, peer)[number % 2]
            for due in each.due(at(100.0)):
                each.expire(due, at(100.0))
            ended: list[Life] = []
            while batch := each.ended():
                ended += batch
                each.settle(batch)
            return ended

        ended = [life for batch in [*in_threads(4, sweep), sweep(0)] for life in batch]
        assert sorted(ended) == sorted(lives)
        assert (backend.count(), backend.expired_count()) == (0, 300)

    def test_what_a_peer_has_claimed_of_the_ended_is_not_claimed_again(self) -> None:
        backend = self.make_backend()
        peer = self.make_peer(backend)
        if peer is None:
            return
        self.begin(backend)
        life = Life("sid-a", "uid-1")
        backend.expire([life], at(100.0))
        assert peer.ended() == [life]
        assert backend.ended() == []
        peer.settle([life])
        assert backend.ended() == []

    def test_its_health_can_be_looked_at(self) -> None:
        for finding in self.make_backend().check(0.0):
            assert finding.level in ("ok", "warning", "error")
            assert finding.topic
            assert finding.message


class CodecContract:
    """The suite for a `Codec`."""

    def make_codec(self) -> Codec:
        """Return a codec."""
        raise NotImplementedError

    def test_plain_data_comes_back_as_it_was(self) -> None:
        codec = self.make_codec()
        for value in (
            None,
            True,
            -(2**63),
            2**64 - 1,
            1.5,
            float("inf"),
            "",
            "naïve ✓ \x00",
            b"\x00\xff",
            [],
            [1, [2, {"three": None}]],
            {"z": 1, "a": {"nested": [True, False]}},
        ):
            back = codec.decode(codec.encode(value))
            assert back == value
            assert type(back) is type(value)

    def test_a_dict_keeps_its_order(self) -> None:
        codec = self.make_codec()
        assert list(codec.decode(codec.encode({"z": 1, "a": 2, "m": 3}))) == ["z", "a", "m"]

    def test_what_was_decoded_encodes_to_the_same_bytes(self) -> None:
        codec = self.make_codec()
        if not codec.exact:
            return
        for value in ({"b": (1, 2), "a": {3, 1, 2}}, [1.0, "x", {"k": b"v"}]):
            once = codec.encode(value)
            assert codec.encode(codec.decode(once)) == once

    def test_a_typed_codec_gives_the_type_back(self) -> None:
        codec = self.make_codec().typed(set[int])
        assert codec.decode(codec.encode({3, 1, 2})) == {1, 2, 3}
        try:
            codec.decode(codec.encode(["no number"]))
        except ValueError:
            pass
        else:
            raise AssertionError("what does not fit the type must be refused")

    def test_what_cannot_be_encoded_is_named_with_its_place(self) -> None:
        codec = self.make_codec()
        loop: list[Any] = []
        loop.append(loop)
        for value, place, kind in (
            ({"rows": [1, object()]}, "['rows'][1]", "object"),
            ({"big": 2**64}, "['big']", "int"),
            ([threading.Lock()], "[0]", type(threading.Lock()).__name__),
            (loop, "[0]", "list"),
            ({"a": {object(): 1}}, "['a'].keys()", "object"),
        ):
            refusal = None
            try:
                codec.encode(value)
            except Unencodable as error:
                refusal = error
            assert refusal is not None, f"{kind} must be refused"
            assert (refusal.path, refusal.type_name) == (place, kind)
            assert refusal.is_plain == (kind == "int"), "a client can send a large number, and none of the objects"
            assert refusal.advice
