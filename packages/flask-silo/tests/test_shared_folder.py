"""Applications that keep their sessions in different places do not remove each other's files from one folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask_silo import FileStore, Silo
from flask_silo.cli.doctor import examine
from flask_silo_helpers import as_, counter_app
from server_fixtures import redis_server, redis_url
from silo_store import Finding
from silo_store.testing import SID

__all__ = ["redis_server", "redis_url"]


# A Silo refers to its applications weakly, and a sweep asks those that are there.
_apps: list[Flask] = []


@pytest.fixture(autouse=True)
def keep_apps() -> Iterator[None]:
    """Keep the applications of a test until it ends."""
    yield
    _apps.clear()


def serve(url: str, folder: Path) -> Silo:
    """Return the Silo of an application, as a process makes it that has just started."""
    silo = Silo(store_url=url, auto_cleanup=False, accept_client_ids=True)
    silo.register("counter", lambda: {"value": 0})
    silo.add_file_store("uploads", folder)
    _apps.append(counter_app(silo))
    return silo


def save(silo: Silo, name: str) -> None:
    """Save a file of a session, and end the process."""
    store = silo.file_store("uploads")
    store.save(SID, name, b"1")
    store.close()


def sweep(silo: Silo) -> int:
    """Sweep as the first request of a process does. Return how many files are left in the folder."""
    silo.files.sweep_once()
    store = silo.file_store("uploads")
    store.purge()
    return store.backend.total().files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


def save_for_an_ended_life(silo: Silo, folder: Path) -> None:
    """Leave a file as a process of this application does that is killed before its session ends."""
    store = FileStore(folder, origin=silo.files.origin())
    store.save("a life that has ended", "b.csv", b"1")
    store.close()


def check_apart(one: str, other: str, folder: Path) -> None:
    save(serve(one, folder), "a.csv")
    save(serve(other, folder), "b.csv")
    for url in (one, other):
        silo = serve(url, folder)
        assert sweep(silo) == 2
        assert len(silo.file_store("uploads").list_files(SID)) == 1


def test_two_sqlite_files(folder: Path, tmp_path: Path) -> None:
    check_apart(f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/other.db", folder)


def test_two_prefixes_in_redis(folder: Path, redis_url: str) -> None:
    check_apart(f"{redis_url}?prefix=one", f"{redis_url}?prefix=other", folder)


def test_redis_and_sqlite(folder: Path, tmp_path: Path, redis_url: str) -> None:
    check_apart(redis_url, f"sqlite:///{tmp_path}/one.db", folder)


@pytest.mark.parametrize("memory", ["memory://", "memory://?copy=1"])
def test_sessions_in_memory_end_with_their_process_and_take_no_others_along(
    memory: str, folder: Path, tmp_path: Path
) -> None:
    sqlite = f"sqlite:///{tmp_path}/one.db"
    save(serve(sqlite, folder), "a.csv")
    alive = serve(memory, folder)
    alive.file_store("uploads").save(SID, "b.csv", b"1")
    assert sweep(serve(sqlite, folder)) == 2, "its process lives"
    alive.file_store("uploads").close()
    assert sweep(serve(memory, folder)) == 1
    assert serve(sqlite, folder).file_store("uploads").list_files(SID) == ["a.csv"]


def test_one_place_by_several_urls(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    urls = ["sqlite:///one.db", f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/files/../one.db?timeout=2"]
    silo = serve(urls[0], folder)
    save(silo, "a.csv")
    assert {serve(url, folder).files.origin() for url in urls} == {silo.files.origin()}
    for url in urls:
        assert sweep(serve(url, folder)) == 1, "its session lives"
    silo.store.destroy(SID)
    save_for_an_ended_life(silo, folder)
    silo.file_store("uploads").close()
    assert sweep(serve(urls[1], folder)) == 0


def test_a_session_that_lives_keeps_its_files_when_the_url_changes(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    silo = serve(f"sqlite:///{old}", folder)
    save(silo, "a.csv")
    save_for_an_ended_life(silo, folder)
    silo.file_store("uploads").close()
    silo.store.close()
    for name in ("", "-wal", "-shm"):
        if Path(f"{old}{name}").exists():
            os.replace(f"{old}{name}", f"{new}{name}")  # noqa: PTH105 - with a suffix
    moved = serve(f"sqlite:///{new}", folder)
    assert sweep(moved) == 2
    store = moved.file_store("uploads")
    assert store.list_files(SID) == ["a.csv"]
    store.save(SID, "c.csv", b"1")
    client = moved.binding.app.test_client()
    assert client.get("/api/idle", headers=as_(SID)).status_code == 200
    assert sorted(store.list_files(SID)) == ["a.csv", "c.csv"]
    assert [record.getMessage() for record in caplog.records if "are kept in" in record.getMessage()] == [
        f"the files of 2 sessions in {folder} stay: these sessions are kept in {silo.files.origin()}, and here in "
        f"{moved.files.origin()}. Give each application a folder of its own. If the sessions have moved, the files go "
        "when they end"
    ]
    moved.store.destroy(SID)
    assert store.list_files(SID) == []


def test_several_applications_of_one_silo_keep_each_others_files(folder: Path, tmp_path: Path) -> None:
    def serve_two() -> tuple[Silo, list[Flask]]:
        silo = Silo(auto_cleanup=False, accept_client_ids=True)
        silo.register("counter", lambda: {"value": 0})
        silo.add_file_store("uploads", folder)
        apps = [Flask(name) for name in ("one", "other")]
        for app in apps:
            app.config["SILO_STORE_URL"] = f"sqlite:///{tmp_path}/{app.name}.db"
            silo.init_app(app)
        return silo, apps

    silo, apps = serve_two()
    for app in apps:
        with app.app_context():
            silo.file_store("uploads").save(SID, f"{app.name}.csv", b"1")
    silo.file_store("uploads").close()
    silo, apps = serve_two()
    assert sweep(silo) == 2
    for app in apps:
        with app.app_context():
            assert silo.file_store("uploads").list_files(SID) == [f"{app.name}.csv"]
            silo.store.destroy(SID)
    assert silo.files.origin() == f"sqlite:{tmp_path}/one.db and sqlite:{tmp_path}/other.db"


def test_the_doctor_names_the_other_place(folder: Path, tmp_path: Path) -> None:
    one, other = f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/other.db"
    save(serve(one, folder), "a.csv")
    silo = serve(other, folder)
    uploads: FileStore = silo.file_store("uploads")

    def findings(url: str) -> list[Finding]:
        binding = serve(url, folder).binding
        return [each for each in examine(binding.app, binding, silo.files.stores, {}) if "kept in" in each.message]

    (finding,) = findings(other)
    assert (finding.level, finding.topic) == ("warning", "files: uploads")
    assert finding.message.startswith(
        f"{uploads.base_dir} has files of 1 session that is kept in sqlite:{tmp_path}/one"
    )
    silo = serve(one, folder)
    assert findings(one) == []


def test_the_doctor_escapes_control_characters_of_the_other_place(folder: Path) -> None:
    made = FileStore(folder, origin="there\x1b[2J\n")
    made.save("sid", "a.csv", b"1")
    made.close()
    silo = serve("memory:", folder)
    binding = silo.binding
    (finding,) = [each for each in examine(binding.app, binding, silo.files.stores, {}) if "kept in" in each.message]
    assert r"kept in there\x1b[2J\n: no sweep" in finding.message
