"""Sessions in an SQLite file: the contract, where it is, what claims and sweeps do to it."""

from __future__ import annotations

import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from silo_store import (
    Backend,
    Blob,
    Change,
    Life,
    LockLost,
    LockTimeout,
    Moment,
    Record,
    StoreUnavailable,
    open_backend,
)
from silo_store.backends.sqlite import SQLiteBackend, expiry, rows
from silo_store.backends.sqlite import backend as sqlite
from silo_store.backends.sqlite import file as database_file
from silo_store.testing import TTL, BackendContract, at, in_threads
from sqlite_files import LIFE, MINE, Open, begin, other_connection, write


class TestSQLite(BackendContract):
    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> Iterator[None]:
        self.path = tmp_path / "sessions.db"
        self.opened: list[SQLiteBackend] = []
        yield
        for backend in self.opened:
            backend.close()

    def make_backend(self) -> Backend:
        self.opened.append(SQLiteBackend(self.path))
        return self.opened[-1]

    def make_peer(self, backend: Backend) -> Backend:
        return self.make_backend()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def backend(open_sqlite: Open) -> SQLiteBackend:
    return open_sqlite()


# Where it is


def test_a_url_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path.resolve()
    backend = open_backend("sqlite:///a%20%3F%23.db?timeout=2.5&durable=1")
    assert isinstance(backend, SQLiteBackend)
    assert backend.path == str(folder / "a ?#.db")
    assert backend._database.timeout == 2.5
    absolute = open_backend(f"sqlite:///{folder}/b.db")
    assert isinstance(absolute, SQLiteBackend)
    assert absolute.path == str(folder / "b.db")
    assert list(tmp_path.iterdir()) == [], "nothing is opened yet"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:file.db",
        "sqlite://host/file.db",
        "sqlite:///:memory:",
        "sqlite:///a.db#b",
        "sqlite:///a%00.db",
        "sqlite:///a.db?timeout=x",
        "sqlite:///a.db?timeout=-1",
        "sqlite:///a.db?timeout=nan",
        "sqlite:///a.db?timeout=inf",
        "sqlite:///a.db?durable=yes",
        "sqlite:///a.db?mode=ro",
        "sqlite:///a.db?timeout=1&timeout=2",
    ],
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        open_backend(url)


@pytest.mark.parametrize("name", ["", ":memory:", "a\0b"])
def test_a_file_is_needed(name: str) -> None:
    with pytest.raises(ValueError, match="need a file"):
        SQLiteBackend(name)


def test_a_backend_made_of_the_first_process_opens_nothing(path: Path, open_sqlite: Open) -> None:
    open_sqlite()
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_only_the_owner_can_read_the_files(path: Path, backend: SQLiteBackend) -> None:
    begin(backend)
    claim, _ = backend.claim("sid-a", at(0.0), 1.0)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == dict.fromkeys([path.name + end for end in ("", "-wal", "-shm", "-locks")], 0o600)
    backend.release(claim)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_the_lock_file_is_for_whom_the_database_is_for(path: Path, backend: SQLiteBackend) -> None:
    path.touch()
    path.chmod(0o660)
    begin(backend)
    assert stat.S_IMODE(Path(f"{path}-locks").stat().st_mode) == 0o660


@pytest.mark.skipif(sys.platform == "win32", reason="Windows needs a right for symbolic links")
def test_two_names_of_one_file_share_its_locks(path: Path, backend: SQLiteBackend) -> None:
    link = path.parent / "link.db"
    link.symlink_to(path)
    other = SQLiteBackend(link)
    claim, _ = backend.claim("sid-a", at(0.0), 1.0)
    with pytest.raises(LockTimeout):
        other.claim("sid-a", at(0.0), 0.01)
    backend.release(claim)
    other.close()


@pytest.mark.parametrize("durable", [False, True])
def test_how_it_is_set_up(durable: bool, open_sqlite: Open) -> None:
    with open_sqlite(durable=durable)._database.reading() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2 if durable else 1,)


def test_a_closed_backend_opens_again(path: Path, backend: SQLiteBackend) -> None:
    begin(backend)
    backend.hold("uid-1")
    backend.close()
    assert not Path(f"{path}-wal").exists(), "nothing is open"
    assert not backend.held("uid-1")
    backend.unhold("uid-1")
    write(backend)
    backend.hold("uid-1")
    assert backend.held("uid-1")


