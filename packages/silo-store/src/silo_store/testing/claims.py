"""Claims, limits and expiry with several threads and processes."""

from __future__ import annotations

import threading

from ..backend import Life
from ..errors import LockLost, LockTimeout, TooManySessions
from ..record import Blob, Change, Record
from .clock import at
from .suite import BackendSuite
from .threads import in_threads


class ClaimSuite(BackendSuite):
    """What two backends at one place see of each other."""

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
        if not self.keeps_copies(backend):
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

    def test_a_claim_finds_what_a_load_finds(self) -> None:
        backend = self.make_backend()
        if not self.keeps_copies(backend):
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

    def test_a_peer_sees_the_same(self) -> None:
        backend = self.make_backend()
        peer = self.peer_of(backend)
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
        peer = self.peer_of(backend)
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
            raise AssertionError("a claim must wait while another process has one")
        waiting = threading.Thread(target=lambda: peer.release(peer.claim("sid-a", at(0.0), 30.0)[0]))
        waiting.start()
        backend.release(claim)
        waiting.join(30)
        assert not waiting.is_alive()
        again, _ = backend.claim("sid-a", at(0.0), 1.0)
        backend.release(again)

    def test_no_change_is_lost_between_peers(self) -> None:
        backend = self.make_backend()
        peer = self.peer_of(backend)
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
        if self.peer_of(backend) is None:
            return
        self.begin(backend)
        claim, _ = backend.claim("sid-a", at(0.0), 1.0)
        if not self.lose_claims(backend):
            mine = backend.write(Life("sid-a", "uid-1"), {"ns": Change(1, b"mine")}, at(1.0), claim, last=True)
            assert mine["ns"] == Blob(2, b"mine"), "a claim that was not lost must write"
            return
        fresh = Record("sid-b", "uid-2", 0.0, 0.0)
        for is_new in (False, True):
            try:
                if is_new:
                    backend.create(fresh, at(1.0), claim)
                else:
                    backend.write(Life("sid-a", "uid-1"), {"ns": Change(1, b"late")}, at(1.0), claim)
            except LockLost:
                pass
            else:
                raise AssertionError("a lost claim must not write")
        assert backend.sids() == ["sid-a"]
        backend.release(claim)

    def test_a_peer_keeps_what_is_held_or_claimed(self) -> None:
        backend = self.make_backend()
        peer = self.peer_of(backend)
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
        assert backend.expire([life], at(300.0), claim) == [], "the caller's own claim does not keep it"
        backend.release(claim)
        assert peer.expired_at("sid-a") == 300.0

    def test_of_many_peers_each_life_ends_once(self) -> None:
        backend = self.make_backend()
        peer = self.peer_of(backend)
        if peer is None:
            return
        lives = [Life(f"sid-{number}", f"uid-{number}") for number in range(300)]
        for life in lives:
            self.begin(backend, sid=life.sid, uid=life.uid)

        def sweep(number: int) -> list[Life]:
            return self.end_all((backend, peer)[number % 2], 300)

        ended = [life for batch in [*in_threads(4, sweep), sweep(0)] for life in batch]
        assert sorted(ended) == sorted(lives)
        assert (backend.count(), backend.expired_count()) == (0, 300)

    def test_what_a_peer_has_claimed_of_the_ended_is_not_claimed_again(self) -> None:
        backend = self.make_backend()
        peer = self.peer_of(backend)
        if peer is None:
            return
        self.begin(backend)
        life = Life("sid-a", "uid-1")
        backend.expire([life], at(100.0))
        assert peer.ended() == [life]
        assert backend.ended() == []
        peer.settle([life])
        assert backend.ended() == []
