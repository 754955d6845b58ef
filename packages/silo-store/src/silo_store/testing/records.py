"""Records: created, found and written."""

from __future__ import annotations

from ..backend import Backend, Life
from ..errors import SessionConflict, SessionExpired
from ..record import Apart, Blob, Change, Record
from ..seam import check_seam
from .clock import TTL, at
from .suite import BackendSuite
from .threads import in_threads


class RecordSuite(BackendSuite):
    """What a backend does with records."""

    def test_it_has_what_a_store_calls(self) -> None:
        backend = self.make_backend()
        check_seam("make_backend()", backend, Backend, "BACKENDS.md of silo-store")
        assert self.begin(backend)["ns"] == ({"value": 1} if backend.live else Blob(1, b"one"))

    def test_its_origin_names_the_place_that_processes_share(self) -> None:
        backend = self.make_backend()
        peer = self.peer_of(backend)
        if peer is not None:
            self.begin(backend)
            assert peer.find("uid-1") == "sid-a"
            assert backend.origin, "a shared backend needs a name for its place"
            assert peer.origin == backend.origin
        assert backend.origin is None or isinstance(backend.origin, str)

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
        assert backend.find("uid-1") == "sid-a"
        assert backend.find("uid-2") is None

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

    def test_heads_are_loaded_and_peeked_at_as_records_are(self) -> None:
        backend = self.make_backend()
        assert backend.load_head("sid-a", at(0.0)) is None
        assert backend.peek_head("sid-a") is None
        self.begin(backend)
        for now, active in ((TTL, TTL), (TTL + 1.0, TTL + 1.0), (3 * TTL, TTL + 1.0)):
            head = backend.load_head("sid-a", at(now))
            assert head is not None
            assert (head.sid, head.uid, head.created, head.active) == ("sid-a", "uid-1", 0.0, active)
            peeked = backend.peek_head("sid-a")
            assert peeked is not None
            assert (peeked.sid, peeked.uid, peeked.created, peeked.active) == ("sid-a", "uid-1", 0.0, active)

    def test_one_namespace_of_many_is_read_and_written(self) -> None:
        backend = self.make_backend()
        if not self.keeps_copies(backend):
            return
        blobs = {f"ns{number}": Blob(1, b"%d" % number * (9 if number % 3 else 9000)) for number in range(100)}
        record = Record("sid-a", "uid-1", 0.0, 0.0)
        record.update(blobs)
        backend.create(record, at(0.0))
        life = Life("sid-a", "uid-1")
        written = backend.write(life, {"ns3": Change(1, b"small"), "ns4": Change(1, b"large" * 9000)}, at(1.0))
        blobs.update(ns3=Blob(2, b"small"), ns4=Blob(2, b"large" * 9000))
        assert self.all_of(backend, life, written) == blobs
        loaded = backend.load("sid-a", at(2.0))
        assert self.all_of(backend, life, loaded) == blobs
        assert loaded is not None
        backend.write(life, {"ns3": Change(2, b"large" * 9000), "ns4": Change(2, b"small")}, at(3.0), base=loaded)
        blobs.update(ns3=Blob(3, b"large" * 9000), ns4=Blob(3, b"small"))
        assert self.all_of(backend, life, backend.peek("sid-a")) == blobs
        assert loaded.sizes().keys() == blobs.keys()

    def all_of(self, backend: Backend, life: Life, record: Record | None) -> dict[str, Blob | None]:
        """Return the namespaces of a record, those that are kept apart as ``fetch`` returns them."""
        assert record is not None
        assert record.sizes() == {name: value.size for name, value in record.items()}
        whole = backend.read(life.sid)
        assert whole is not None
        assert whole.is_whole
        found = {n: backend.fetch(life, n) if isinstance(value, Apart) else value for n, value in record.items()}
        assert found == dict(whole) == {name: backend.fetch(life, name) for name in whole}
        return found

    def test_a_large_namespace_grows_shrinks_and_ends_with_its_life(self) -> None:
        backend = self.make_backend()
        if not self.keeps_copies(backend):
            return
        life, large = Life("sid-a", "uid-1"), bytes(100_000)
        self.begin(backend)
        record: Record | None = None
        version = 1
        for data in (large, large + b"1", b"small", large, b"", large):
            record = backend.write(life, {"ns": Change(version, data)}, at(1.0), base=record)
            version += 1
            assert backend.fetch(life, "ns") == Blob(version, data)
            assert backend.fetch(life, "none") is None
        assert backend.rename(life, "sid-b", at(1.0))
        life = Life("sid-b", "uid-1")
        assert backend.fetch(life, "ns") == Blob(version, large)
        assert backend.remove(life)
        self.begin(backend, "sid-b", "uid-2")
        for ended in (life, Life("sid-a", "uid-1")):
            try:
                backend.fetch(ended, "ns")
            except SessionExpired:
                pass
            else:
                raise AssertionError("the life has ended")
        assert backend.fetch(Life("sid-b", "uid-2"), "ns") == Blob(1, b"one")

    def test_a_write_over_an_old_record_does_what_a_write_without_one_does(self) -> None:
        backend = self.make_backend()
        if not self.keeps_copies(backend):
            return
        life = Life("sid-a", "uid-1")
        old = self.begin(backend)
        new = backend.write(life, {"ns": Change(1, b"two"), "large": Change(0, bytes(9000))}, at(1.0), base=old)
        newest = backend.write(life, {"other": Change(0, b"three")}, at(2.0), base=old)
        assert dict(newest) == {**new, "other": Blob(1, b"three")}
        for change in ({"ns": Change(1, b"x")}, {"large": Change(0, b"x")}, {"other": Change(0, b"x")}):
            for base in (old, new, None):
                try:
                    backend.write(life, change, at(3.0), base=base)
                except SessionConflict:
                    pass
                else:
                    raise AssertionError("a stale write must be refused")
        assert backend.write(life, {"large": Change(1, b"four")}, at(3.0), base=old)["large"] == Blob(2, b"four")

    def test_what_is_attached_is_kept_beside_the_namespaces(self) -> None:
        backend = self.make_backend()
        if not self.keeps_copies(backend):
            return
        life = Life("sid-a", "uid-1")
        assert backend.attached("sid-a") is None
        self.begin(backend)
        record = backend.load("sid-a", at(1.0))
        assert record is not None
        found = backend.attached("sid-a")
        assert found is not None
        assert (found.sid, found.uid, found.created, found.active, dict(found)) == (*life, 0.0, 1.0, {})
        for version, data in enumerate((b"1", bytes(100_000), b"")):
            backend.attach(life, "ns", Change(version, data), at(5.0))
            backend.attach(life, "ä", Change(version, b"other"), at(6.0))
            found = backend.attached("sid-a")
            assert found is not None
            assert dict(found) == {"ns": Blob(version + 1, data), "ä": Blob(version + 1, b"other")}
            assert found.active == 6.0
        renewed = backend.attached("sid-a", at(6.5))
        assert renewed is not None
        assert (renewed.active, set(renewed)) == (6.5, {"ns", "ä"})
        late = backend.attached("sid-a", at(7.0 + TTL))
        assert late is not None
        assert late.active == 6.5, "a due record must not be renewed"
        loaded = backend.load("sid-a", at(6.5))
        assert loaded is not None
        assert loaded.may_have_attached
        assert dict(loaded) == {"ns": Blob(1, b"one")}
        assert backend.write(life, {"ns": Change(1, b"two")}, at(7.0), base=record).may_have_attached
        assert backend.rename(life, "sid-b", at(7.0))
        life = Life("sid-b", "uid-1")
        moved = backend.attached("sid-b")
        assert moved is not None
        assert set(moved) == {"ns", "ä"}
        for stale in (Change(2, b"x"), Change(0, b"x"), Change(4, b"x")):
            try:
                backend.attach(life, "ns", stale, at(8.0))
            except SessionConflict:
                pass
            else:
                raise AssertionError("a stale change must be refused")
        assert backend.remove(life)
        self.begin(backend, "sid-b", "uid-2")
        fresh = backend.attached("sid-b")
        assert fresh is not None
        assert dict(fresh) == {}
        try:
            backend.attach(life, "ns", Change(0, b"x"), at(8.0))
        except SessionExpired:
            pass
        else:
            raise AssertionError("the life has ended")

    def test_of_many_callers_that_attach_over_one_version_one_wins(self) -> None:
        backend = self.make_backend()
        if not self.keeps_copies(backend):
            return
        self.begin(backend)

        def attach(number: int) -> bool:
            try:
                backend.attach(Life("sid-a", "uid-1"), "job", Change(0, b"%d" % number), at(1.0))
            except SessionConflict:
                return False
            return True

        assert sum(in_threads(8, attach)) == 1

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

    def test_a_write_needs_the_version_that_it_read(self) -> None:
        backend = self.make_backend()
        if not self.keeps_copies(backend):
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
        if not self.keeps_copies(backend):
            return
        self.begin(backend)

        def write(number: int) -> bool:
            try:
                backend.write(Life("sid-a", "uid-1"), {"ns": Change(1, b"%d" % number)}, at(1.0))
            except SessionConflict:
                return False
            return True

        assert sum(in_threads(8, write)) == 1

    def test_what_a_caller_does_to_a_copy_stays_with_the_caller(self) -> None:
        backend = self.make_backend()
        if not self.keeps_copies(backend):
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

    def test_a_use_within_the_touch_interval_need_not_be_recorded(self) -> None:
        backend = self.make_backend()
        if not self.keeps_copies(backend):
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
        if not self.keeps_copies(backend):
            return
        blobs = {"": Blob(1, b""), "naïve ✓": Blob(2**31, bytes(range(256)) * 300), "x" * 300: Blob(7, b"\x00")}
        record = Record("sid-a", "uid-1", 1.25, 2.5)
        record.update(blobs)
        backend.create(record, at(2.5))
        found = backend.read("sid-a")
        assert found is not None
        assert dict(found) == blobs
        assert (found.created, found.active) == (1.25, 2.5)

    def test_its_health_can_be_looked_at(self) -> None:
        findings = self.make_backend().check(0.0)
        assert findings, "a backend must say at least where it keeps sessions"
        for finding in findings:
            assert finding.level in ("ok", "warning", "error")
            assert finding.topic
            assert finding.message
