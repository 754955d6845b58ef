"""The limits hold, also while several threads save at once."""

from __future__ import annotations

import io
import math
import pickle
import random
import threading
from collections.abc import Iterable, Iterator
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
from silo_files.ledger import Limits
from silo_files.memory_ledger import MemoryLedger


class Blocks:
    """A source whose blocks come from an iterator."""

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


def test_a_refusal_has_its_limit_as_a_number(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_file_bytes=10, max_session_bytes=15, max_files=2)

    def refusal(name: str, data: bytes, size: int | None = None) -> Any:
        with pytest.raises((FileTooLarge, SessionQuotaExceeded)) as caught:
            store.save("sid", name, data, size=size)
        error = pickle.loads(pickle.dumps(caught.value))
        assert (type(error), str(error)) == (type(caught.value), str(caught.value))
        return error

    assert refusal("a", b"x" * 11).max_bytes == 10
    assert refusal("a", b"x", size=11).max_bytes == 10
    assert refusal("a", b"xx", size=1).max_bytes is None
    store.save("sid", "a", b"x" * 10)
    error = refusal("b", b"x" * 6)
    assert (error.max_bytes, error.max_files) == (15, None)
    store.save("sid", "b", b"x")
    error = refusal("c", b"x")
    assert (error.max_bytes, error.max_files) == (None, 2)


