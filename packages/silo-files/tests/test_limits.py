"""The limits hold, also while many save at once."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from silo_files import (
    AreaGone,
    FileStore,
    FileStoreError,
    FileTooLarge,
    LocalFileBackend,
    SessionQuotaExceeded,
    StoreQuotaExceeded,
    Usage,
)
from silo_files.ledger import Ledger, Limits
from silo_files.locks import KeyLocks


class Blocks:
    """A source whose blocks are made one by one."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks = blocks

    def read(self, size: int) -> bytes:
        return next(self.blocks, b"")


def stream(*blocks: bytes) -> Any:
    return Blocks(iter(blocks))


def test_max_file_bytes(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_file_bytes=10)
    store.save("sid", "a", b"x" * 10)
    for source in (b"x" * 11, io.BytesIO(b"x" * 11), stream(b"x" * 6, b"x" * 5)):
        with pytest.raises(FileTooLarge):
            store.save("sid", "a", source)
    with pytest.raises(FileTooLarge):
        store.save("sid", "a", b"x", size=11)
    assert store.usage("sid") == Usage(10, 1)


def test_limits_are_not_negative(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="negative"):
        FileStore(tmp_path / "base", max_files=-1)


def test_max_session_bytes(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=100)
    store.save("sid", "a", b"x" * 60)
    with pytest.raises(SessionQuotaExceeded):
        store.save("sid", "b", stream(b"x" * 40, b"x"))
    store.save("sid", "b", b"x" * 40)
    store.save("other", "a", b"x" * 100)
    with pytest.raises(SessionQuotaExceeded):
        store.save("sid", "c", b"x")
    assert store.usage("sid") == Usage(100, 2)


def test_replacing_counts_the_difference(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=100, max_files=1, max_store_bytes=100)
    for size in (60, 60, 100, 10, 100):
        store.save("sid", "a", b"x" * size)
        assert store.usage("sid") == Usage(size, 1)
    with pytest.raises(SessionQuotaExceeded):
        store.save("sid", "a", b"x" * 101)
    assert store.usage("sid") == Usage(100, 1)