def test_an_unused_connection_keeps_no_snapshot(path: Path, backend: SQLiteBackend) -> None:
    begin(backend)
    write(backend)
    backend.load("sid-a", at(2.0))
    list(backend.due(at(1e6)))
    backend.expired_at("sid-x")
    with other_connection(path) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


def test_threads_that_come_and_go_share_connections(backend: SQLiteBackend) -> None:
    for _ in range(20):
        in_threads(2, lambda _: backend.load("sid-a", at(0.0)))
    assert len(backend._database._all) <= 2


def test_idle_connections_are_limited(backend: SQLiteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_file, "_MOST_IDLE", 1)
    first, second = backend._database.take(), backend._database.take()
    backend._database.give(first)
    backend._database.give(second)
    assert len(backend._database._all) == len(backend._database._idle) == 1


# What a sweep costs


def test_a_write_moves_nothing_in_the_index_and_the_sweep_does(path: Path, backend: SQLiteBackend) -> None:
    for number in range(600):
        begin(backend, Life(f"sid-{number}", f"uid-{number}"))
        backend.touch(Life(f"sid-{number}", f"uid-{number}"), at(50.0))
    with other_connection(path) as connection:
        noted = "SELECT DISTINCT noted FROM sessions"
        assert connection.execute(noted).fetchall() == [(0.0,)]
        assert list(backend.due(at(1.0 + TTL))) == []
        assert connection.execute(noted).fetchall() == [(50.0,)]
    assert sum(map(len, backend.due(at(50.001 + TTL)))) == 600


def test_what_is_due_is_found_by_the_index(backend: SQLiteBackend) -> None:
    with backend._database.reading() as connection:
        for statement, values in (
            (expiry._DUE, (1.0, 0.0, 1, 256)),
            (rows.LOAD, ("sid",)),
            (rows._READ, ("sid",)),
            (rows._FETCH, ("name", "sid", "uid")),
            (rows._ATTACHED, ("sid",)),
            (expiry._UNCLAIMED, (256,)),
            (sqlite._PRUNE, (1.0, 256)),
            (sqlite._EXPIRED_AT, ("sid", "sid")),
            ("SELECT sid FROM sessions WHERE uid = ?", ("uid",)),
        ):
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert not [step for step in plan if ("SCAN" in step and "CONSTANT" not in step) or "TEMP" in step], plan


def test_many_tombstones_are_forgotten(backend: SQLiteBackend) -> None:
    lives = [Life(f"sid-{number}", f"uid-{number}") for number in range(600)]
    for life in lives:
        begin(backend, life)
    assert backend.expire(lives, at(100.0)) == []
    backend.prune(100.001)
    assert backend.expired_count() == 0


def test_a_record_is_due_by_its_own_moment(backend: SQLiteBackend) -> None:
    begin(backend, now=1e9)
    assert list(backend.due(Moment(1e9 + 0.0005, 0.0005))) == []
    assert list(backend.due(Moment(1e9 + 0.001, 0.0))) == [[LIFE]]


# Claims and holds


def test_a_claim_that_was_given_back_writes_nothing(backend: SQLiteBackend) -> None:
    begin(backend)
    claim, _ = backend.claim("sid-a", at(0.0), 1.0)
    backend.release(claim)
    with pytest.raises(LockLost):
        backend.write(LIFE, {"ns": Change(1, b"two")}, at(1.0), claim)
    with pytest.raises(LockLost):
        backend.create(Record(*MINE, 1.0, 1.0), at(1.0), claim)


def test_a_claim_writes_more_than_once_and_over_what_others_wrote(backend: SQLiteBackend) -> None:
    begin(backend)
    claim, _ = backend.claim("sid-a", at(0.0), 1.0)
    backend.write(LIFE, {"ns": Change(1, b"two")}, at(1.0), claim)
    backend.write(LIFE, {"new": Change(0, b"first")}, at(1.0))  # by a writer without a claim
    backend.write(LIFE, {"ns": Change(2, b"three")}, at(1.0), claim, last=True)
    record = backend.peek("sid-a")
    assert record is not None
    assert dict(record) == {"ns": Blob(3, b"three"), "new": Blob(1, b"first")}


