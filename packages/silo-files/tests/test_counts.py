"""The counts of areas and of the store on disk: what they hold, and what a damaged record does."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from silo_files import (
    AreaGone,
    FileStore,
    LocalFileBackend,
    SessionQuotaExceeded,
    StorageFull,
    StoreQuotaExceeded,
    Usage,
)
from silo_files.ledger import Limits
from silo_files.local import record_file, walk
from silo_files.local.ledger import LocalLedger, LocalReservation
from silo_files.local.record import Record, read_record, write_record
from silo_files.names import hash_key
from silo_files.testing import put

KIB = 1024
MIB = 1024 * KIB


class Place:
    """A base folder, with the ledger of one store."""

    def __init__(self, base: Path, **limits: int) -> None:
        self.backend = LocalFileBackend(str(base))
        self.ledger = LocalLedger(self.backend.counts, Limits(**limits))
        self.base = base

    def area(self, key: str = "key") -> Path:
        digest = hash_key(key)
        return self.base / "areas" / digest[:2] / digest

    def save(self, name: str, size: int, key: str = "key") -> None:
        staged = self.backend.stage(key, name)
        try:
            staged.write(b"x" * size)
            staged.finish()
            with self.ledger.change(key) as change:
                old = self.backend.size(key, name)
                change.add(bytes=size - (old or 0), files=int(old is None))
                staged.commit()
        except BaseException:
            staged.abort()
            raise


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, session_bytes=1000, files=3, store_bytes=1500)


def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the path of each area whose files are counted."""
    walked: list[str] = []
    usage = walk.usage

    def note(area: str) -> Usage:
        walked.append(area)
        return usage(area)

    monkeypatch.setattr(walk, "usage", note)
    return walked


def test_the_limits_hold_to_the_byte(place: Place) -> None:
    place.save("a", 1000)
    with pytest.raises(SessionQuotaExceeded, match="1000 bytes"):
        place.save("b", 1)
    place.save("a", 999)
    place.save("b", 1)
    place.save("c", 0)
    with pytest.raises(SessionQuotaExceeded, match="3 files"):
        place.save("d", 0)
    place.save("a", 500, key="other")
    with pytest.raises(StoreQuotaExceeded):
        place.save("b", 1, key="other")
    assert place.ledger.usage("key") == Usage(1000, 3)
    assert place.ledger.total() == Usage(1500, 4)