def test_what_counts_is_what_ends_well(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=100)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            store.save("sid", "a", Blocks(b"x" * 90 if number == 0 else b"%d" % (1 // 0) for number in range(2)))  # type: ignore[arg-type]
    store.save("sid", "a", b"x" * 100)
    assert store.delete("sid", "a")
    store.save("sid", "b", b"x" * 100)


def test_max_files(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_files=2)
    store.save("sid", "a", b"")
    store.save("sid", "b", b"")
    with pytest.raises(SessionQuotaExceeded):
        store.save("sid", "c", b"")
    store.save("sid", "b", b"again")
    store.delete("sid", "a")
    store.save("sid", "c", b"")
    assert store.list_files("sid") == ["b", "c"]


def test_running_saves_count_as_files(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_files=1)

    def blocks() -> Iterator[bytes]:
        yield b"1"
        with pytest.raises(SessionQuotaExceeded):
            store.save("sid", "b", b"2")
        yield b"3"

    store.save("sid", "a", Blocks(blocks()))  # type: ignore[arg-type]
    assert store.list_files("sid") == ["a"]


def test_max_store_bytes(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_store_bytes=100)
    store.save("one", "a", b"x" * 60)
    with pytest.raises(StoreQuotaExceeded):
        store.save("two", "a", b"x" * 41)
    store.save("two", "a", b"x" * 40)
    store.cleanup("one")
    store.save("two", "b", b"x" * 60)
    store.cleanup_all()
    store.save("two", "b", b"x" * 100)
    assert store.sweep(lambda key: False) == 1
    store.save("one", "b", b"x" * 100)
    assert store.total_size_bytes == 100


def test_what_lies_there_counts_from_the_first_save(tmp_path: Path) -> None:
    before = FileStore(tmp_path / "base")
    before.save("sid", "a", b"x" * 60)
    store = FileStore(tmp_path / "base", max_session_bytes=100, max_store_bytes=110, max_files=2)
    with pytest.raises(SessionQuotaExceeded):
        store.save("sid", "b", b"x" * 41)
    with pytest.raises(StoreQuotaExceeded):
        store.save("other", "b", b"x" * 51)
    store.save("sid", "b", b"")
    with pytest.raises(SessionQuotaExceeded):
        store.save("sid", "c", b"")


def test_what_others_deleted_is_seen_before_refusing(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=100, max_files=1)
    store.save("sid", "a", b"x" * 100)
    FileStore(tmp_path / "base").cleanup("sid")
    store.save("sid", "b", b"x" * 100)
    assert store.list_files("sid") == ["b"]


def test_the_whole_disk_is_looked_at_only_now_and_then(tmp_path: Path) -> None:
    now = 0.0
    counts = 0

    class Counting(LocalFileBackend):
        def total(self) -> Usage:
            nonlocal counts
            counts += 1
            return super().total()

    backend = Counting(str(tmp_path / "base"))
    ledger = Ledger(backend, KeyLocks(), Limits(store_bytes=100), clock=lambda: now)
    other = FileStore(tmp_path / "base")
    other.save("other", "a", b"x" * 100)
    for _ in range(5):
        with ledger.begin("sid", "a") as hold, pytest.raises(StoreQuotaExceeded):
            hold.reserve(1)
    assert counts == 1
    other.cleanup("other")
    now = 6.0
    with ledger.begin("sid", "a") as hold:
        hold.reserve(100)
    assert counts == 2


def test_a_save_does_not_walk_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LocalFileBackend(str(tmp_path / "base"))
    store = FileStore(tmp_path / "base", backend=backend, max_session_bytes=1000, max_store_bytes=1000, max_files=100)
    store.save("sid", "first", b"1")

    def walk(*_: object) -> Usage:
        raise AssertionError("walked")

    monkeypatch.setattr(backend, "usage", walk)
    monkeypatch.setattr(backend, "total", walk)
    for number in range(50):
        store.save("sid", str(number), b"1")


def test_a_cleaned_save_gives_its_room_back(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=100, max_store_bytes=100)

    def blocks() -> Iterator[bytes]:
        yield b"x" * 50
        store.cleanup("sid")
        yield b"x" * 50

    for _ in range(3):
        with pytest.raises(AreaGone):
            store.save("sid", "a", Blocks(blocks()))  # type: ignore[arg-type]
    store.save("sid", "a", b"x" * 100)
    assert store.total_size_bytes == 100


@pytest.mark.parametrize("names", [["same"] * 8, [str(number) for number in range(8)]])
def test_together_they_stay_within_the_limits(tmp_path: Path, names: list[str]) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=10_000, max_store_bytes=15_000, max_files=6)
    barrier = threading.Barrier(len(names) + 1)
    refused: list[FileStoreError] = []
    failures: list[BaseException] = []

    def save(name: str, sid: str) -> None:
        barrier.wait()
        for size in (100, 3000, 50, 1700, 2600) * 4:
            try:
                store.save(sid, name, Blocks(b"x" * 10 for _ in range(size // 10)))  # type: ignore[arg-type]
            except (SessionQuotaExceeded, StoreQuotaExceeded) as error:
                refused.append(error)
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=save, args=(name, f"sid{i % 2}")) for i, name in enumerate(names)]
    for thread in threads:
        thread.start()
    barrier.wait()
    while any(thread.is_alive() for thread in threads):
        usages = [store.usage("sid0"), store.usage("sid1")]
        assert all(usage.bytes <= 10_000 and usage.files <= 6 for usage in usages)
    assert failures == []
    total = store.total_size_bytes
    assert total <= 15_000
    # The counts came back to the truth: exactly the rest fits.
    store.cleanup("sid0")
    rest = 10_000 - store.usage("sid1").bytes
    assert isinstance(store._ledger, Ledger)
    assert store._ledger._extra == 0
    assert store._ledger._total == store.total_size_bytes
    store.save(
        "sid1",
        names[1],
        b"x" * (rest + (store.stat("sid1", names[1]).size if names[1] in store.list_files("sid1") else 0)),
    )
    assert store.usage("sid1").bytes == 10_000
