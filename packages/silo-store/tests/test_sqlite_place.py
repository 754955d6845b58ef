"""The URL of a database that could keep no session is refused when the store is made, not at the first session."""

from __future__ import annotations

import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from silo_store import SessionStore, StoreUnavailable
from silo_store.testing import SID


def refusal(file: Path) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        SessionStore(backend=f"sqlite:///{file}")
    assert f"the session database {file} cannot be used: " in str(caught.value)
    return str(caught.value)


def works(file: Path) -> None:
    with closing(SessionStore(backend=f"sqlite:///{file}")) as store:
        store.get(SID)
        assert store.exists(SID)


def test_a_folder_is_made_where_the_one_above_it_is_there(tmp_path: Path) -> None:
    works(tmp_path / "made" / "sessions.db")
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700


def test_a_folder_without_one_above_it_is_refused(tmp_path: Path) -> None:
    assert f"there is no folder {tmp_path / 'none' / 'deep'}, and its parent is not a folder" in refusal(
        tmp_path / "none" / "deep" / "sessions.db"
    )
    assert not (tmp_path / "none").exists()


def test_a_relative_path_is_told_as_it_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreUnavailable, match=str(tmp_path / "var" / "lib")):
        SessionStore(backend="sqlite:///var/lib/app/sessions.db")


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'} is not a folder" in refusal(tmp_path / "file" / "sessions.db")
    assert "there is no folder" in refusal(tmp_path / "file" / "deep" / "sessions.db")


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    assert f"it is a folder: name a file in it (sqlite:///{tmp_path}/sessions/sessions.db)" in refusal(
        tmp_path / "sessions"
    )
    works(tmp_path / "sessions" / "sessions.db")


BACKUP = """
import sqlite3, sys
from contextlib import closing
with closing(sqlite3.connect(sys.argv[1])) as source, closing(sqlite3.connect(sys.argv[2])) as target:
    source.backup(target)
"""


def test_a_backup_that_another_process_makes_meanwhile_is_whole(tmp_path: Path) -> None:
    with closing(SessionStore(backend=f"sqlite:///{tmp_path / 'sessions.db'}")) as store:
        store.register_namespace("words", list[str])
        for number in range(200):
            store.update(f"{number:032}", "words", lambda _: ["x" * 5000])
        files = [str(tmp_path / name) for name in ("sessions.db", "backup.db")]
        with subprocess.Popen([sys.executable, "-c", BACKUP, *files]) as process:
            writes = 0
            while process.poll() is None:
                store.update(SID, "words", lambda words: [*words[-9:], "y" * 5000])
                writes += 1
        assert process.returncode == 0
        assert writes
    with closing(SessionStore(backend=f"sqlite:///{tmp_path / 'backup.db'}")) as copy:
        copy.register_namespace("words", list[str])
        assert not [each for each in copy.backend.check(0.0) if each.level == "error"]
        assert copy.active_count in (200, 201)
        assert copy.get(f"{7:032}")["words"] == ["x" * 5000]
