"""The interface of 0.1, and where files are on disk."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from silo_files import BaseMissing, FileMissing, FileStore, FileStoreError, InvalidFileName, InvalidKey, Saving, Usage
from silo_files.names import hash_key, hash_name
from store_files import content


@pytest.fixture
def no_umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


def test_the_interface_of_0_1(tmp_path: Path) -> None:
    base = str(tmp_path / "uploads")
    store = FileStore(base)
    assert store.base_dir == base
    assert store.auto_create is True
    assert Path(base).is_dir()
    path = store.save("sid", "report.xlsx", io.BytesIO(b"data"))
    assert Path(path).is_absolute()
    assert Path(path).read_bytes() == b"data"
    assert store.get_path("sid", "report.xlsx") == path
    assert store.get_path("sid", "other") is None
    assert store.list_files("sid") == ["report.xlsx"]
    assert Path(store.session_dir("sid")) == Path(path).parent
    assert store.total_size_bytes == 4
    store.cleanup("sid")
    assert store.list_files("sid") == []
    store.save("one", "a", b"1")
    store.save("two", "a", b"2")
    store.cleanup_all()
    assert store.total_size_bytes == 0


def test_a_relative_base_dir_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert FileStore("up").base_dir == str(tmp_path / "up")


def test_without_auto_create_nothing_is_created(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base", auto_create=False)
    assert store.list_files("sid") == []
    store.session_dir("sid")
    with pytest.raises(FileNotFoundError) as caught:
        store.save("sid", "a", b"1")
    assert isinstance(caught.value, BaseMissing)
    assert isinstance(caught.value, FileStoreError)
    assert not (tmp_path / "base").exists()
    (tmp_path / "base").mkdir()
    store.save("sid", "a", b"1")
    assert store.list_files("sid") == ["a"]


def test_reading_creates_nothing(tmp_path: Path, store: FileStore) -> None:
    assert store.list_files("sid") == []
    assert store.get_path("sid", "a") is None
    assert store.usage("sid") == Usage(0, 0)
    assert not store.delete("sid", "a")
    store.cleanup("sid")
    store.purge()
    assert list((tmp_path / "base").iterdir()) == []


def test_session_dir_can_be_used_as_a_folder(store: FileStore) -> None:
    folder = Path(store.session_dir("sid"))
    assert folder.is_dir()
    (folder / "scratch").mkdir()
    (folder / "scratch" / "own.txt").write_text("mine")
    assert store.list_files("sid") == []
    store.cleanup("sid")
    store.purge()
    assert not folder.exists()


def test_files_lie_under_hashes(tmp_path: Path, store: FileStore) -> None:
    path = store.save("sid-1", "Quarterly \u00fc.CSV", b"1")
    digest = hash_key("sid-1")
    name = hash_name("Quarterly \u00fc.CSV")
    assert path == str(tmp_path / "base" / "areas" / digest[:2] / digest / name)
    assert re.fullmatch(r"[0-9a-f]{32}\.csv", name)


def test_no_path_on_disk_holds_an_id_or_a_name(tmp_path: Path, store: FileStore) -> None:
    store.save("sessionid", "filename.txt", b"1")
    paths = [str(path) for path in (tmp_path / "base").rglob("*")]
    assert not [path for path in paths if "sessionid" in path or "filename" in path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
@pytest.mark.usefixtures("no_umask")
def test_only_the_owner_may_read(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base")
    store.save("sid", "a", b"1")
    store.save("other", "a", b"1")
    store.cleanup("other")
    store.purge()
    for path in (tmp_path / "base").rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_files_are_readable_after_a_strict_umask(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base")
    old = os.umask(0o777)
    try:
        path = store.save("sid", "a", b"1")
    finally:
        os.umask(old)
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700


def test_open_info_files_delete(store: FileStore) -> None:
    store.save("sid", "b.txt", b"22")
    store.save("sid", "a.txt", b"1")
    with store.open("sid", "b.txt") as file:
        assert file.read() == b"22"
    info = store.info("sid", "b.txt")
    path = store.get_path("sid", "b.txt")
    assert path is not None
    assert (info.name, info.size, info.modified) == ("b.txt", 2, Path(path).stat().st_mtime)
    assert [info.name for info in store.files("sid")] == ["a.txt", "b.txt"]
    assert store.usage("sid") == Usage(3, 2)
    assert store.delete("sid", "b.txt")
    assert not store.delete("sid", "b.txt")
    assert store.list_files("sid") == ["a.txt"]
    with pytest.raises(FileMissing):
        store.info("sid", "b.txt")
    with pytest.raises(FileNotFoundError):
        store.open("sid", "b.txt")


def test_a_missing_file_error_names_nothing(store: FileStore) -> None:
    with pytest.raises(FileMissing) as caught:
        store.open("secret-id", "secret-name")
    assert "secret" not in str(caught.value)


def test_a_folder_pipe_or_link_counts_as_missing(store: FileStore) -> None:
    path = Path(store.save("sid", "a", b"1"))
    path.unlink()
    makers: list[Callable[[], None]] = [path.mkdir]
    if hasattr(os, "mkfifo"):
        makers += [lambda: os.mkfifo(path), lambda: path.symlink_to(path.parent)]
    for make in makers:
        make()
        for ask in (store.info, store.open):
            with pytest.raises(FileMissing):
                ask("sid", "a")
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    path.parent.rename(path.parent.with_name("other"))
    path.parent.touch()
    with pytest.raises(FileMissing):
        store.open("sid", "a")


def test_folders_above_the_base_obey_the_umask(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no modes")
    old = os.umask(0o027)
    try:
        FileStore(tmp_path / "above" / "base")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "above").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "above" / "base").stat().st_mode) == 0o700


def test_both_spellings_reach_one_file(store: FileStore) -> None:
    store.save("sid", "u\u0308.txt", b"1")
    store.save("sid", "\u00fc.txt", b"2")
    assert store.list_files("sid") == ["\u00fc.txt"]
    assert content(store, "u\u0308.txt") == b"2"


def test_every_method_checks_the_name(store: FileStore) -> None:
    for call in (store.get_path, store.open, store.info, store.delete):
        with pytest.raises(InvalidFileName):
            call("sid", "a/b")
    with pytest.raises(InvalidFileName):
        store.save("sid", "a/b", b"1")


def test_key_for_is_a_function(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"called as function\(sid\), not 'life-1'"):
        FileStore(tmp_path / "base", key_for="life-1")  # type: ignore[arg-type]
    assert not (tmp_path / "base").exists()


def test_key_for_is_called_each_time(tmp_path: Path) -> None:
    uids = {"sid": "life-1"}
    store = FileStore(tmp_path / "base", key_for=uids.__getitem__)
    store.save("sid", "a", b"1")
    assert store.session_dir("sid") == str(tmp_path / "base" / "areas" / hash_key("life-1")[:2] / hash_key("life-1"))
    uids["sid"] = "life-2"
    assert store.list_files("sid") == []
    store.save("sid", "b", b"2")
    store.cleanup_key("life-1")
    assert store.list_files("sid") == ["b"]
    store.cleanup("sid")
    assert store.total_size_bytes == 0
    del uids["sid"]
    with pytest.raises(KeyError):
        store.save("sid", "c", b"3")
    uids["sid"] = "\0"
    with pytest.raises(InvalidKey):
        store.save("sid", "c", b"3")


class OfLife(FileStore):
    """A store whose saved files belong to ``life``, whatever ``key_for`` says."""

    life = "life-1"

    def begin_save(self, sid: str) -> Saving:
        return Saving(self.life)


def test_a_save_belongs_to_the_key_that_it_began_with(tmp_path: Path) -> None:
    uids = {"sid": "life-2"}
    store = OfLife(tmp_path / "base", key_for=uids.__getitem__)
    path = store.save("sid", "u\u0308.txt", io.BytesIO(b"1"), size=1)
    assert Path(path).parent.name == hash_key("life-1")
    assert store.list_files("sid") == []
    uids["sid"] = "life-1"
    assert store.list_files("sid") == ["\u00fc.txt"]
    with pytest.raises(InvalidFileName):
        store.save("sid", "a/b", b"1")
    store.life = "\0"
    with pytest.raises(InvalidKey):
        store.save("sid", "a", b"1")


def test_foreign_files_in_base_dir_are_left_alone(tmp_path: Path) -> None:
    base = tmp_path / "base"
    for folder in (base, base / "areas", base / "areas" / "ab", base / "trash", base / "owners", base / "sid"):
        folder.mkdir(exist_ok=True)
        (folder / "precious.txt").write_text("keep")
    store = FileStore(base)
    store.save("sid", "a", b"1")
    assert store.total_size_bytes == 1
    store.cleanup("sid")
    store.cleanup_all()
    store.purge()
    assert store.sweep(lambda keys: []) == 0
    assert len(list(base.rglob("precious.txt"))) == 6
