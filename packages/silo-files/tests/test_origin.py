"""A sweep spares the files of sessions that are kept in another place than those it can ask about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from silo_files import FileStore, LocalFileBackend
from silo_files.local import journal
from silo_files.local.file_lock import lock_fd


def never(keys: list[str]) -> list[str]:
    return []


def closed(base: Path, origin: str | None, *sids: str) -> None:
    """Save a file for each session in a process that has ended."""
    store = FileStore(base, origin=origin)
    for sid in sids:
        store.save(sid, "a", b"1")
    store.close()


def left(store: FileStore, *sids: str) -> list[str]:
    return [sid for sid in sids if store.list_files(sid)]


def test_a_sweep_removes_files_of_its_own_origin_and_of_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    closed(tmp_path, "here", "mine")
    closed(tmp_path, "there", "other", "more")
    closed(tmp_path, None, "unknown")
    store = FileStore(tmp_path, origin="here")
    asked: list[str] = []

    def living(keys: list[str]) -> list[str]:
        asked.extend(keys)
        return []

    assert store.sweep(living) == 2
    assert sorted(asked) == ["mine", "unknown"]
    assert left(store, "mine", "other", "more", "unknown") == ["other", "more"]
    for _ in range(2):
        assert store.sweep(never) == 0
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(
        f"the files of 2 sessions in {tmp_path} stay: these sessions are kept in there, and here in here."
    )


def test_control_characters_of_an_origin_are_escaped_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    closed(tmp_path, "there\x1b[2J\n\x7f\u202e", "other")
    store = FileStore(tmp_path, origin="here\r")
    assert store.sweep(never) == 0
    (said,) = [record.getMessage() for record in caplog.records]
    assert r"are kept in there\x1b[2J\n\x7f\u202e, and here in here\r. Give" in said


def test_a_sweep_without_an_origin_removes_files_of_none_only(tmp_path: Path) -> None:
    closed(tmp_path, "there", "other")
    closed(tmp_path, None, "unknown")
    store = FileStore(tmp_path)
    assert store.sweep(never) == 1
    assert left(store, "other", "unknown") == ["other"]


def test_a_session_that_moves_keeps_its_files(tmp_path: Path) -> None:
    place = "old"
    store = FileStore(tmp_path, origin=lambda: place)
    store.save("sid", "a", b"1")
    store.save("ended", "a", b"1")
    store.close()
    place = "new"
    assert store.sweep(lambda keys: ["sid"]) == 0, "its session may live in the old place"
    store.save("sid", "b", b"1")
    assert store.list_files("sid") == ["a", "b"]
    store.close()
    assert store.sweep(never) == 0, "one of its files may belong to a session in the old place"
    store.cleanup("sid")
    assert left(store, "sid", "ended") == ["ended"]
    place = "old"
    assert store.sweep(never) == 1


def test_unfinished_files_of_dead_processes_go_whatever_their_origin(tmp_path: Path) -> None:
    dead = FileStore(tmp_path, origin="there")
    dead.save("sid", "a", b"1")
    staged = dead.backend.stage("sid", "b")
    staged.write(b"half")
    dead.close()
    store = FileStore(tmp_path, origin="here")
    assert store.sweep(never) == 0
    assert not list(tmp_path.rglob("*.part"))
    assert left(store, "sid") == ["sid"]
    staged.abort()


def test_a_journal_that_is_compacted_keeps_its_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_COMPACT_FROM", 200)
    store = FileStore(tmp_path, origin="there")
    for number in range(50):
        store.save("sid", str(number), b"1")
        store.delete("sid", str(number))
    store.save("sid", "a", b"1")
    (names,) = tmp_path.rglob("names")
    assert names.stat().st_size < 1000
    store.close()
    assert FileStore(tmp_path, origin="here").sweep(never) == 0
    assert FileStore(tmp_path, origin="there").sweep(never) == 1


def test_areas_of_other_origins_are_counted(tmp_path: Path) -> None:
    closed(tmp_path, "here", "a")
    closed(tmp_path, "there", "b", "c")
    closed(tmp_path, None, "d")
    assert LocalFileBackend(str(tmp_path), origin="here").foreign_areas() == {"there": 2}
    assert LocalFileBackend(str(tmp_path)).foreign_areas() == {"there": 2, "here": 1}


@pytest.mark.parametrize("origin", [5, b"here", ["here"]])
def test_an_origin_of_another_type_is_refused(origin: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^origin takes a str, or a function that returns one, not "):
        FileStore(tmp_path / "unused", origin=origin)
    assert not (tmp_path / "unused").exists()


def test_the_origin_is_asked_without_the_lock_of_sweeps(tmp_path: Path) -> None:
    """It is a function of the application, which may be slow or wait for another thread that sweeps."""
    free: list[bool] = []

    def origin() -> str:
        path = tmp_path / "owners" / "areas.lock"
        with path.open("ab") as file:
            free.append(lock_fd(file.fileno(), wait=False))
        return "here"

    FileStore(tmp_path, origin=origin).save("sid", "a", b"1")

    assert free == [True]
