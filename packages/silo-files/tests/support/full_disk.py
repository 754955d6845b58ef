"""What happens to a store on a disk that is full. Each function runs in a process of its own, on a small disk."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from folder_walk import leftovers, size, stored
from silo_files import FileStore, StorageFull
from silo_files.cli.folder import Folder
from silo_files.cli.fsck import Fsck
from small_disk import run_named

FUNCTIONS: dict[str, object] = {}
BIG = 6_000_000


def scenario(function: Callable[[Path], object]) -> Callable[[Path], object]:
    def run(disk: Path) -> None:
        function(disk)
        # A name that met the end of the disk may be cut short; no counts are wrong and no room is still reserved.
        findings = Fsck(Folder(str(disk / "files"))).run()
        assert {finding.code for finding in findings} <= {"dead-owner", "torn-journal"}, findings
        findings = Fsck(Folder(str(disk / "files")), repair=True).run()
        assert all(finding.repaired for finding in findings), findings

    FUNCTIONS[function.__name__] = run
    return function


class Reader:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, count: int = -1) -> bytes:
        return self._file.read(count)


def blocks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


def path_on_another_disk(data: bytes) -> Path:
    path = Path(tempfile.mkdtemp()) / "source"
    path.write_bytes(data)
    return path


SOURCES: list[Callable[[bytes], Any]] = [bytes, io.BytesIO, Reader, blocks, path_on_another_disk]


def open_store(disk: Path) -> FileStore:
    return FileStore(disk / "files", max_session_bytes=20_000_000, max_store_bytes=30_000_000, max_files=1000)


def until_full(act: Callable[[int], object]) -> int:
    """Call ``act`` with 0, 1 ... until there is no room. Return the number of calls that had room."""
    for number in count():
        try:
            act(number)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return number
    raise AssertionError


def fill(disk: Path) -> Path:
    """Fill the disk to the last byte, by a file that is not the store's."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as file:
        until_full(lambda _: file.write(bytes(65_536)))
        until_full(lambda _: file.write(bytes(4096)))
    return path


def use_up_inodes(disk: Path) -> list[Path]:
    """Create files until the disk has no room for another, not even for an empty one."""
    number = until_full(lambda number: (disk / f"empty-{number}").touch(exist_ok=False))
    return [disk / f"empty-{each}" for each in range(number)]


def check(store: FileStore, disk: Path, files: dict[str, bytes]) -> None:
    """Check that the session has ``files``, that they are counted and that nothing else is there."""
    assert store.list_files("sid") == sorted(files)
    for name, data in files.items():
        with store.open("sid", name) as file:
            assert file.read() == data
    paths = stored(disk / "files", "sid")
    assert len(paths) == len(files)
    usage = store.usage("sid")
    assert (usage.bytes, usage.files) == (size(paths), len(paths))
    assert not [path for path in leftovers(disk / "files") if path.endswith(".part")]


@scenario
def a_save_fails_whole(disk: Path) -> None:
    """A save from any source that meets the end of the disk leaves the old file, and its space comes back."""
    store = open_store(disk)
    old = {"old.csv": b"old" * 1000}
    store.save("sid", "old.csv", old["old.csv"])
    for source in SOURCES:
        for name in ("old.csv", "new.csv"):
            data = source(bytes(BIG))
            with pytest.raises(StorageFull) as caught:
                store.save("sid", name, data)
            assert caught.value.errno == errno.ENOSPC
            if isinstance(data, Path):
                assert data.stat().st_size == BIG, "a file that was not saved is where it was"
            check(store, disk, old)
        store.save("sid", "next.csv", source(b"x" * 2_000_000))
        check(store, disk, {**old, "next.csv": b"x" * 2_000_000})
        store.delete("sid", "next.csv")
    store.sweep(lambda keys: keys)
    check(store, disk, old)


@scenario
def space_is_left_free(disk: Path) -> None:
    store = FileStore(disk / "files", min_free_bytes=1_000_000)
    store.save("sid", "old.csv", b"x" * 2_000_000)
    for source in SOURCES:
        for expected in (None, 1_500_000):
            with pytest.raises(StorageFull):
                store.save("sid", "new.csv", source(bytes(1_500_000)), size=expected)
            room = os.statvfs(disk)
            assert room.f_bavail * room.f_bsize >= 1_000_000
    check(store, disk, {"old.csv": b"x" * 2_000_000})
    store.delete("sid", "old.csv")
    store.save("sid", "new.csv", bytes(1_500_000))


@scenario
def a_writer_fails_whole(disk: Path) -> None:
    store = open_store(disk)
    store.save("sid", "old.csv", b"old")
    out = store.writer("sid", "old.csv")
    until_full(lambda _: out.write(bytes(100_000)))
    with pytest.raises(ValueError, match="no longer being written"):
        out.commit()
    check(store, disk, {"old.csv": b"old"})
    with store.writer("sid", "old.csv") as out:
        out.write(b"new")
    check(store, disk, {"old.csv": b"new"})


