"""What every backend and every codec must do, as test suites to subclass.

Use them in a test module of yours::

    from silo_store.testing import BackendContract

    class TestMyBackend(BackendContract):
        def make_backend(self):
            return MyBackend(...)

They use plain asserts and need no test framework of this package's choosing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .backend import Backend, Life
from .codec import Codec, Unencodable
from .errors import SessionConflict, SessionExpired
from .record import Blob, Change, Record, Session

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


def all_due(backend: Backend, now: float) -> list[Life]:
    """Return what is due at ``now`` with a time-to-live of `TTL`."""
    return [life for batch in backend.due(now, TTL) for life in batch]


class BackendContract:
    """The suite for a `Backend`. Each test asks for a fresh, empty one."""

    def make_backend(self) -> Backend:
        """Return a new, empty backend."""
        raise NotImplementedError

    def begin(self, backend: Backend, sid: str = "sid-a", uid: str = "uid-1", now: float = 0.0) -> Record:
        """Create a record with one namespace, ``ns``."""
        kind = Session if backend.live else Record
        record = kind(sid, uid, now, now)
        record["ns"] = {"value": 1} if backend.live else Blob(1, b"one")
        return backend.create(record)

    def test_nothing_is_there_at_first(self) -> None:
        backend = self.make_backend()
        assert backend.load("sid-a", 0.0, TTL) is None
        assert backend.peek("sid-a") is None
        assert backend.expired_at("sid-a") is None
        assert (backend.count(), backend.expired_count(), backend.sids()) == (0, 0, [])
        assert list(backend.due(1e9, TTL)) == []
        assert backend.ended() == []

    def test_a_created_record_is_found_with_all_that_it_was_given(self) -> None:
        backend = self.make_backend()
        self.begin(backend, now=5.0)
        found = backend.load("sid-a", 6.0, TTL)
        assert found is not None
        assert (found.sid, found.uid, found.created, found.active) == ("sid-a", "uid-1", 5.0, 6.0)
        assert found["ns"] == ({"value": 1} if backend.live else Blob(1, b"one"))
        assert (backend.count(), backend.sids()) == (1, ["sid-a"])
        assert backend.alive("uid-1")
        assert not backend.alive("uid-2")

    def test_loading_renews_until_the_time_is_over_and_peeking_never(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        backend.load("sid-a", TTL, TTL)
        peeked = backend.peek("sid-a")
        assert peeked is not None
        assert peeked.active == TTL
        late = backend.load("sid-a", 2 * TTL + 0.001, TTL)
        assert late is not None
        assert late.active == TTL, "a due record must not be renewed by a load"

    def test_the_first_of_two_creations_wins(self) -> None:
        backend = self.make_backend()
        self.begin(backend, uid="uid-1")
        assert self.begin(backend, uid="uid-2").uid == "uid-1"
        uids = set(in_threads(8, lambda n: self.begin(backend, sid="sid-b", uid=f"uid-{n}").uid))
        assert len(uids) == 1

    def test_touch_remove_and_rename_act_on_their_own_life_only(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        other = Life("sid-a", "uid-2")
        assert not backend.touch(other, 1.0)
        assert not backend.remove(other)
        assert not backend.rename(other, "sid-b")
        life = Life("sid-a", "uid-1")
        assert backend.touch(life, 7.0)
        assert backend.rename(life, "sid-b")
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
        assert not backend.rename(Life("sid-a", "uid-1"), "sid-b")
        kept = backend.peek("sid-b")
        assert kept is not None
        assert kept.uid == "uid-2"

    def test_a_write_needs_the_version_that_it_read(self) -> None:
        backend = self.make_backend()
        if backend.live:
            return
        self.begin(backend)
        backend.write(Life("sid-a", "uid-1"), {"ns": Change(1, b"two"), "new": Change(0, b"first")}, 7.0)
        record = backend.peek("sid-a")
        assert record is not None
        assert record.active == 7.0
        assert dict(record) == {"ns": Blob(2, b"two"), "new": Blob(1, b"first")}
        for stale in (Change(1, b"x"), Change(0, b"x"), Change(3, b"x")):
            try:
                backend.write(Life("sid-a", "uid-1"), {"new": Change(1, b"half"), "ns": stale}, 8.0)
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
                backend.write(Life("sid-a", "uid-1"), {"ns": Change(1, b"%d" % number)}, 1.0)
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
                    backend.write(Life("sid-a", "uid-1"), {"ns": Change(1, b"late")}, 1.0)
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
        record = backend.load("sid-a", 0.0, TTL)
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
        assert list(backend.due(10.0 + TTL, TTL)) == []
        backend.expire([life], 10.0 + TTL, TTL)
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
        given_up = backend.due(late, TTL)
        next(given_up)
        del given_up
        assert len(all_due(backend, late)) == 1000

    def test_a_used_record_is_due_by_its_last_use(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        backend.load("sid-a", 50.0, TTL)
        assert list(backend.due(100.0, TTL)) == []
        assert list(backend.due(50.0 + TTL, TTL)) == []
        assert all_due(backend, 50.5 + TTL) == [Life("sid-a", "uid-1")]

    def test_expiring_leaves_a_tombstone_and_an_ended_life(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        life = Life("sid-a", "uid-1")
        backend.expire([life, life, Life("sid-a", "uid-2"), Life("sid-x", "uid-x")], 100.0, TTL)
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
        assert list(backend.due(1e9, TTL)) == []

    def test_a_new_life_clears_the_tombstone_and_is_not_due(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        backend.expire([Life("sid-a", "uid-1")], 100.0, TTL)
        self.begin(backend, uid="uid-2", now=100.0)
        assert backend.expired_at("sid-a") is None
        assert list(backend.due(100.0 + TTL, TTL)) == []

    def test_of_many_sweepers_each_life_ends_once(self) -> None:
        backend = self.make_backend()
        lives = [Life(f"sid-{number}", f"uid-{number}") for number in range(500)]
        for life in lives:
            self.begin(backend, sid=life.sid, uid=life.uid)

        def sweep(_: int) -> list[Life]:
            for due in backend.due(100.0, TTL):
                backend.expire(due, 100.0, TTL)
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
        backend.expire([life], 1e6, TTL)
        assert backend.count() == 1
        backend.unhold("uid-1")
        assert not backend.held("uid-1")
        backend.expire([life], 1e6, TTL)
        assert backend.count() == 0


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
        for value in ({"b": (1, 2), "a": {3, 1, 2}}, [1.0, "x", {"k": b"v"}]):
            once = codec.encode(value)
            assert codec.encode(codec.decode(once)) == once

    def test_what_cannot_be_encoded_is_named_with_its_place(self) -> None:
        codec = self.make_codec()
        loop: list[Any] = []
        loop.append(loop)
        for value, place, kind in (
            ({"rows": [1, object()]}, "['rows'][1]", "object"),
            ({"big": 2**64}, "['big']", "int"),
            ([threading.Lock()], "[0]", type(threading.Lock()).__name__),
            (loop, "[0]", "list"),
        ):
            refusal = None
            try:
                codec.encode(value)
            except Unencodable as error:
                refusal = error
            assert refusal is not None, f"{kind} must be refused"
            assert (refusal.path, refusal.type_name) == (place, kind)
            assert refusal.advice
