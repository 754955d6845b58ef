"""A caller writes a file in blocks: it is saved at the end, or nothing of it is."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from silo_files import (
    AreaGone,
    FileMissing,
    FileStore,
    FileTooLarge,
    InvalidSource,
    SavedPath,
    Saving,
    SessionQuotaExceeded,
    StorageFull,
    StoreQuotaExceeded,
    TruncatedInput,
    Usage,
    Writer,
)
from store_files import content, parts


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "base", max_session_bytes=100, max_files=3)


def broken_off(out: Writer, error: BaseException) -> None:
    out.write(b"half")
    raise error


def fill(store: FileStore) -> None:
    """Save all the bytes that the session may have: nothing is still reserved."""
    store.save("sid", "a", b"x" * 100)
    store.delete("sid", "a")


def test_a_file_appears_when_its_block_ends(store: FileStore) -> None:
    store.save("sid", "a", b"old")

    with store.writer("sid", "a") as out:
        assert [out.write(b"one"), out.write(bytearray(b"two")), out.write(memoryview(b"three"))] == [3, 3, 5]
        assert content(store, "a") == b"old"

    assert content(store, "a") == b"onetwothree"
    assert out.info == store.info("sid", "a")
    assert out.path == store.get_path("sid", "a")
    assert parts(store) == []


def test_a_writer_takes_wide_views(store: FileStore) -> None:
    with store.writer("sid", "a") as out:
        assert out.write(memoryview(b"abcd").cast("H")) == 4
    assert content(store, "a") == b"abcd"


def test_a_file_may_be_empty(store: FileStore) -> None:
    with store.writer("sid", "a"):
        pass
    assert content(store, "a") == b""


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_nothing_is_saved_if_the_block_raises(store: FileStore, error: BaseException) -> None:
    store.save("sid", "a", b"old")
    out = store.writer("sid", "a")
    with pytest.raises(type(error)) as caught, out:
        broken_off(out, error)
    assert caught.value is error
    assert content(store, "a") == b"old"
    assert parts(store) == []
    fill(store)
    with pytest.raises(ValueError, match="not saved"):
        out.info  # noqa: B018


def test_a_caller_may_commit_without_a_block(store: FileStore) -> None:
    out = store.writer("sid", "a")
    out.write(b"1")
    info = out.commit()
    assert info == store.info("sid", "a") == out.commit()
    out.abort()
    assert content(store, "a") == b"1"
    with pytest.raises(ValueError, match="it is saved"):
        out.write(b"2")
    assert content(store, "a") == b"1"
    fill(store)


def test_a_second_commit_brings_nothing_back(store: FileStore) -> None:
    out = store.writer("sid", "a")
    out.commit()
    store.delete("sid", "a")
    out.commit()
    assert store.list_files("sid") == []


def test_a_block_may_end_after_a_commit_or_an_abort_in_it(store: FileStore) -> None:
    with store.writer("sid", "a") as out:
        out.write(b"1")
        out.commit()
    with store.writer("sid", "b") as out:
        out.write(b"1")
        out.abort()
        out.abort()
    assert store.list_files("sid") == ["a"]


def test_an_aborted_file_cannot_be_saved(store: FileStore) -> None:
    out = store.writer("sid", "a")
    out.abort()
    for call in (out.commit, lambda: out.write(b"1")):
        with pytest.raises(ValueError, match="it was aborted"):
            call()
    assert store.list_files("sid") == []
    assert parts(store) == []


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (lambda out: out.write(b"x" * 101), SessionQuotaExceeded),
        (lambda out: out.write("text"), InvalidSource),
        (lambda out: out.write(memoryview(b"abcd")[::2]), InvalidSource),
        (lambda out: out.write(b"x" * 11), FileTooLarge),
    ],
    ids=["quota", "text", "view", "size"],
)
def test_a_file_whose_write_failed_is_not_saved(
    store: FileStore, write: Callable[[Any], Any], error: type[Exception]
) -> None:
    store.save("sid", "a", b"old")
    size = 10 if error is FileTooLarge else None

    out = store.writer("sid", "a", size=size)
    out.write(b"half")

    with pytest.raises(ValueError, match="an error has ended it"), out, suppress(error):
        write(out)

    assert parts(store) == []
    assert content(store, "a") == b"old"
    fill(store)


def test_a_file_that_its_caller_has_lost_is_not_saved(store: FileStore) -> None:
    store.save("sid", "a", b"old")
    out = store.writer("sid", "a")
    out.write(b"half")
    lost = [out]
    lost.append(lost)  # type: ignore[arg-type]  # so that only the collector finds it
    del out, lost

    gc.collect()

    assert parts(store) == []
    assert content(store, "a") == b"old"
    fill(store)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("end", [Writer.abort, Writer.commit, lambda out: out.write(b"child")])
def test_a_forked_child_does_not_touch_a_file_that_its_parent_writes(
    store: FileStore, fork: Callable[[Callable[[], object]], int], end: Callable[[Writer], object]
) -> None:
    with store.writer("sid", "a") as out:
        out.write(b"half ")

        def child() -> None:
            with suppress(ValueError):
                end(out)
            out.abort()
            gc.collect()
            store.save("sid", "b", b"child")

        assert os.waitpid(fork(child), 0)[1] == 0
        out.write(b"whole")

    assert content(store, "a") == b"half whole"
    assert content(store, "b") == b"child"


def test_a_file_that_met_a_full_disk_is_not_saved(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = store.writer("sid", "a")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFull):
        out.write(b"1")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="an error has ended it"):
        out.commit()
    assert store.usage("sid") == Usage(0, 0)
    assert parts(store) == []
    fill(store)


def test_an_announced_size_is_checked(store: FileStore) -> None:
    with pytest.raises(TruncatedInput) as caught, store.writer("sid", "a", size=4) as out:
        out.write(b"123")
    assert (caught.value.received, caught.value.size) == (3, 4)
    with store.writer("sid", "b", size=3) as out:
        out.write(b"123")
    with pytest.raises(ValueError, match="negative"):
        store.writer("sid", "c", size=-1)
    assert store.list_files("sid") == ["b"]


def test_a_size_beyond_the_limit_makes_nothing(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", max_file_bytes=10)
    with pytest.raises(FileTooLarge):
        store.writer("sid", "a", size=11)
    with pytest.raises(FileTooLarge):
        store.save("sid", "a", b"x" * 11)
    assert list((tmp_path / "base").iterdir()) == []


def test_a_cleanup_while_a_file_is_written_wins(store: FileStore) -> None:
    out = store.writer("sid", "a")
    store.cleanup("sid")
    store.save("sid", "new", b"new")
    out.write(b"late")
    with pytest.raises(AreaGone):
        out.commit()
    with pytest.raises(ValueError, match="an error has ended it"):
        out.commit()
    assert store.list_files("sid") == ["new"]


def test_several_files_are_written_at_once(store: FileStore) -> None:
    outs: list[Writer] = [store.writer("sid", name) for name in "abc"]
    for out in outs:
        out.write(b"12")
    with pytest.raises(SessionQuotaExceeded):
        store.writer("sid", "d")
    for out in outs:
        out.commit()
    assert store.usage("sid") == Usage(6, 3)


class Told(FileStore):
    """A store that is told of each end, and whose files of "bad" are refused."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.ends: list[bool] = []

    def begin_save(self, sid: str) -> Saving:
        return Saving("life-of-" + sid, (lambda: 1 / 0) if sid == "bad" else None, self.ends.append)