@scenario
def a_file_of_the_same_disk_is_moved_without_room(disk: Path) -> None:
    store = open_store(disk)
    store.save("sid", "old.csv", b"old")
    path = disk / "source"
    path.write_bytes(b"x" * 2_000_000)
    fill(disk)
    store.save("sid", "old.csv", path)
    check(store, disk, {"old.csv": b"x" * 2_000_000})
    assert not path.exists()


@scenario
def the_journal_meets_the_end_of_the_disk(disk: Path) -> None:
    """Empty files need no room but that for their names. Each one that is saved has its name."""
    store = open_store(disk)
    store.save("sid", "old.csv", b"old")
    filler = fill(disk)
    names = [f"{number}-{'x' * 150}" for number in range(300)]
    saved = until_full(lambda number: store.save("sid", names[number], b""))
    files = {"old.csv": b"old", **dict.fromkeys(names[:saved], b"")}
    with pytest.raises(StorageFull):
        store.save("sid", names[saved], b"")
    check(store, disk, files)
    filler.unlink()
    store.save("sid", "new.csv", b"new")
    check(store, disk, {**files, "new.csv": b"new"})
    check(open_store(disk), disk, {**files, "new.csv": b"new"})


@scenario
def the_first_save_of_a_session_fails_whole(disk: Path) -> None:
    """No part of an area is left if there is no room for its journal."""
    store = open_store(disk)
    store.save("other", "a.csv", b"1")
    filler = fill(disk)
    with pytest.raises(StorageFull):
        store.save("sid", "new.csv", b"new")
    check(store, disk, {})
    store.sweep(lambda keys: keys)
    assert [path for path in leftovers(disk / "files") if not path.startswith("owners/")] == []
    filler.unlink()
    store.save("sid", "new.csv", b"new")
    check(store, disk, {"new.csv": b"new"})


@scenario
def deleting_and_cleaning_up_need_no_room(disk: Path) -> None:
    store = open_store(disk)
    for sid in ("sid", "other"):
        store.save(sid, "a.csv", b"a" * 500_000)
        store.save(sid, "b.csv", b"b" * 500_000)
    fill(disk)
    use_up_inodes(disk)
    assert store.delete("sid", "a.csv")
    fill(disk)
    check(store, disk, {"b.csv": b"b" * 500_000})
    store.cleanup("other")
    store.purge()
    assert not stored(disk / "files", "other")
    assert store.total_size_bytes == 500_000
    store.cleanup_all()
    store.purge()
    check(store, disk, {})
    room = os.statvfs(disk)
    assert room.f_bavail * room.f_bsize > 900_000


@scenario
def an_area_with_empty_counts_is_removed(disk: Path) -> None:
    store = open_store(disk)
    store.save("sid", "a.csv", b"a" * 500_000)
    next((disk / "files" / "areas").glob("*/*/counts")).write_bytes(b"")  # as if created when the disk was just full
    fill(disk)
    store.cleanup("sid")
    store.purge()
    assert not stored(disk / "files", "sid")
    check(store, disk, {})


@scenario
def no_room_for_another_file(disk: Path) -> None:
    """A disk that has bytes left, but no room for one file more."""
    store = open_store(disk)
    store.save("sid", "old.csv", b"old")
    empty = use_up_inodes(disk)
    for sid, name in (("sid", "old.csv"), ("sid", "new.csv"), ("other", "new.csv")):
        with pytest.raises(StorageFull):
            store.save(sid, name, b"new")
    check(store, disk, {"old.csv": b"old"})
    for path in empty:
        path.unlink()
    store.save("sid", "old.csv", b"new")
    check(store, disk, {"old.csv": b"new"})


@scenario
def a_fresh_process_works_on_a_full_disk(disk: Path) -> None:
    """Reading, counting and sweeping need no room, also in a process that has not been here before."""
    store = open_store(disk)
    store.save("sid", "old.csv", b"old")
    store.save("dead", "a.csv", b"1")
    store.backend.stage("sid", "half.csv").write(b"half")
    store.close()
    filler = fill(disk)
    empty = use_up_inodes(disk)
    fresh = open_store(disk)
    check_files = {"old.csv": b"old"}
    assert fresh.list_files("sid") == ["old.csv"]
    assert fresh.sweep(lambda keys: ["sid"]) == 1
    check(fresh, disk, check_files)
    for path in (filler, *empty):
        path.unlink()
    fresh.save("sid", "new.csv", b"new")
    check(fresh, disk, {**check_files, "new.csv": b"new"})


if __name__ == "__main__":
    run_named(FUNCTIONS)
