"""Lives: used, renamed, removed and found."""

from __future__ import annotations

from ..backend import Life
from ..errors import SessionExpired
from ..record import Change
from .clock import TTL, at
from .suite import BackendSuite, all_due


class LifeSuite(BackendSuite):
    """What a backend does with one life of an id, and with the next one."""

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
        assert (found.uid, found.active) == ("uid-1", TTL), "a look must renew as a load does"
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
        assert backend.look("sid-a", at(1000.0)).trace in (None, "rotated"), "forgotten now or later"

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

    def test_a_renamed_life_is_found(self) -> None:
        backend = self.make_backend()
        self.begin(backend)
        assert backend.find("uid-2") is None
        backend.rename(Life("sid-a", "uid-1"), "sid-b", at(1.0))
        assert backend.find("uid-1") == "sid-b"
        assert all_due(backend, 1e6) == [Life("sid-b", "uid-1")]
        assert backend.remove(Life("sid-b", "uid-1"))
        assert backend.find("uid-1") is None

    def test_many_lives_are_asked_for_at_once(self) -> None:
        backend = self.make_backend()
        for number in range(4):
            self.begin(backend, f"sid-{number}", f"uid-{number}")
        backend.rename(Life("sid-1", "uid-1"), "sid-b", at(1.0))
        backend.remove(Life("sid-2", "uid-2"))
        self.begin(backend, "sid-2", "uid-new")
        uids = [f"uid-{number}" for number in range(3000)]
        assert backend.living([*uids, "uid-new"]) == {"uid-0", "uid-1", "uid-3", "uid-new"}
        assert backend.living(["uid-3", "uid-2", "uid-3"]) == {"uid-3"}
        assert backend.living([]) == set()