def test_nothing_is_walked_after_the_first_look(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.save("a", 10)
    walked = walks(monkeypatch)
    place.save("a", 20)
    place.save("b", 980)
    with pytest.raises(SessionQuotaExceeded):
        place.save("c", 1)
    assert place.ledger.usage("key") == Usage(1000, 2)
    assert place.ledger.total() == Usage(1000, 2)
    assert walked == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:20]),
        lambda file: file.write_bytes(b"\xff" * 200),
        lambda file: file.write_bytes(file.read_bytes()[:13] + b"\x77" + file.read_bytes()[14:]),
        lambda file: file.write_bytes(file.read_bytes()[:4] + b"\0" + file.read_bytes()[5:]),
        lambda file: file.write_bytes(Record(-5, 1).encode()),
        lambda file: file.write_bytes(Record(5, -1).encode()),
    ],
    ids=["missing", "empty", "short", "nonsense", "a changed byte", "uncertain", "negative bytes", "negative files"],
)
@pytest.mark.parametrize("look", ["usage", "total", "save"])
def test_a_damaged_record_is_counted_again_once(
    damage: Callable[[Path], object], look: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.save("a", 10)
    for file in (place.area() / "counts", place.base / "owners" / "counts"):
        damage(file)
        if look == "save":
            place.save("b", 5)
        expected = Usage(15, 2) if look == "save" else Usage(10, 1)
        assert place.ledger.usage("key") == expected
        assert place.ledger.total() == expected
        walked = walks(monkeypatch)
        assert place.ledger.usage("key") == expected
        assert place.ledger.total() == expected
        assert walked == []


def test_a_folder_without_records_is_counted_at_its_first_use(tmp_path: Path) -> None:
    backend = LocalFileBackend(str(tmp_path))
    put(backend, "key", "a", b"x" * 900)
    place = Place(tmp_path, session_bytes=1000, store_bytes=1100)
    with pytest.raises(SessionQuotaExceeded):
        place.save("b", 101)
    assert place.ledger.usage("key") == Usage(900, 1)
    with pytest.raises(StoreQuotaExceeded):
        place.save("b", 201, key="other")
    assert place.ledger.total() == Usage(900, 1)


def test_a_store_without_max_store_bytes_keeps_a_total_that_is_there(tmp_path: Path) -> None:
    Place(tmp_path, store_bytes=100).save("a", 60)
    other = Place(tmp_path)
    other.save("b", 60)
    other.backend.remove_area("key")
    other.save("c", 30)
    place = Place(tmp_path, store_bytes=100)
    assert place.ledger.total() == Usage(30, 1)
    place.save("a", 70, key="other")


def test_a_removed_area_no_longer_counts(place: Place) -> None:
    place.save("a", 1000)
    assert place.backend.remove_area("key")
    assert place.ledger.total() == Usage(0, 0)
    assert place.ledger.usage("key") == Usage(0, 0)
    with pytest.raises(AreaGone), place.ledger.change("key"):
        pass
    assert not place.area().exists()


def test_a_file_of_unknown_size_is_reserved_in_slabs(tmp_path: Path) -> None:
    place = Place(tmp_path, session_bytes=100 * MIB)
    place.save("a", 0)
    reservation = place.ledger.reserve("key")
    assert isinstance(reservation, LocalReservation)
    reservation.take(KIB)
    assert reservation.bytes == 100 * MIB // 8
    reservation.take(90 * MIB)
    assert reservation.bytes == 90 * MIB + KIB
    with pytest.raises(SessionQuotaExceeded):
        reservation.take(10 * MIB)
    reservation.release()
    reservation.release()
    assert place.ledger.counts.reserved.owned == {}
    place.ledger.reserve("key", size=100 * MIB).release()


def test_a_file_of_known_size_is_reserved_at_once(tmp_path: Path) -> None:
    place = Place(tmp_path, session_bytes=MIB, store_bytes=2 * MIB)
    place.save("a", 0)
    place.save("b", 0, key="other")
    first = place.ledger.reserve("key", size=MIB)
    with pytest.raises(SessionQuotaExceeded):
        place.ledger.reserve("key", size=MIB - 1)
    second = place.ledger.reserve("other", size=MIB)
    with pytest.raises(SessionQuotaExceeded):
        place.save("c", 1, key="other")
    second.release()
    place.save("c", 1, key="other")
    first.release()
    assert place.ledger.counts.reserved.owned == {}


def test_a_small_file_of_known_size_reserves_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, session_bytes=KIB, files=1)
    place.save("a", KIB)
    reservation = place.ledger.reserve("key", size=100 * KIB)
    reservation.take(100 * KIB)
    assert place.ledger.counts.reserved.owned == {}
    with pytest.raises(SessionQuotaExceeded):
        place.save("b", 1)
    reservation.release()


def test_replacing_reserves_the_growth(tmp_path: Path) -> None:
    place = Place(tmp_path, session_bytes=MIB, files=1)
    place.save("a", MIB)
    reservation = place.ledger.reserve("key", size=MIB, replacing="a")
    assert isinstance(reservation, LocalReservation)
    assert (reservation.bytes, reservation.files) == (0, 0)
    with pytest.raises(SessionQuotaExceeded):
        place.ledger.reserve("key", size=MIB + 1, replacing="a")


def test_a_change_uses_its_reservation_up(place: Place) -> None:
    place.save("a", 0)
    reservation = place.ledger.reserve("key")
    reservation.take(600)
    with place.ledger.change("key") as change:
        change.add(bytes=600, files=1, reservation=reservation)
    assert place.ledger.counts.reserved.owned == {}
    assert place.ledger.usage("key") == Usage(600, 2)
    reservation.release()
    assert place.ledger.usage("key") == Usage(600, 2)


def fail_in_a_change(place: Place, error: BaseException) -> None:
    with place.ledger.change("key") as change:
        change.add(bytes=500, files=1)
        raise error