def test_the_end_is_told_once(tmp_path: Path) -> None:
    store = Told(tmp_path, max_file_bytes=5)
    store.writer("sid", "a").commit()
    store.writer("sid", "a").abort()
    with pytest.raises(ZeroDivisionError):
        store.writer("bad", "a").commit()
    assert store.ends == [True, False, False]
    store.save("sid", "b", b"1")
    with pytest.raises(ZeroDivisionError):
        store.save("bad", "b", b"1")
    with pytest.raises(FileTooLarge):
        store.writer("sid", "c", size=6)
    assert store.ends == [True, False, False, True, False, False]
    assert FileStore(tmp_path).list_files("life-of-sid") == ["a", "b"]


def test_save_returns_its_path_with_the_info(store: FileStore) -> None:
    saved = store.save("sid", "a.csv", b"1")
    assert isinstance(saved, str)
    assert (saved, saved.info) == (store.get_path("sid", "a.csv"), store.info("sid", "a.csv"))
    copy = pickle.loads(pickle.dumps(saved))
    assert (type(copy), copy, copy.info) == (SavedPath, saved, saved.info)


def test_a_digest_is_computed_when_asked_for(store: FileStore) -> None:
    store.save("sid", "a", b"data")
    assert store.info("sid", "a").digest is None
    assert store.info("sid", "a", digest="sha256").digest == "sha256:" + hashlib.sha256(b"data").hexdigest()
    assert store.info("sid", "a", digest="BLAKE2b").digest == "blake2b:" + hashlib.blake2b(b"data").hexdigest()
    for wrong in ("nothing", "", "shake_128", "sha256\0", "\ud800"):
        with pytest.raises(ValueError, match="hashlib has no digest"):
            store.info("sid", "a", digest=wrong)
    with pytest.raises(FileMissing):
        store.info("sid", "b", digest="sha256")


