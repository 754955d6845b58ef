"""Records: created, found, written, renamed and removed."""

from __future__ import annotations

from ..backend import SMALL, Life, part_of
from ..errors import SessionConflict, SessionExpired
from ..record import Blob, Change, Record
from .clock import TTL, at
from .suite import BackendSuite, all_due
from .threads import in_threads


class RecordSuite(BackendSuite):
    """What a backend does with records."""

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
        """For a backend that has a method ``part``, see ``part_of``."""
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
        assert self.begin(backend, sid="sid-a", uid="uid-2", limit=1).uid == "uid-sid-a", "the id has a record"
        assert not self.is_refused(backend, "sid-c", 3)
        assert (backend.count(), sorted(backend.sids())) == (3, ["sid-a", "sid-b", "sid-c"])

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

    def test_a_use_within_the_touch_interval_need_not_be_recorded(self) -> None:
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
        assert first.active in (0.0, 5.0)  # a backend to which recording costs nothing may record all
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

    def test_its_health_can_be_looked_at(self) -> None:
        for finding in self.make_backend().check(0.0):
            assert finding.level in ("ok", "warning", "error")
            assert finding.topic
            assert finding.message