def test_after_an_error_of_ours_the_counts_are_as_before(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.save("a", 10)
    with pytest.raises(StorageFull):
        fail_in_a_change(place, StorageFull(errno.ENOSPC))
    walked = walks(monkeypatch)
    assert place.ledger.usage("key") == Usage(10, 1)
    assert place.ledger.total() == Usage(10, 1)
    assert walked == []


def test_after_another_error_the_files_are_counted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.save("a", 10)
    (place.area() / ("0" * 32)).write_bytes(b"x" * 500)
    with pytest.raises(KeyboardInterrupt):
        fail_in_a_change(place, KeyboardInterrupt())
    walked = walks(monkeypatch)
    assert place.ledger.total() == Usage(510, 2)
    assert place.ledger.usage("key") == Usage(510, 2)
    assert len(walked) == 2


def test_reservations_of_dead_processes_are_dropped_before_a_refusal(place: Place) -> None:
    place.save("a", 10)
    for file in (place.area() / "counts", place.base / "owners" / "counts"):
        file.write_bytes(Record(10, 1, {"0" * 16: (990, 2), "f" * 16: (400, 0)}).encode())
    place.save("b", 990)
    assert place.ledger.usage("key") == Usage(1000, 2)
    locked = place.ledger.lock(hash_key("key"))
    locked.close()
    assert (locked.area.reserved, locked.store.reserved if locked.store else None) == ({}, {})


def test_reservations_of_dead_processes_do_not_pile_up(place: Place) -> None:
    place.save("a", 10)
    dead = {f"{number:016x}": (1, 0) for number in range(200)}
    (place.area() / "counts").write_bytes(Record(10, 1, dead).encode())
    place.save("a", 11)
    reservation = place.ledger.reserve("key")
    reservation.take(700)
    with place.ledger.lock(hash_key("key")) as locked:
        assert len(locked.area.reserved) == 1
    reservation.release()


def test_a_lost_record_gets_the_own_reservations_back(tmp_path: Path) -> None:
    place = Place(tmp_path, session_bytes=MIB)
    place.save("a", 0)
    reservation = place.ledger.reserve("key", size=MIB)
    (place.area() / "counts").write_bytes(b"")
    with pytest.raises(SessionQuotaExceeded):
        place.save("b", 1)
    reservation.release()
    place.save("b", 1)


def test_a_full_disk_leaves_nothing_half(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.save("a", 10)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(record_file, "mark_uncertain", full)
        with pytest.raises(StorageFull):
            place.save("b", 10)
    assert place.ledger.usage("key") == Usage(10, 1)
    with monkeypatch.context() as patch:
        patch.setattr(record_file, "write_record", full)
        place.save("c", 10)
    assert place.ledger.total() == Usage(20, 2)
    assert place.ledger.usage("key") == Usage(20, 2)


def test_a_file_system_has_to_keep_space_free(tmp_path: Path) -> None:
    place = Place(tmp_path, free_bytes=1 << 60)
    with pytest.raises(StorageFull):
        place.ledger.reserve("key")


def test_a_file_of_unknown_size_asks_for_free_space_before_each_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 1000
    monkeypatch.setattr("silo_files.local.ledger.free_bytes", lambda _: free)
    reservation = Place(tmp_path, free_bytes=900).ledger.reserve("key")
    reservation.take(100)
    free -= 100
    with pytest.raises(StorageFull):
        reservation.take(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_keeps_neither_lock_nor_reservation(
    tmp_path: Path, fork: Callable[[Callable[[], object]], int]
) -> None:
    place = Place(tmp_path, session_bytes=MIB, store_bytes=MIB)
    place.save("a", 0)
    reservation = place.ledger.reserve("key", size=MIB)
    locked = place.ledger.lock(hash_key("key"))

    def child() -> None:
        assert place.ledger.counts.reserved.owned == {}
        reservation.release()

    pid = fork(child)
    assert os.waitpid(pid, 0)[1] == 0
    locked.close()
    with pytest.raises(SessionQuotaExceeded):
        place.save("b", 1)
    reservation.release()
    place.save("b", 1)


@pytest.mark.parametrize("act", ["save", "cleanup"])
def test_counts_of_the_store_that_begin_while_files_change_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """A process without the limit, or a removal, has seen no counts of the store before they were created."""
    plain, limited = FileStore(tmp_path), FileStore(tmp_path, max_store_bytes=1000)
    plain.save("sid", "a", b"x" * 10)
    rename = os.rename if act == "cleanup" else os.replace

    def create_first(source: str, target: str) -> None:
        monkeypatch.undo()
        limited.save("other", "a", b"x" * 5)
        rename(source, target)

    monkeypatch.setattr(os, rename.__name__, create_first)
    if act == "save":
        plain.save("sid", "b", b"x" * 7)
    else:
        plain.cleanup("sid")

    assert limited.total() == limited.backend.total()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_area_with_something_else_in_place_of_its_counts_is_removed(place: Place) -> None:
    place.save("a", 10)
    (place.area() / "counts").unlink()
    os.mkfifo(place.area() / "counts")
    with place.ledger.removal("key"):
        assert place.backend.remove_area("key")
    assert not place.area().exists()
    place.save("a", 10)
    assert place.ledger.usage("key") == Usage(10, 1)


def test_a_record_of_many_processes_is_read_whole(tmp_path: Path) -> None:
    record = Record(1, 1, {f"{owner:016x}": (owner, 0) for owner in range(300)})
    with (tmp_path / "counts").open("w+b") as file:
        write_record(file.fileno(), record)
        found, is_certain = read_record(file.fileno())
    assert found is not None
    assert found.reserved == record.reserved
    assert is_certain
