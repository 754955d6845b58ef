"""A file is saved whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from silo_files import AreaGone, FileStore, FileTooLarge, InvalidSource, StorageFull, TruncatedInput, UnsafeFolder
from silo_files.names import hash_key
from silo_files.source import BLOCK_SIZE
from store_files import content, parts


class OnlyRead:
    """Like Werkzeug's ``FileStorage``: only a read method matters."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


class Scripted:
    """Returns prepared answers, and raises those that are exceptions."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def read(self, size: int) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else answer


BIG = os.urandom(2 * BLOCK_SIZE + 17)


@pytest.mark.parametrize(
    "make",
    [
        bytes, bytearray, memoryview, io.BytesIO, OnlyRead,
        lambda data: io.BufferedReader(io.BytesIO(data)),
        lambda data: Scripted(bytearray(data), memoryview(b""), b""),
        lambda data: memoryview(data).cast("H"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("data", [b"", b"ab", BIG + b"x"])
def test_sources(store: FileStore, make: Callable[[bytes], Any], data: bytes) -> None:
    path = store.save("sid", "a", make(data), size=len(data))
    assert Path(path).read_bytes() == data
    assert parts(store) == []


def test_real_files(store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(BIG)
    with (tmp_path / "source").open("rb") as file:
        assert file.read(7) == BIG[:7]
        assert Path(store.save("sid", "rest", file)).read_bytes() == BIG[7:]
    with (tmp_path / "source").open("rb", buffering=0) as raw:
        assert Path(store.save("sid", "raw", raw)).read_bytes() == BIG
    with tempfile.SpooledTemporaryFile(10) as spooled:
        spooled.write(BIG)
        spooled.seek(0)
        assert Path(store.save("sid", "spooled", spooled)).read_bytes() == BIG


class Odd:
    def __init__(self, count: object) -> None:
        self.count = count

    def readinto(self, view: memoryview) -> object:
        return self.count


@pytest.mark.parametrize(
    "source",
    [
        None, 5, "text", ["a"], object(), io.StringIO("text"), Scripted(b"x", None), Scripted(b"x", "text"),
        Scripted(b"x", 5), Odd(None), Odd(-1), Odd(BLOCK_SIZE + 1), Odd("3"), memoryview(b"abcd")[::2],
    ],
)  # fmt: skip
def test_bad_sources(store: FileStore, source: Any) -> None:
    store.save("sid", "a", b"old")
    with pytest.raises(InvalidSource):
        store.save("sid", "a", source)
    assert content(store, "a") == b"old"
    assert parts(store) == []


def test_a_bad_source_makes_no_area(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidSource):
        store.save("sid", "a", io.StringIO("text"))  # type: ignore[arg-type]
    assert list((tmp_path / "base").iterdir()) == []


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), OSError(errno.ENOSPC, "not our disk")])
def test_an_error_of_the_source_passes_through(store: FileStore, error: BaseException) -> None:
    store.save("sid", "a", b"old")
    with pytest.raises(type(error)) as caught:
        store.save("sid", "a", Scripted(b"half", error))  # type: ignore[arg-type]
    assert caught.value is error
    assert content(store, "a") == b"old"
    assert parts(store) == []


def test_too_few_bytes(store: FileStore) -> None:
    store.save("sid", "a", b"old")
    for source in (b"123", io.BytesIO(b"123"), OnlyRead(b"123")):
        with pytest.raises(TruncatedInput):
            store.save("sid", "a", source, size=4)  # type: ignore[arg-type]
    assert content(store, "a") == b"old"
    assert parts(store) == []


def test_too_many_bytes(store: FileStore) -> None:
    with pytest.raises(FileTooLarge):
        store.save("sid", "a", io.BytesIO(b"12345"), size=4)
    with pytest.raises(ValueError, match="negative"):
        store.save("sid", "a", b"", size=-1)
    assert store.list_files("sid") == []


def test_a_full_disk(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save("sid", "a", b"old")
    write = os.write

    def full(fd: int, data: Any) -> int:
        if bytes(data[:4]) == b"more":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFull) as caught:
        store.save("sid", "a", Scripted(b"some", b"more", b""))  # type: ignore[arg-type]
    assert caught.value.errno == errno.ENOSPC
    assert content(store, "a") == b"old"
    assert parts(store) == []


def test_a_disk_without_room_for_one_more_file(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save("sid", "a", b"old")

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(StorageFull):
        store.save("sid", "b", b"new")
    monkeypatch.undo()
    assert store.list_files("sid") == ["a"]


def test_other_errors_of_the_disk_pass_through(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save("sid", "a", b"old")

    def broken(source: str, target: str) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="I/O error"):
        store.save("sid", "a", b"new")
    monkeypatch.undo()
    assert content(store, "a") == b"old"
    assert parts(store) == []


@pytest.mark.skipif(os.utime not in os.supports_fd, reason="the system sets no time of an open file")
def test_the_time_of_a_file_is_that_of_the_exact_clock(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's clock ticks every few milliseconds. A replaced file may get the inode of the one before it."""
    now = 1_700_000_000_123_456_000
    for tick, data in ((0, b"one"), (1000, b"two")):
        monkeypatch.setattr("silo_files.local.staged.time.time_ns", lambda tick=tick: now + tick)
        saved = store.save("sid", "a.txt", data)
        assert Path(saved).stat().st_mtime_ns == now + tick
        assert f"-{now + tick:x}-" in saved.info.etag


