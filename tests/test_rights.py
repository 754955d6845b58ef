"""Folders and files that this process may not write to are refused when the application or the store is made.

Each test runs without root's rights: see ``tests.guard``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from flask import Flask
from flask_silo import Silo
from silo_files import FileStore, FolderUnusable, LocalFileBackend
from silo_store import SessionStore, StoreUnavailable

pytestmark = [
    pytest.mark.hostile,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights"),
]


def no_files(base: Path) -> str:
    with pytest.raises(FolderUnusable) as caught:
        FileStore(base)
    assert "choose another folder" in str(caught.value)
    return str(caught.value)


def no_sessions(file: Path) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        SessionStore(backend=f"sqlite:///{file}")
    assert f"the session database {file} cannot be used: " in str(caught.value)
    return str(caught.value)


def test_a_folder_for_files(tmp_path: Path) -> None:
    base = tmp_path / "base"
    FileStore(base).close()
    base.chmod(0o500)
    assert f"may not write to {base}." in no_files(base)
    above = tmp_path / "above"
    above.mkdir(mode=0o500)
    assert f"{above / 'uploads'}: Permission denied" in no_files(above / "uploads")


@pytest.mark.parametrize("name", ["areas", "owners", "trash"])
def test_a_folder_of_a_file_store_that_another_user_made(tmp_path: Path, name: str) -> None:
    base = tmp_path / "base"
    (base / name).mkdir(parents=True)
    FileStore(base).close()
    (base / name).chmod(0o500)
    assert f"may not write to {base / name}." in no_files(base)


def test_without_auto_create_files_can_be_read_where_none_can_be_written(tmp_path: Path) -> None:
    base = tmp_path / "base"
    store = FileStore(base)
    store.save("sid", "a", b"1")
    store.close()
    base.chmod(0o500)
    reader = FileStore(base, auto_create=False)
    with reader.open("sid", "a") as file:
        assert file.read() == b"1"
    with pytest.raises(FolderUnusable):
        LocalFileBackend(str(base), auto_create=False).check()


@pytest.mark.parametrize("of_store", [False, True])
def test_counts_of_files_that_another_user_made(tmp_path: Path, of_store: bool) -> None:
    store = FileStore(tmp_path, max_store_bytes=10)
    path = Path(store.save("sid", "a", b"1"))
    counts = tmp_path / "owners" / "counts" if of_store else path.with_name("counts")
    counts.chmod(0o400)
    with pytest.raises(FolderUnusable, match=f"may not write to {counts.parent}. Give that folder"):
        store.save("sid", "a", b"22")
    assert path.read_bytes() == b"1"


def test_a_folder_for_a_database(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    assert f"may not write to the folder {folder}: " in no_sessions(folder / "sessions.db")
    assert f"{folder / 'new'} cannot be created (Permission denied)" in no_sessions(folder / "new" / "sessions.db")


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-locks"])
def test_a_file_of_a_database_that_another_user_made(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"sessions.db{ending}"
    file.touch()
    file.chmod(0o400)
    assert f"may not write to {file}: " in no_sessions(tmp_path / "sessions.db")
    assert file.read_bytes() == b""


def test_an_application_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o500)
    with pytest.raises(StoreUnavailable, match="may not write to the folder"):
        Silo(Flask("sessions"), store_url=f"sqlite:///{tmp_path}/folder/sessions.db")
    with pytest.raises(FolderUnusable, match="may not write to"):
        Silo(Flask("files")).add_file_store("uploads", tmp_path / "folder")


def test_the_doctor_says_what_to_do(tmp_path: Path) -> None:
    app = Flask("doctor")
    Silo(app).add_file_store("uploads", tmp_path / "uploads")
    (tmp_path / "uploads").chmod(0o500)
    result = app.test_cli_runner().invoke(args=["silo", "doctor", "--json"])
    (finding,) = [each for each in json.loads(result.output)["findings"] if each["topic"] == "files: uploads"]
    assert (result.exit_code, finding["level"]) == (1, "error")
    assert finding["message"].startswith(f"this process may not write to {tmp_path / 'uploads'}. Give that folder")
