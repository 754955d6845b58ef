"""``flask silo files``: the files of sessions at the command line."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask_silo import SessionFileStore, Silo, StoreUnavailable
from silo_store.testing import SID, TTL, Clock

OTHER = "b" * 32
SEPARATE = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'sessions.db'}"


@pytest.fixture
def uploads(silo: Silo, tmp_path: Path) -> SessionFileStore:
    return silo.add_file_store("uploads", tmp_path / "uploads", max_file_bytes=1000, max_store_bytes=5000)


def run(app: Flask, *words: str) -> Result:
    return app.test_cli_runner(**SEPARATE).invoke(args=["silo", "files", *words])


def ask(app: Flask, *words: str, status: int = 0) -> Any:
    """Return the document of a command."""
    result = run(app, *words, "--json")
    assert result.exit_code == status, result.stderr
    return json.loads(result.stdout)


def test_files_are_shown_by_session(app: Flask, uploads: SessionFileStore, silo: Silo, clock: Clock) -> None:
    uploads.save(OTHER, "a.csv", b"1")
    clock.advance(10)
    uploads.save(SID, "a.csv", b"x" * 600)
    uploads.save(SID, "b.csv", b"x" * 900)
    silo.store.begin("c" * 32)
    found = ask(app)["stores"]
    assert found == {
        "uploads": {
            "folder": uploads.base_dir,
            "sessions": [
                {"sid": "aaaaaa…", "uid": silo.store.uid(SID), "age": 0, "files": 2, "bytes": 1500},
                {"sid": "bbbbbb…", "uid": silo.store.uid(OTHER), "age": 10, "files": 1, "bytes": 1},
            ],
            "more": 0,
            "others": {"files": 0, "bytes": 0},
            "total": {"files": 3, "bytes": 1501},
            "limits": {"max_file_bytes": 1000, "max_store_bytes": 5000},
        }
    }
    assert run(app).stdout.splitlines() == [
        f"uploads in {uploads.base_dir}",
        "session   age  files  bytes",
        "aaaaaa…   0 s      2  1,500",
        "bbbbbb…  10 s      1      1",
        "total              3  1,501",
        "limits: max_file_bytes 1,000, max_store_bytes 5,000",
    ]
    one = ask(app, "--limit", "1", "--full-ids")["stores"]["uploads"]
    assert ([each["sid"] for each in one["sessions"]], one["more"]) == ([SID], 1)
    assert "and 1 more session (--limit)" in run(app, "--limit", "1").stdout
    assert silo.store.uid(SID) is not None


def test_a_session_is_shown_with_its_files(app: Flask, uploads: SessionFileStore, silo: Silo, tmp_path: Path) -> None:
    silo.add_file_store("empty", tmp_path / "empty")
    uploads.save(SID, "a.csv", b"12")
    shown = app.test_cli_runner(**SEPARATE).invoke(args=["silo", "show", SID, "--json"]).stdout
    assert json.loads(shown)["files"] == {"uploads": {"files": 1, "bytes": 2}}
    text = app.test_cli_runner(**SEPARATE).invoke(args=["silo", "show", SID]).stdout
    assert re.search(r"^files of uploads +1 file, 2 bytes$", text, re.M)


def test_one_store_can_be_named(app: Flask, uploads: SessionFileStore, silo: Silo, tmp_path: Path) -> None:
    silo.add_file_store("sweep", tmp_path / "sweep")
    assert list(ask(app)["stores"]) == ["uploads", "sweep"]
    assert list(ask(app, "uploads")["stores"]) == ["uploads"]
    assert list(ask(app, "show", "sweep")["stores"]) == ["sweep"]
    for words in (["other"], ["show", "other"], ["sweep", "other"]):
        refused = ask(app, *words, status=1)
        assert refused["error"] == "unknown_file_store"
        assert refused["message"].startswith("there is no file store 'other', the application has uploads, sweep: ")


def test_an_application_without_files(app: Flask) -> None:
    assert run(app).stdout == "no file stores\n"
    assert run(app, "sweep").stdout == "no file stores\n"
    said = ask(app, "uploads", status=1)["message"]
    assert said.startswith("there is no file store 'uploads', the application has none: ")


def test_a_sweep_removes_the_files_of_sessions_that_have_ended(
    app: Flask, uploads: SessionFileStore, silo: Silo, clock: Clock
) -> None:
    uploads.save(SID, "a.csv", b"12")
    clock.advance(TTL - 1)
    uploads.save(OTHER, "b.csv", b"1")
    clock.advance(2)
    uploads.close()
    assert ask(app)["stores"]["uploads"]["others"] == {"files": 1, "bytes": 2}
    assert "of no session" in run(app).stdout
    assert ask(app, "sweep") == {"removed": {"uploads": 1}}
    assert ask(app)["stores"]["uploads"]["total"] == {"files": 1, "bytes": 1}
    assert run(app, "sweep", "uploads").stdout == "uploads: the files of 0 sessions removed\n"
    assert uploads.list_files(OTHER) == ["b.csv"]


def test_nothing_is_removed_while_sessions_cannot_be_reached(
    app: Flask, uploads: SessionFileStore, silo: Silo, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads.save(SID, "a.csv", b"12")
    uploads.close()

    def away(uids: object) -> set[str]:
        raise StoreUnavailable("the sessions are away")

    with monkeypatch.context() as patch:
        patch.setattr(silo.store, "living", away)
        assert ask(app, "sweep", status=2)["error"] == "store_unavailable"
    assert uploads.list_files(SID) == ["a.csv"]


@pytest.mark.parametrize("url", ["memory://"])
def test_sessions_of_another_process_are_not_swept(app: Flask, uploads: SessionFileStore) -> None:
    uploads.save(SID, "a.csv", b"12")
    assert ask(app, "sweep", status=1)["error"] == "sessions_not_shared"
    assert uploads.list_files(SID) == ["a.csv"]


def test_a_hint_says_what_may_be_left_out(app: Flask) -> None:
    shown = run(app, "--help").stdout
    assert "show" in shown
    assert "sweep" in shown
    assert run(app, "show", "--help").stdout.count("STORE") == 2