def test_a_partial_write_is_continued(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, memoryview(data)[:1000]))
    store.save("sid", "a", BIG)
    assert content(store, "a") == BIG


def test_a_reader_sees_the_old_or_the_new_file(store: FileStore) -> None:
    contents = [bytes([number]) * (BLOCK_SIZE + number) for number in range(8)]
    store.save("sid", "a", contents[0])
    done = threading.Event()

    def write() -> None:
        for turn in range(60):
            store.save("sid", "a", io.BytesIO(contents[turn % 8]))
        done.set()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    while not done.is_set():
        assert content(store, "a") in contents
        assert store.info("sid", "a").size in {len(content) for content in contents}
    for writer in writers:
        writer.join()
    assert parts(store) == []


def test_a_cleanup_while_saving_wins(store: FileStore) -> None:
    store.save("sid", "old", b"old")
    source = Scripted(b"half", lambda: store.cleanup("sid") or b"rest", b"")  # type: ignore[func-returns-value]
    with pytest.raises(AreaGone):
        store.save("sid", "late", source)  # type: ignore[arg-type]
    assert store.list_files("sid") == []
    store.purge()
    assert [path for path in Path(store.base_dir).rglob("*") if path.is_file() and path.parent.name != "owners"] == []


def test_a_late_save_does_not_reach_the_next_life(store: FileStore) -> None:
    def next_life() -> bytes:
        store.cleanup("sid")
        store.save("sid", "new", b"new")
        return b"rest"

    with pytest.raises(AreaGone):
        store.save("sid", "late", Scripted(b"half", next_life, b""))  # type: ignore[arg-type]
    assert store.list_files("sid") == ["new"]


def test_a_source_may_use_the_store(store: FileStore) -> None:
    def nested() -> bytes:
        store.save("sid", "a", b"inner")
        return content(store, "a")

    store.save("sid", "a", Scripted(b"outer+", nested, b""))  # type: ignore[arg-type]
    assert content(store, "a") == b"outer+inner"


def test_saves_and_cleanups_at_once(store: FileStore) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def save(name: str) -> None:
        try:
            while not stop.is_set():
                try:
                    store.save("sid", name, io.BytesIO(BIG))
                except AreaGone:
                    continue
        except BaseException as error:
            failures.append(error)

    savers = [threading.Thread(target=save, args=(f"{number}.bin",)) for number in range(4)]
    for saver in savers:
        saver.start()
    for _ in range(200):
        store.cleanup("sid")
    stop.set()
    for saver in savers:
        saver.join()
    assert failures == []
    store.cleanup("sid")
    store.purge()
    assert store.total_size_bytes == 0
    assert parts(store) == []
    assert list((Path(store.base_dir) / "trash").iterdir()) == []


def test_new_folders_are_synced_before_others_can_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    rename = os.rename

    def watch(source: str, target: str) -> None:
        events.append("visible")
        rename(source, target)

    monkeypatch.setattr(os, "rename", watch)
    for module in ("backend", "staged", "disk"):
        monkeypatch.setattr(f"silo_files.local.{module}.sync_dir", lambda path: events.append(Path(path).name))
    (tmp_path / "top").mkdir()
    store = FileStore(tmp_path / "top" / "base", durable=True)
    assert events == ["top"]
    store.save("sid", "a", b"1")
    digest = hash_key("sid")
    before, after = events[: events.index("visible")], events[events.index("visible") + 1 :]
    assert {"base", "areas", digest[:2], digest} <= set(before)
    assert any(name.startswith("t-") for name in before)
    assert after == [digest]


def test_a_file_in_place_of_a_folder_is_refused(store: FileStore) -> None:
    (Path(store.base_dir) / "areas").touch()
    with pytest.raises(UnsafeFolder):
        store.save("sid", "a", b"1")


def test_an_area_is_made_while_others_keep_removing_it(store: FileStore) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def save(name: str) -> None:
        try:
            while not stop.is_set():
                try:
                    store.save("sid", name, b"x")
                except AreaGone:
                    continue
        except BaseException as error:
            failures.append(error)

    savers = [threading.Thread(target=save, args=(f"{number}.bin",)) for number in range(4)]
    for saver in savers:
        saver.start()
    for _ in range(1000):
        store.cleanup("sid")
    stop.set()
    for saver in savers:
        saver.join()
    assert failures == []
