"""Files of a session are removed at once and deleted later. Nothing else is ever deleted."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from silo_files import AreaGone, FileStore, FileStoreError, LocalFileBackend, StorageFull
from silo_files.local import record_file
from silo_files.local.counts import Counts
from silo_files.local.file_lock import lock_fd
from silo_files.local.trash import Trash
from silo_files.names import hash_key

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
# These tests fork a process with threads on purpose.
fork_warning = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def trash(store: FileStore) -> list[Path]:
    folder = Path(store.base_dir) / "trash"
    return list(folder.iterdir()) if folder.exists() else []


def stop_deleting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the thread from deleting, so that a test can look into the trash."""
    monkeypatch.setattr(Trash, "_enqueue", lambda self, entry: None)


def trash_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "silo-files-trash"]


def test_cleanup_moves_and_purge_deletes(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_deleting(monkeypatch)
    path = store.save("sid", "a", b"1")
    store.save("other", "a", b"1")
    store.cleanup("sid")
    assert not Path(path).exists()
    assert store.list_files("sid") == []
    assert len(trash(store)) == 1
    store.purge()
    assert trash(store) == []
    assert store.list_files("other") == ["a"]


def test_the_thread_empties_the_trash(store: FileStore) -> None:
    before = set(trash_threads())
    for number in range(3):
        store.save("sid", "a", b"1")
        store.save("sid", "b", b"1")
        assert (set(trash_threads()) == before) is (number == 0), "the thread starts with the first clean-up"
        store.cleanup("sid")
    (thread,) = set(trash_threads()) - before
    assert thread.daemon
    while trash(store):
        assert thread.is_alive()


def test_the_thread_ends_when_idle_and_starts_again(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("silo_files.local.trash._IDLE_SECONDS", 0.0)
    before = set(trash_threads())
    for _ in range(5):
        store.save("sid", "a", b"1")
        store.cleanup("sid")
        for thread in set(trash_threads()) - before:
            thread.join(60)
            assert not thread.is_alive()
        assert trash(store) == []


def test_a_thread_that_an_error_ended_is_followed_by_another(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(trash_threads())
    errors: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: errors.append(str(args.exc_value)))

    def fail(self: Trash, entry: str) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(Trash, "_delete", fail)
        store.save("first", "a.txt", b"1")
        store.cleanup("first")
        for thread in set(trash_threads()) - before:
            thread.join(10)
    assert errors == ["a defect"]

    store.save("second", "a.txt", b"1")
    store.cleanup("second")

    (thread,) = set(trash_threads()) - before
    while len(trash(store)) > 1:
        assert thread.is_alive()
    store.purge()
    assert trash(store) == []


def test_no_thread_starts_before_it_is_needed(store: FileStore) -> None:
    before = set(trash_threads())
    store.save("sid", "a", b"1")
    store.list_files("sid")
    store.cleanup("unknown")
    store.purge()
    store.sweep(lambda keys: keys)
    assert set(trash_threads()) == before


@posix
@fork_warning
def test_a_forked_child_cleans_up_too(store: FileStore, fork: Callable[[Callable[[], object]], int]) -> None:
    store.save("sid", "a", b"1")
    store.cleanup("sid")
    store.save("mine", "a", b"1")

    def work() -> None:
        store.save("child", "a", b"1")
        store.cleanup("child")
        store.cleanup("mine")
        while trash(store):
            pass

    assert os.waitpid(fork(work), 0)[1] == 0
    assert store.total_size_bytes == 0


@posix
@fork_warning
def test_a_fork_while_others_save_does_not_hang_the_child(
    tmp_path: Path, fork: Callable[[Callable[[], object]], int]
) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=10_000, max_store_bytes=1_000_000)
    stop = threading.Event()

    def work(sid: str) -> None:
        while not stop.is_set():
            store.save(sid, "a", b"1")
            store.cleanup(sid)

    def work_in_child() -> None:
        for number in range(4):
            store.save(f"child{number}", "a", b"1")
            store.cleanup(f"child{number}")

    threads = [threading.Thread(target=work, args=(f"sid{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            assert os.waitpid(fork(work_in_child), 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_concurrent_purges_delete_everything(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_deleting(monkeypatch)
    for number in range(300):
        store.save("sid", str(number), b"1")
    store.cleanup("sid")
    purgers = [threading.Thread(target=store.purge) for _ in range(4)]
    for purger in purgers:
        purger.start()
    for purger in purgers:
        purger.join()
    assert trash(store) == []


def test_only_areas_can_be_added(tmp_path: Path) -> None:
    remover = Trash(str(tmp_path / "areas"), str(tmp_path / "trash"), LocalFileBackend(str(tmp_path)).counts)
    (tmp_path / "areas" / "ab").mkdir(parents=True)
    for digest in ("", ".", "ab", "x" * 64, "AB" * 32, "ab" * 31 + "/.", "ab" * 32 + "\n"):
        with pytest.raises(FileStoreError):
            remover.add(digest)
    assert not remover.add("ab" * 32)
    assert (tmp_path / "areas" / "ab").is_dir()


@posix
def test_links_are_never_followed(store: FileStore, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "deep").mkdir(parents=True)
    (victim / "deep" / "precious").write_text("keep")
    folder = Path(store.session_dir("sid"))
    (folder / "link").symlink_to(victim)
    digest = hash_key("linked")
    prefix = Path(store.base_dir) / "areas" / digest[:2]
    prefix.mkdir(exist_ok=True)
    (prefix / digest).symlink_to(victim)
    store.cleanup("sid")
    store.cleanup("linked")
    store.purge()
    (Path(store.base_dir) / "trash" / ("0" * 32 + ".gone")).symlink_to(victim)
    store.purge()
    assert trash(store) == []
    assert (victim / "deep" / "precious").read_text() == "keep"


@posix
def test_a_trash_that_is_a_link_is_not_emptied(store: FileStore, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    entry = victim / ("0" * 32 + ".gone")
    entry.mkdir(parents=True)
    (Path(store.base_dir) / "trash").symlink_to(victim)
    store.purge()
    assert entry.is_dir()


@posix
def test_a_prefix_folder_that_is_a_link_is_not_entered(store: FileStore, tmp_path: Path) -> None:
    digest = hash_key("sid")
    victim = tmp_path / "victim"
    (victim / digest).mkdir(parents=True)
    areas = Path(store.base_dir) / "areas"
    areas.mkdir()
    (areas / digest[:2]).symlink_to(victim)
    store.cleanup("sid")
    store.cleanup_all()
    assert store.sweep(lambda keys: []) == 0
    assert (victim / digest).is_dir()


def test_what_cannot_be_deleted_stays_for_the_next_time(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stop_deleting(monkeypatch)
    store.save("secret-id", "a", b"1")
    store.cleanup("secret-id")

    def refuse(path: str) -> None:
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        store.purge()
    assert len(trash(store)) == 1
    assert "in use" in caplog.text
    assert "secret" not in caplog.text
    store.purge()
    assert trash(store) == []


def test_a_file_added_during_deletion_is_deleted_too(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A save that found the area just before it was removed may put its file into the trash."""
    stop_deleting(monkeypatch)
    store.save("sid", "a", b"1")
    store.cleanup("sid")
    rmtree = shutil.rmtree
    tries = 0

    def late(path: str) -> None:
        nonlocal tries
        # A thread of an earlier test may still be deleting.
        tries += path.startswith(str(tmp_path))
        if path.startswith(str(tmp_path)) and tries <= failing:
            raise OSError(errno.ENOTEMPTY if tries % 2 else errno.ENOENT, "not empty, or gone")
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", late)
    failing = 5
    store.purge()
    assert (tries, len(trash(store))) == (5, 1)
    tries, failing = 0, 4
    store.purge()
    assert trash(store) == []
    assert caplog.text == ""


@pytest.fixture
def like_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with an open file cannot be renamed."""
    stop_deleting(monkeypatch)
    monkeypatch.setattr("silo_files.local.trash.RENAMES_BUSY_FOLDERS", False)
    rename = os.rename

    def refuse(source: str, target: str) -> None:
        if source.endswith(".part") or (Path(source).is_dir() and list(Path(source).rglob("*.part"))):
            raise PermissionError(13, "in use")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)


@posix
@pytest.mark.usefixtures("like_windows")
def test_a_folder_that_is_busy_is_emptied_piece_by_piece(store: FileStore) -> None:
    store.save("sid", "a", b"1")
    staged = store.backend.stage("sid", "late")
    staged.write(b"late")
    store.cleanup("sid")
    assert store.list_files("sid") == []
    staged.finish()
    with pytest.raises(AreaGone):
        staged.commit()
    staged.abort()
    store.save("sid", "b", b"2")
    assert store.list_files("sid") == ["b"]
    store.purge()
    assert trash(store) == []


@posix
@pytest.mark.usefixtures("like_windows")
@pytest.mark.parametrize("end", ["fails before the commit", "fails at the commit"])
def test_a_save_that_fails_leaves_no_folder_of_a_removed_area(store: FileStore, end: str) -> None:
    """It would stay for good, as its session has ended."""
    store.save("sid", "a", b"1")
    staged = store.backend.stage("sid", "late")
    staged.write(b"late")
    store.cleanup("sid")
    if end == "fails at the commit":
        staged.finish()
        with pytest.raises(AreaGone):
            staged.commit()
    staged.abort()
    assert list(Path(store.base_dir).glob("areas/*/*")) == []


@posix
def test_an_area_that_cannot_be_created_leaves_nothing(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk each try would leave one more folder."""
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if data.startswith(b'{"key"'):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    store.save("other", "a", b"1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for _ in range(3):
            with pytest.raises(StorageFull):
                store.save("sid", "a", b"1")
    assert [path.name for path in Path(store.base_dir).glob("areas/*/*")] == [hash_key("other")]
    store.save("sid", "a", b"1")
    assert store.list_files("sid") == ["a"]


def test_a_save_after_a_lost_journal_succeeds(store: FileStore) -> None:
    store.save("sid", "a", b"1")
    for path in Path(store.base_dir).rglob("names"):
        path.unlink()
    with pytest.raises(AreaGone):
        store.save("sid", "b", b"2")
    store.save("sid", "b", b"2")
    assert store.list_files("sid") == ["b"]


def test_an_area_that_is_created_just_then_is_not_renamed_without_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = FileStore(tmp_path), FileStore(tmp_path)
    (tmp_path / "areas" / hash_key("sid")[:2]).mkdir(parents=True)
    change = other._ledger.change("sid")
    require = Counts._require_folders

    def late(self: Counts, area: str) -> None:
        monkeypatch.undo()
        try:
            require(self, area)
        finally:  # the removal has found no area
            other.save("sid", "a", b"1")
            change.__enter__()

    monkeypatch.setattr(Counts, "_require_folders", late)
    store.cleanup("sid")
    assert other.list_files("sid") == ["a"], "renamed while another has its lock"
    change.__exit__(None, None, None)
    store.cleanup("sid")
    assert other.list_files("sid") == []


def test_a_removal_that_waited_has_the_lock_of_the_area_that_it_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits, the area is removed and created again."""
    store, other = FileStore(tmp_path), FileStore(tmp_path)
    record = Path(store.save("sid", "a", b"1")).parent / "counts"
    is_locked: list[bool] = []

    def wait(fd: int) -> bool:
        monkeypatch.setattr(record_file, "lock_fd", lock_fd)
        other.cleanup("sid")
        other.save("sid", "b", b"1")
        other.usage("sid")
        return lock_fd(fd)

    def move(area: str, target: str) -> None:
        fd = os.open(record, os.O_RDWR)
        is_locked.append(not lock_fd(fd, wait=False))
        os.close(fd)
        os.rename(area, target)  # noqa: PTH104

    monkeypatch.setattr(record_file, "lock_fd", wait)
    monkeypatch.setattr("silo_files.local.trash._move", move)
    store.cleanup("sid")
    # Windows does not rename a folder while a file in it is open.
    assert is_locked == [sys.platform != "win32"] * 2
    assert store.list_files("sid") == []