@pytest.mark.parametrize("limit", [-1, -math.inf, math.nan], ids=str)
@pytest.mark.parametrize(
    "name", ["max_file_bytes", "max_session_bytes", "max_store_bytes", "max_files", "min_free_bytes"]
)
def test_limits_are_not_negative(tmp_path: Path, name: str, limit: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be 0 or more: {limit}"):
        FileStore(tmp_path / "base", **{name: limit})
    assert not (tmp_path / "base").exists()


def test_limits_are_numbers(tmp_path: Path) -> None:
    limit: Any = "50MB"
    with pytest.raises(
        TypeError, match="max_file_bytes takes a number such as 50_000_000, or None for no limit, not '5"
    ):
        FileStore(tmp_path / "base", max_file_bytes=limit)
    assert not (tmp_path / "base").exists()


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


def test_a_failed_save_does_not_count(tmp_path: Path) -> None:
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
    assert store.sweep(lambda keys: []) == 1
    store.save("one", "b", b"x" * 100)
    assert store.total_size_bytes == 100


def test_existing_files_count_from_the_first_save(tmp_path: Path) -> None:
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


def test_files_deleted_by_another_store_do_not_count(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=100, max_files=1)
    store.save("sid", "a", b"x" * 100)
    FileStore(tmp_path / "base").cleanup("sid")
    store.save("sid", "b", b"x" * 100)
    assert store.list_files("sid") == ["b"]


def test_the_whole_store_is_not_counted_for_each_refusal(tmp_path: Path) -> None:
    now = 0.0
    counts = 0

    class Counting(LocalFileBackend):
        def total(self) -> Usage:
            nonlocal counts
            counts += 1
            return super().total()

    backend = Counting(str(tmp_path / "base"))
    ledger = MemoryLedger(backend, Limits(store_bytes=100), clock=lambda: now)
    other = FileStore(tmp_path / "base")
    other.save("other", "a", b"x" * 100)
    for _ in range(5):
        with pytest.raises(StoreQuotaExceeded):
            ledger.reserve("sid", size=1)
    assert counts == 1
    other.cleanup("other")
    now = 6.0
    ledger.reserve("sid", size=100)
    assert counts == 2


def test_a_save_does_not_count_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_concurrent_saves_stay_within_the_limits(tmp_path: Path, names: list[str]) -> None:
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
        # A look reads one size after another: of two files that change meanwhile, it may see the larger size of each.
        largest = 10_000 if len(set(names)) == 1 else 4 * 3000
        usages = [store.usage("sid0"), store.usage("sid1")]
        assert all(usage.bytes <= largest and usage.files <= 6 for usage in usages)
    assert failures == []
    total = store.total_size_bytes
    assert total <= 15_000
    # The counts are right again: exactly the rest fits.
    store.cleanup("sid0")
    rest = 10_000 - store.usage("sid1").bytes
    assert_counts_agree(store)
    store.save(
        "sid1",
        names[1],
        b"x" * (rest + (store.info("sid1", names[1]).size if names[1] in store.list_files("sid1") else 0)),
    )
    assert store.usage("sid1").bytes == 10_000


def assert_counts_agree(store: FileStore, sids: Iterable[str] = ("sid0", "sid1")) -> None:
    """The counts are those of the disk, and no room is reserved."""
    assert store.total() == store.backend.total()
    assert [store.usage(sid) for sid in sids] == [store.backend.usage(sid) for sid in sids]
    assert isinstance(store.backend, LocalFileBackend)
    assert store.backend.counts.reserved.owned == {}


def test_a_cleanup_while_saving_is_counted_once(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=100, max_store_bytes=1000)

    def blocks() -> Iterator[bytes]:
        yield b"y" * 5
        store.cleanup("sid")
        yield b"y" * 20

    for _ in range(3):
        store.save("sid", "a", b"x" * 90)
        with pytest.raises(AreaGone):
            store.save("sid", "b", Blocks(blocks()))  # type: ignore[arg-type]
        assert store.total() == Usage(0, 0) == store.backend.total()


def test_a_sweep_while_saving_does_not_lift_the_limit(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_store_bytes=100)
    store.save("full", "a", b"x" * 90)

    def blocks() -> Iterator[bytes]:
        yield b"y" * 5
        store.save("dead", "a", b"1")
        assert store.sweep(lambda keys: [key for key in keys if key != "dead"]) == 1
        yield b"y" * 90

    with pytest.raises(StoreQuotaExceeded):
        store.save("sid", "b", Blocks(blocks()))  # type: ignore[arg-type]
    assert store.total_size_bytes == 90


def test_a_cleanup_of_an_area_not_in_memory_is_counted(tmp_path: Path) -> None:
    FileStore(tmp_path / "base").save("old", "a", b"x" * 60)
    store = FileStore(tmp_path / "base", max_store_bytes=100)
    store.save("sid", "a", b"x" * 40)
    store.cleanup("old")
    assert store.total() == Usage(40, 1)
    store.save("sid", "b", b"x" * 60)


def test_a_save_that_outlives_a_sweep_counts_in_its_session(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=100)

    def blocks() -> Iterator[bytes]:
        yield b"y" * 90
        store.save("dead", "a", b"1")
        assert store.sweep(lambda keys: [key for key in keys if key != "dead"]) == 1
        with pytest.raises(SessionQuotaExceeded):
            store.save("sid", "b", b"x" * 11)

    store.save("sid", "a", Blocks(blocks()))  # type: ignore[arg-type]
    assert store.usage("sid") == Usage(90, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits",
    [{"max_store_bytes": 9000}, {"max_store_bytes": 9000, "max_session_bytes": 3000, "max_files": 6}],
)
def test_the_counts_agree_with_the_disk(tmp_path: Path, limits: dict[str, int]) -> None:
    """Threads call every method for a moment. Afterwards memory and disk must agree, in each of several rounds."""
    store = FileStore(tmp_path / "base", **limits)  # type: ignore[arg-type]
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(30):
            sid, name, choice = f"sid{rng.randrange(4)}", str(rng.randrange(8)), rng.random()
            try:
                if choice < 0.7:
                    store.save(sid, name, stream(*[b"x" * rng.randrange(1, 500)] * 3))
                elif choice < 0.86:
                    store.delete(sid, name)
                elif choice < 0.95:
                    store.cleanup(sid)
                elif choice < 0.98:
                    store.sweep({f"sid{number}" for number in range(4) if f"sid{number}" != sid}.intersection)
                else:
                    store.cleanup_all()
            except (AreaGone, SessionQuotaExceeded, StoreQuotaExceeded):
                pass
            except BaseException as error:
                failures.append(error)

    for phase in range(12):
        threads = [threading.Thread(target=work, args=(6 * phase + number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert_counts_agree(store, [f"sid{number}" for number in range(4)])
        assert store.total().bytes <= 9000
        for number in range(4):
            usage = store.usage(f"sid{number}")
            assert usage.bytes <= limits.get("max_session_bytes", 9000)
            assert usage.files <= limits.get("max_files", 100)
