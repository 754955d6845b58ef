"""A local file is moved into a store, once everything has accepted it."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from silo_files import (
    AreaGone,
    DigestMismatch,
    ExtensionRefused,
    FileRefused,
    FileStore,
    FileTooLarge,
    InvalidFileName,
    InvalidSource,
    NameTaken,
    SessionQuotaExceeded,
    StorageFull,
    TruncatedInput,
    Usage,
)
from silo_files.source import check_unchanged
from store_files import content, parts

DATA = os.urandom(300_000)
SHA256 = "sha256:" + hashlib.sha256(DATA).hexdigest()
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files and modes")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(DATA)
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18))
    return path


def assert_untouched(source: Path, inode: int) -> None:
    found = source.lstat()
    assert source.read_bytes() == DATA
    assert (found.st_ino, found.st_nlink, found.st_mtime_ns) == (inode, 1, 10**18)
    if os.name != "nt":
        assert stat.S_IMODE(found.st_mode) == 0o640


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that puts the store on another file system, as far as links can tell."""

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    return lambda: monkeypatch.setattr(os, "link", link)


def test_a_file_is_moved_and_not_copied(store: FileStore, source: Path) -> None:
    inode = source.stat().st_ino

    saved = store.save("sid", "a.bin", source, size=len(DATA), digest=SHA256)

    assert not source.exists()
    assert content(store, "a.bin") == DATA
    found = Path(saved).stat()
    assert (found.st_ino, found.st_nlink) == (inode, 1)
    if os.name != "nt":
        assert stat.S_IMODE(found.st_mode) == 0o600
    assert saved.info.digest == SHA256
    assert store.info("sid", "a.bin", digest="sha256") == saved.info
    assert saved.info.modified > 10**9
    assert parts(store) == []


