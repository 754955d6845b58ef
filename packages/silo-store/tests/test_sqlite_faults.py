"""What can happen to an SQLite file of sessions."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from silo_store import (
    Blob,
    Change,
    Finding,
    SessionStore,
    StoreUnavailable,
)
from silo_store.backends.sqlite import SQLiteBackend, mounts
from silo_store.backends.sqlite import backend as sqlite
from silo_store.backends.sqlite import file as database_file
from silo_store.backends.sqlite import health as sqlite_health
from silo_store.testing import at
from sqlite_files import LIFE, MINE, Open, begin, delete, other_connection, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def backend(open_sqlite: Open) -> SQLiteBackend:
    return open_sqlite()


# Faults


def test_a_database_that_is_locked_for_too_long(path: Path, open_sqlite: Open) -> None:
    backend = open_sqlite(timeout=0.01)
    begin(backend)
    with other_connection(path) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        for use in (
            lambda: write(backend),
            lambda: begin(backend, MINE),
            lambda: backend.touch(LIFE, at(1.0)),
            lambda: backend.remove(LIFE),
            lambda: backend.expire([LIFE], at(1e6)),
        ):
            with pytest.raises(StoreUnavailable, match="locked") as caught:
                use()
            assert "sid-a" not in str(caught.value)
    write(backend)
    assert backend.sids() == ["sid-a"]


def test_a_reader_does_not_need_to_write(path: Path, open_sqlite: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_RENEWAL_WAIT", 1)
    backend = open_sqlite()
    begin(backend)
    with other_connection(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        record = backend.load("sid-a", at(5.0))
        assert record is not None
        assert (dict(record), record.active) == ({"ns": Blob(1, b"one")}, 0.0)
    with backend._database.reading() as connection:
        connection.execute("PRAGMA query_only = 1")
    assert backend.load("sid-a", at(5.0)) is not None
    assert backend.touch(LIFE, at(5.0)), "the connection that could not write is not used again"


def test_no_room_undoes_the_whole_transaction(open_sqlite: Open) -> None:
    backend = open_sqlite()
    begin(backend)
    with backend._database.reading() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match="full"):
        backend.write(LIFE, {"ns": Change(1, b"x" * 100_000)}, at(1.0))
    record = backend.peek("sid-a")
    assert record is not None
    assert dict(record) == {"ns": Blob(1, b"one")}
    write(backend)


def test_a_file_that_is_no_database(path: Path, backend: SQLiteBackend) -> None:
    path.write_bytes(b"no database" * 1000)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="not a database"):
            begin(backend)
    assert [finding.level for finding in backend.check(0.0) if finding.topic == "file"] == ["error"]
    path.unlink()
    begin(backend)
    assert backend.count() == 1


def test_a_database_of_something_else(path: Path, backend: SQLiteBackend) -> None:
    with other_connection(path) as connection:
        connection.execute("CREATE TABLE customers(name)")
    with pytest.raises(StoreUnavailable, match="something else"):
        begin(backend)


def test_a_database_of_another_release(path: Path, open_sqlite: Open) -> None:
    begin(open_sqlite())
    with other_connection(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match="schema 99"):
        begin(open_sqlite())


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "missing" / "sessions.db")
    for use in (lambda: begin(backend), lambda: backend.claim("sid-a", at(0.0), 1.0), backend.count):
        with pytest.raises(StoreUnavailable, match="No such file or directory"):
            use()
    assert backend.check(0.0)[0].level == "error"
    (tmp_path / "missing").mkdir()
    begin(backend)
    backend.close()


def test_a_folder_in_place_of_the_file(path: Path, backend: SQLiteBackend) -> None:
    path.mkdir()
    with pytest.raises(StoreUnavailable):
        begin(backend)


def test_a_dropped_table_is_an_error_and_not_the_end(path: Path, backend: SQLiteBackend) -> None:
    begin(backend)
    with other_connection(path) as connection:
        connection.execute("ALTER TABLE sessions RENAME TO gone")
        with pytest.raises(StoreUnavailable, match="no such table"):
            backend.load("sid-a", at(0.0))
        connection.execute("ALTER TABLE gone RENAME TO sessions")
    assert backend.load("sid-a", at(0.0)) is not None


def test_an_error_that_is_not_sqlites_is_raised_as_it_is(backend: SQLiteBackend) -> None:
    with pytest.raises(AttributeError), backend._database.writing() as connection:
        getattr(connection.execute("DELETE FROM sessions"), "no such thing")
    begin(backend)
    assert len(backend._database._all) == 1


# The loss of all records


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not delete an open file")
@pytest.mark.parametrize("whole", [True, False])
def test_a_file_that_is_deleted_is_made_anew_and_the_loss_told(
    path: Path, open_sqlite: Open, caplog: pytest.LogCaptureFixture, whole: bool
) -> None:
    backend, other, late = open_sqlite(), open_sqlite(), open_sqlite()
    begin(backend, now=10.0)
    begin(backend, MINE, now=10.0)
    for each in (other, late):
        assert each.count() == 2
    delete(path) if whole else path.unlink()
    assert backend.load("sid-a", at(20.0)) is None
    assert backend.expired_at("sid-a") == 20.0
    begin(backend, now=25.0)
    assert backend.expired_at("sid-a") is None, "it lives"
    assert backend.expired_at("sid-mine") == 20.0
    write(other)
    assert other.expired_at("sid-mine") == 20.0
    fresh = open_sqlite()
    assert fresh.expired_at("sid-mine") == 20.0
    assert fresh.sids() == ["sid-a"]
    backend.prune(20.0)
    assert backend.expired_at("sid-mine") == 20.0
    backend.prune(20.001)
    assert backend.expired_at("sid-mine") is None
    late.touch(LIFE, at(500.0))
    assert late.expired_at("sid-mine") == 20.0, "it was lost when the others noticed"
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    assert "sid-" not in caplog.text
    with backend._database.reading() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not delete an open file")
def test_a_loss_noticed_without_a_clock_happened_at_the_last_time_that_was_known(path: Path, open_sqlite: Open) -> None:
    backend = open_sqlite()
    begin(backend, now=10.0)
    delete(path)
    assert backend.expired_at("sid-a") == 10.0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not delete an open file")
def test_a_loss_of_which_no_time_is_known_is_not_told(path: Path, open_sqlite: Open) -> None:
    backend = open_sqlite()
    assert backend.count() == 0
    delete(path)
    assert backend.expired_at("sid-a") is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not delete an open file")
def test_a_copy_that_is_put_in_place_is_used_and_its_holds_made(path: Path, open_sqlite: Open) -> None:
    backend, other = open_sqlite(), open_sqlite()
    begin(backend, now=10.0)
    copy = path.parent / "copy.db"
    with other_connection(path) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    backend.hold("uid-1")
    delete(path)
    copy.rename(path)
    write(backend)
    assert backend.expired_at("sid-x") is None, "nothing was lost"
    assert other.held("uid-1")


def test_a_store_answers_expired_after_the_loss(path: Path, open_sqlite: Open) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows does not delete an open file")
    store = SessionStore(backend=open_sqlite())
    store.register_namespace("counter", dict)
    sid = store.generate_sid()
    store.get(sid)
    assert not store.is_expired(sid)
    delete(path)
    assert store.is_expired(sid)
    store.get(sid)
    assert not store.is_expired(sid)


# Health


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.topic: finding.level for finding in findings}


def test_a_healthy_file(path: Path, backend: SQLiteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(backend)
    monkeypatch.setattr(sqlite_health, "LITTLE", 0)
    found = levels(backend.check(0.0))
    assert found == dict.fromkeys(["file", "journal", "sqlite", "integrity", "records", "file system", "space"], "ok")
    monkeypatch.setattr(sqlite_health, "SMALL", 0)
    assert [f.message[:11] for f in backend.check(0.0) if f.topic == "integrity"] == ["not checked"]


def test_what_is_not_healthy_is_found(path: Path, open_sqlite: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_health, "LITTLE", 1 << 62)
    monkeypatch.setattr(sqlite_health, "mounts", lambda: f"1 0 0:1 / {path.parent} rw - nfs4 host:/ rw")
    backend = open_sqlite(timeout=0.01)
    begin(backend)
    if sys.platform != "win32":
        path.chmod(0o644)
        assert levels(backend.check(0.0))["rights"] == "warning"
    found = levels(backend.check(0.0))
    assert (found["space"], found["file system"], found["file"]) == ("warning", "warning", "ok")
    with other_connection(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert levels(backend.check(0.0))["file"] == "error"
    backend.close()
    with other_connection(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    assert levels(backend.check(0.0))["journal"] == "error"


def test_a_network_file_system_is_told_once(
    path: Path, open_sqlite: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database_file, "mounts", lambda: f"1 0 0:1 / {path.parent} rw - nfs4 host:/ rw")
    backend = open_sqlite()
    begin(backend)
    backend.close()
    write(backend)
    assert [record.getMessage().count("nfs4") for record in caplog.records] == [1]


MOUNTINFO = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /srv rw shared:2 master:1 - nfs4 host:/export rw
31 30 0:27 / /srv/with\040space rw - tmpfs tmpfs rw
32 22 0:28 / /over rw - tmpfs tmpfs rw
33 22 0:29 / /over rw - fuse.sshfs me@host:/ rw
broken line
34 22 0:30 / /half - """


@pytest.mark.parametrize(
    ("place", "kind", "network"),
    [
        ("/data/x.db", "ext4", False),
        ("/srv/x.db", "nfs4", True),
        ("/srvx/x.db", "ext4", False),
        ("/srv/with space/x.db", "tmpfs", False),
        ("/over/x.db", "fuse.sshfs", True),
    ],
)
def test_the_file_system_of_a_path(place: str, kind: str, network: bool) -> None:
    assert mounts.file_system(place, MOUNTINFO) == kind
    assert mounts.is_network(kind) is network


def test_a_file_system_that_is_unknown_is_no_network() -> None:
    assert mounts.file_system("/x", "") is None
    assert not mounts.is_network(None)