def test_a_digest_is_that_of_the_described_content(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save("sid", "a", b"old")
    opened = store.backend.open

    def replaced_first(key: str, name: str) -> Any:
        monkeypatch.undo()
        store.save("sid", "a", b"newer")
        return opened(key, name)

    monkeypatch.setattr(store.backend, "open", replaced_first)
    info = store.info("sid", "a", digest="sha256")
    assert (info.size, info.digest) == (5, "sha256:" + hashlib.sha256(b"newer").hexdigest())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "text/csv"),
        ("a.PNG", "image/png"),
        ("b.tar.gz", "application/gzip"),
        ("b.txt.br", "application/octet-stream"),
        ("noextension", "application/octet-stream"),
        ("data:text;x.html", "text/html"),
        (".hidden", "application/octet-stream"),
    ],
)
def test_the_media_type_is_that_of_the_name(store: FileStore, name: str, kind: str) -> None:
    assert store.save("sid", name, b"").info.media_type == kind


def test_files_that_are_finished_are_saved_together(store: FileStore) -> None:
    first, second = (store.writer("sid", name) for name in "ab")
    for out in (first, second):
        out.write(b"new")
        out.finish()
        out.finish()
        with pytest.raises(ValueError, match="it is complete"):
            out.write(b"more")
    assert store.list_files("sid") == []

    assert [out.commit().name for out in (first, second)] == ["a", "b"]

    assert content(store, "b") == b"new"
    assert parts(store) == []
    with pytest.raises(ValueError, match="it is saved"):
        first.finish()


def test_a_finished_file_can_be_aborted(store: FileStore) -> None:
    out = store.writer("sid", "a")
    out.write(b"x" * 100)
    out.finish()
    out.abort()

    assert (store.list_files("sid"), parts(store)) == ([], [])
    fill(store)


def test_a_file_that_is_too_short_is_refused_when_it_is_finished(store: FileStore) -> None:
    out = store.writer("sid", "a", size=3)
    out.write(b"12")
    with pytest.raises(TruncatedInput):
        out.finish()
    assert parts(store) == []
    with pytest.raises(ValueError, match="an error has ended it"):
        out.commit()


@pytest.mark.parametrize("options", [{"max_session_bytes": 1000}, {"max_store_bytes": 1000}], ids=["session", "store"])
def test_finished_files_hold_no_more_room_than_they_need(tmp_path: Path, options: Any) -> None:
    store = FileStore(tmp_path / "many", **options)
    writers = [store.writer("sid", f"{number}") for number in range(100)]
    for out in writers:
        out.write(b"x" * 10)
        out.finish()
    with pytest.raises((SessionQuotaExceeded, StoreQuotaExceeded)), store.writer("sid", "more") as more:
        more.write(b"x")

    for out in writers:
        out.commit()

    assert store.usage("sid") == Usage(1000, 100)
    store.delete("sid", "0")
    store.save("sid", "more", b"x" * 10)