def test_no_byte_is_written(store: FileStore, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0
    write = os.write

    def count(fd: int, data: Any) -> int:
        nonlocal written
        written += len(data)
        return write(fd, data)

    monkeypatch.setattr(os, "write", count)
    store.save("sid", "a.bin", source)
    assert written < 1000


def test_a_file_on_another_file_system_is_copied_and_removed(
    store: FileStore, source: Path, elsewhere: Callable[[], None]
) -> None:
    elsewhere()
    inode = source.stat().st_ino
    saved = store.save("sid", "a.bin", source, size=len(DATA), digest=SHA256)
    assert not source.exists()
    assert content(store, "a.bin") == DATA
    assert Path(saved).stat().st_ino != inode
    assert parts(store) == []


@posix
def test_a_file_with_another_link_is_copied(store: FileStore, source: Path, tmp_path: Path) -> None:
    """The stored file must not change with what is behind the other link."""
    other = tmp_path / "other"
    os.link(source, other)
    store.save("sid", "a.bin", source)
    assert not source.exists()
    other.write_bytes(b"changed")
    assert content(store, "a.bin") == DATA


def test_a_file_that_gets_another_link_meanwhile_is_copied(
    store: FileStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.bin"
    link = os.link

    def link_after_another_process(path: str, target: str) -> None:
        if not other.exists():
            link(path, other)
        link(path, target)

    monkeypatch.setattr(os, "link", link_after_another_process)

    saved = store.save("sid", "a.bin", source)

    found, kept = Path(saved).stat(), other.stat()
    assert found.st_ino != kept.st_ino, "a write to the other link would change the saved file"
    assert (found.st_nlink, kept.st_nlink) == (1, 1)
    assert content(store, "a.bin") == other.read_bytes() == DATA
    assert parts(store) == []


def refuse(name: str, file: BinaryIO) -> None:
    assert file.read() == DATA
    raise FileRefused("no")


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": len(DATA) + 1}, TruncatedInput),
        ({"size": len(DATA) - 1}, FileTooLarge),
        ({"digest": "sha256:" + "0" * 64}, DigestMismatch),
        ({"on_conflict": "error"}, NameTaken),
        ({"validate": refuse}, FileRefused),
        ({"validate": lambda name, file: 1 / 0}, ZeroDivisionError),
        ({"filename": "a.exe"}, ExtensionRefused),
        ({"filename": "../a.bin"}, InvalidFileName),
        ({"sid": "full"}, SessionQuotaExceeded),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_refused_file_stays_where_it_is(
    tmp_path: Path,
    source: Path,
    copied: bool,
    elsewhere: Callable[[], None],
    options: dict[str, Any],
    error: type[Exception],
) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=500_000, extensions=[".bin"])
    store.save("sid", "a.bin", b"old")
    store.save("full", "b.bin", b"x" * 300_000)
    if copied:
        elsewhere()
    inode = source.stat().st_ino

    with pytest.raises(error):
        store.save(**{"sid": "sid", "filename": "a.bin", "data": source, **options})

    assert_untouched(source, inode)
    assert content(store, "a.bin") == b"old"
    assert parts(store) == []


def test_a_file_over_the_limit_stays_where_it_is(tmp_path: Path, source: Path) -> None:
    store = FileStore(tmp_path / "base", max_file_bytes=len(DATA) - 1)
    with pytest.raises(FileTooLarge) as caught:
        store.save("sid", "a.bin", source)
    assert caught.value.max_bytes == len(DATA) - 1
    assert source.read_bytes() == DATA
    assert list((tmp_path / "base").iterdir()) == []


def test_a_clean_up_meanwhile_leaves_the_source(store: FileStore, source: Path) -> None:
    inode = source.stat().st_ino
    with pytest.raises(AreaGone):
        store.save("sid", "a.bin", source, validate=lambda name, file: store.cleanup("sid"))
    store.purge()
    assert_untouched(source, inode)
    assert store.list_files("sid") == []


def test_an_area_that_is_removed_while_the_file_comes_leaves_the_source(
    store: FileStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = source.stat().st_ino
    stage = store.backend.stage

    def removed(key: str, name: str) -> Any:
        staged = stage(key, name)
        store.cleanup("sid")
        store.purge()
        return staged

    monkeypatch.setattr(store.backend, "stage", removed)
    with pytest.raises(AreaGone):
        store.save("sid", "a.bin", source)
    assert_untouched(source, inode)


@pytest.mark.parametrize("step", ["replace", "chmod", "utime"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["full", "interrupt"])
def test_a_commit_that_fails_leaves_the_source(
    store: FileStore, source: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    store.save("sid", "a.bin", b"old")
    inode = source.stat().st_ino

    def fails(*_: object, **__: object) -> None:
        monkeypatch.undo()
        raise error

    monkeypatch.setattr(os, step, fails)
    with pytest.raises(StorageFull if isinstance(error, OSError) else KeyboardInterrupt):
        store.save("sid", "a.bin", source)
    assert_untouched(source, inode)
    assert content(store, "a.bin") == b"old"
    assert parts(store) == []


@posix
def test_a_file_that_is_saved_when_an_error_comes_is_private(
    store: FileStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def interrupted(old: str, new: str) -> None:
        replace(old, new)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.save("sid", "a.bin", source)
    monkeypatch.undo()
    assert content(store, "a.bin") == source.read_bytes() == DATA
    path = store.get_path("sid", "a.bin")
    assert path is not None
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert store.info("sid", "a.bin").modified > 10**9


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_a_file_that_changes_meanwhile_is_refused(
    store: FileStore, source: Path, copied: bool, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow(*_: object) -> None:
        with source.open("ab") as file:
            file.write(b"more")

    def grow_first(before: os.stat_result, now: os.stat_result) -> None:
        grow()
        check_unchanged(before, source.stat())

    if copied:
        elsewhere()
        monkeypatch.setattr("silo_files.moving.check_unchanged", grow_first)
    with pytest.raises(InvalidSource, match="another process has changed the file"):
        store.save("sid", "a.bin", source, validate=grow)
    assert source.read_bytes() == DATA + b"more"
    assert store.list_files("sid") == []
    assert parts(store) == []


def test_a_conflict_can_rename_a_moved_file(store: FileStore, source: Path) -> None:
    store.save("sid", "a.bin", b"old")
    assert store.save("sid", "a.bin", source, on_conflict="rename").info.name == "a (2).bin"
    assert not source.exists()


def test_moved_bytes_count(tmp_path: Path, source: Path) -> None:
    store = FileStore(tmp_path / "base", max_session_bytes=500_000)
    store.save("sid", "a", source)
    assert store.usage("sid") == Usage(len(DATA), 1)
    with pytest.raises(SessionQuotaExceeded):
        store.save("sid", "b", b"x" * 200_001)
    store.save("sid", "b", b"x" * 200_000)


@pytest.mark.parametrize("max_session_bytes", [None, 10**6])
def test_a_moved_file_needs_no_free_space(
    tmp_path: Path, source: Path, elsewhere: Callable[[], None], max_session_bytes: int | None
) -> None:
    store = FileStore(tmp_path / "base", min_free_bytes=1 << 60, max_session_bytes=max_session_bytes)
    store.save("sid", "a.bin", source)
    assert content(store, "a.bin") == DATA

    source.write_bytes(DATA)
    elsewhere()
    with pytest.raises(StorageFull):
        store.save("sid", "b.bin", source)
    assert source.read_bytes() == DATA
    with pytest.raises(StorageFull):
        store.save("sid", "b.bin", DATA)
    assert store.usage("sid") == Usage(len(DATA), 1)


def test_a_copied_file_asks_for_the_free_space_of_all_its_bytes(
    tmp_path: Path, source: Path, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("silo_files.local.ledger.free_bytes", lambda path: 1000 + len(DATA) - 1)
    elsewhere()
    store = FileStore(tmp_path / "base", min_free_bytes=1000, max_session_bytes=10**6)
    monkeypatch.setattr("silo_files.moving.read_blocks", None)  # nothing is read before the refusal

    with pytest.raises(StorageFull):
        store.save("sid", "a.bin", source)

    assert source.read_bytes() == DATA
    assert store.usage("sid") == Usage(0, 0)
    assert parts(store) == []


def test_an_empty_file_is_moved(store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert store.save("sid", "a", tmp_path / "empty").info.size == 0
    assert not (tmp_path / "empty").exists()


def test_a_directory_entry_and_a_path_of_bytes_are_paths(store: FileStore, tmp_path: Path, source: Path) -> None:
    class Bytes(os.PathLike[bytes]):
        def __fspath__(self) -> bytes:
            return os.fsencode(source)

    store.save("sid", "a", Bytes())  # type: ignore[arg-type]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b").write_bytes(b"1")
    with os.scandir(tmp_path / "folder") as entries:
        store.save("sid", "b", next(entries))
    assert store.usage("sid") == Usage(len(DATA) + 1, 2)


def test_a_str_is_no_path(store: FileStore, source: Path) -> None:
    with pytest.raises(InvalidSource, match=r"a str cannot be saved: give bytes, .* or a pathlib\.Path"):
        store.save("sid", "a", str(source))  # type: ignore[arg-type]
    assert source.exists()


def test_a_missing_file_is_an_error(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.save("sid", "a", tmp_path / "missing")
    assert list(Path(store.base_dir).iterdir()) == []


@posix
@pytest.mark.parametrize("kind", ["link", "broken", "folder", "pipe", "socket"])
def test_what_is_no_regular_file_is_refused_at_once(
    store: FileStore, source: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "odd"
    if kind == "link":
        path.symlink_to(source)
    elif kind == "broken":
        path.symlink_to(tmp_path / "nothing")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("odd")
    with pytest.raises(
        InvalidSource,
        match="it is a link: give the path of the file itself" if kind in {"link", "broken"} else "not a regular file",
    ):
        store.save("sid", "a", path)
    assert os.path.lexists(path)
    assert source.read_bytes() == DATA
    assert list(Path(store.base_dir).iterdir()) == []


@posix
def test_a_pipe_that_takes_the_place_of_the_file_is_refused_at_once(
    store: FileStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lstat = os.lstat

    def swap(path: Any) -> os.stat_result:
        found = lstat(path)
        if os.fspath(path) == os.fspath(source):
            monkeypatch.undo()
            source.unlink()
            os.mkfifo(source)
        return found

    monkeypatch.setattr(os, "lstat", swap)
    with pytest.raises(InvalidSource, match="not a regular file"):
        store.save("sid", "a", source)


@posix
def test_another_file_that_takes_the_place_is_neither_taken_nor_removed(
    store: FileStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = store.backend.stage

    def swap(key: str, name: str) -> Any:
        other = source.with_name("other")
        other.write_bytes(b"other")
        other.replace(source)
        return stage(key, name)

    monkeypatch.setattr(store.backend, "stage", swap)
    store.save("sid", "a", source)
    assert content(store, "a") == DATA
    assert source.read_bytes() == b"other"


def test_a_file_of_the_store_is_refused(store: FileStore, tmp_path: Path) -> None:
    path = Path(store.save("sid", "a", b"mine"))
    (tmp_path / "way").symlink_to(path.parent, target_is_directory=True)
    for way in (path, tmp_path / "way" / path.name):
        with pytest.raises(InvalidSource, match="a file of the store"):
            store.save("sid", "b", way)
    with path.open("rb") as file:
        store.save("sid", "b", file)
    assert store.list_files("sid") == ["a", "b"]


@posix
def test_a_file_that_cannot_be_removed_is_refused(
    store: FileStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = source.stat().st_ino
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="may not remove the file"):
        store.save("sid", "a", source)
    assert_untouched(source, inode)


@posix
def test_a_file_of_another_user_in_a_sticky_folder_is_refused(
    store: FileStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.parent.chmod(0o1777)
    monkeypatch.setattr(os, "geteuid", lambda: source.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="may not remove the file"):
        store.save("sid", "a", source)
    assert source.read_bytes() == DATA


@posix
def test_a_file_of_another_user_is_copied(store: FileStore, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could still change the mode of a file that was moved."""
    monkeypatch.setattr("silo_files.local.staged._geteuid", lambda: source.lstat().st_uid + 1)
    inode = source.stat().st_ino
    path = store.save("sid", "a", source)
    assert Path(path).stat().st_ino != inode
    assert not source.exists()


def test_a_file_that_stays_after_all_is_logged(
    store: FileStore, source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unlink = os.unlink

    def fails(path: Any) -> None:
        if os.fspath(path) == os.fspath(source):
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path)

    monkeypatch.setattr(os, "unlink", fails)
    store.save("sid", "a", source)
    assert content(store, "a") == DATA
    assert ["could not be removed" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_a_process_killed_between_any_two_steps_loses_nothing(
    tmp_path: Path, source: Path, copied: bool, elsewhere: Callable[[], None], fork: Callable[[Callable[[], None]], int]
) -> None:
    steps = ("open", "write", "close", "link", "unlink", "replace", "rename", "chmod", "utime", "mkdir", "rmdir")

    def save(left: int) -> None:
        def killing(step: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return step(*args, **options)

            return call

        if copied:
            elsewhere()
        for name in steps:
            setattr(os, name, killing(getattr(os, name)))
        FileStore(tmp_path / "base").save("sid", "a.bin", source)

    for left in range(200):
        source.write_bytes(DATA)
        store = FileStore(tmp_path / "base")
        store.cleanup_all()
        if left % 2:
            store.save("sid", "a.bin", b"old")

        _, status = os.waitpid(fork(partial(save, left)), 0)

        found = content(store, "a.bin") if store.list_files("sid") else None
        assert found in ((b"old" if left % 2 else None), DATA)
        assert found == DATA or source.read_bytes() == DATA
        store.sweep(lambda keys: keys)
        assert parts(store) == []
        assert (content(store, "a.bin") if store.list_files("sid") else None) == found
        if status == 0:
            break
    assert left > 10
    assert (status, found, source.exists()) == (0, DATA, False)
