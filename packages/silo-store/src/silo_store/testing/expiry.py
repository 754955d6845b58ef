"""Expiry: a due record ends once, and leaves a tombstone."""

from __future__ import annotations

from ..backend import Life
from .clock import TTL, at
from .suite import BackendSuite, all_due
from .threads import in_threads


class ExpirySuite(BackendSuite):
    """How records expire."""

    def test_what_ends_makes_room_and_a_renamed_record_does_not(self) -> None:
        backend = self.make_backend()
        life = Life("sid-b", "uid-1")
        self.begin(backend)
        backend.rename(Life("sid-a", "uid-1"), "sid-b", at(1.0))
        assert self.is_refused(backend, "sid-a", 1)
        assert self.is_refused(backend, "sid-c", 1)
        assert not backend.rename(Life("sid-b", "uid-2"), "sid-d", at(1.0))
        assert not backend.remove(Life("sid-b", "uid-2"))
        assert self.is_refused(backend, "sid-c", 1), "calls that failed must not change the number"
        assert backend.expire([life, life], at(100.0)) == []
        assert not self.is_refused(backend, "sid-c", 1)
        assert self.is_refused(backend, "sid-b", 1)
        assert backend.expired_at("sid-b") is not None, "a refusal must keep the tombstone"
        assert backend.remove(Life("sid-c", "uid-sid-c"))
        assert not self.is_refused(backend, "sid-b", 1), "an expired id must begin again if there is room"
        assert (backend.count(), backend.expired_at("sid-b")) == (1, None)

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
            return self.end_all(backend, 500)

        # A sweeper may leave lives to the sweeper that has just expired them. A last sweep gets any that are left.
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
        assert record.active == 1e6, "a life that is held must be renewed"
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
