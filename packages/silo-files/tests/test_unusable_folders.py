"""A folder in which nothing can be saved is refused when the store is created, not at the first save."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
from silo_files import BaseMissing, FileStore, FileStoreError, FolderUnusable, LocalFileBackend


def refusal(base: Path) -> str:
    with pytest.raises(FolderUnusable) as caught:
        FileStore(base)
    error = caught.value
    assert isinstance(error, FileStoreError)
    assert isinstance(error, OSError)
    assert error.errno
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(base) in str(error)
    assert "choose another folder" in str(error)
    return str(error)


def test_a_file_in_place_of_the_folder_or_above_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"kept")
    assert "cannot be created" in refusal(file)
    assert "cannot be created" in refusal(file / "uploads" / "deep")
    assert file.read_bytes() == b"kept"


def test_missing_folders_are_created(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "above" / "uploads")
    assert (tmp_path / "above" / "uploads").is_dir()
    store.save("sid", "a", b"1")
    store.close()


def test_a_backend_can_check_its_folder_again(tmp_path: Path) -> None:
    backend = LocalFileBackend(str(tmp_path / "base"))
    backend.check()
    (tmp_path / "base").rmdir()
    with pytest.raises(BaseMissing, match=str(tmp_path / "base")) as caught:
        backend.check()
    assert caught.value.errno == errno.ENOENT
    assert not (tmp_path / "base").exists(), "a check creates nothing"