def test_a_claim_is_not_kept_where_the_session_cannot_be_loaded(path: Path, open_sqlite: Open) -> None:
    backend, other = open_sqlite(), open_sqlite()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreUnavailable):
        backend.claim("sid-a", at(0.0), 1.0)
    path.unlink()
    claim, _ = other.claim("sid-a", at(0.0), 0.01)
    other.release(claim)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not delete an open file")
def test_a_lock_file_that_is_deleted_is_made_again_with_the_locks(path: Path, open_sqlite: Open) -> None:
    backend, other = open_sqlite(), open_sqlite()
    begin(backend)
    claim, _ = backend.claim("sid-a", at(0.0), 1.0)
    backend.hold("uid-1")
    Path(f"{path}-locks").unlink()
    with pytest.raises(LockTimeout):
        other.claim("sid-a", at(0.0), 0.01)
    assert other.held("uid-1")
    backend.write(LIFE, {"ns": Change(1, b"two")}, at(1.0), claim, last=True)
    other.release(other.claim("sid-a", at(0.0), 1.0)[0])


def test_the_hold_of_a_dead_owner_counts_for_nothing(path: Path, backend: SQLiteBackend) -> None:
    begin(backend)
    with other_connection(path) as connection:
        connection.execute("INSERT INTO holds VALUES ('uid-1', ?)", ((1 << 62) + 5,))
        assert not backend.held("uid-1")
        assert backend.expire([LIFE], at(1e6)) == []
        assert connection.execute("SELECT count(*) FROM holds").fetchone() == (0,)


def test_a_hold_that_could_not_be_taken_back_is_by_the_next_sweep(path: Path, open_sqlite: Open) -> None:
    backend, other = open_sqlite(timeout=0.01), open_sqlite()
    begin(backend)
    backend.hold("uid-1")
    with other_connection(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        backend.unhold("uid-1")
        assert not backend.held("uid-1")
    backend.expire([], at(0.0))
    assert not other.held("uid-1")


def test_a_hold_that_could_not_be_taken_is_none(path: Path, open_sqlite: Open) -> None:
    backend = open_sqlite(timeout=0.01)
    begin(backend)
    with other_connection(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            backend.hold("uid-1")
    assert not backend.held("uid-1")
    assert backend.expire([LIFE], at(1e6)) == []


@pytest.mark.slow
def test_holds_wait_for_a_locked_file_together_not_one_after_the_other(path: Path, open_sqlite: Open) -> None:
    backend = open_sqlite(timeout=0.5)
    begin(backend)
    took: list[float] = []

    def hold(number: int) -> None:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            backend.hold(f"uid-{number}")
        took.append(time.monotonic() - began)

    with other_connection(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        in_threads(12, hold)
    assert len(took) == 12
    assert max(took) < 4.0
    assert not backend._holds._counts


def test_a_life_that_is_removed_takes_its_holds_with_it(path: Path, open_sqlite: Open) -> None:
    """The sweep looks at the holds of what is due only: one of a dead process would stay for ever."""
    dead, backend = open_sqlite(), open_sqlite()
    begin(backend)
    dead.hold("uid-1")
    dead._locks.give_back(dead._holds._token)
    assert backend.remove(LIFE)
    with other_connection(path) as connection:
        assert connection.execute("SELECT count(*) FROM holds").fetchone() == (0,)


def test_a_sweep_empties_a_log_that_has_grown_large(
    path: Path, backend: SQLiteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_file, "LARGE_LOG", 10_000)
    monkeypatch.setattr(database_file, "_TRIM_WAIT", 1)
    begin(backend)
    log = Path(f"{path}-wal")
    with other_connection(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sessions").fetchone()
        for version in range(1, 11):
            write(backend, version)
        grown = log.stat().st_size
        assert grown > 10_000
        backend.prune(0.0)
        assert log.stat().st_size == grown, "a reader still needs what is in it"
        reader.execute("COMMIT")
    backend.prune(0.0)
    assert log.stat().st_size == 0
    write(backend, 11)
    assert backend.load("sid-a", at(0.0)) is not None
