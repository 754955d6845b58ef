"""Several processes on one SQLite file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from silo_store import (
    Change,
    Life,
    StoreUnavailable,
    TurnLost,
    TurnTimeout,
)
from silo_store.backends import sqlitefile
from silo_store.backends.sqlite import SQLiteBackend
from silo_store.testing import at, in_threads
from sqlite_files import LIFE, MINE, Open, begin, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def backend(open_sqlite: Open) -> SQLiteBackend:
    return open_sqlite()


# Forks

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
warns = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_child(work: Callable[[], object]) -> int:
    """Call ``work`` in a forked child; its exit status, 1 where it raised."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@forks
@warns
def test_a_child_uses_the_store_and_leaves_the_parents_claims_and_holds(open_sqlite: Open) -> None:
    backend = open_sqlite()
    begin(backend)
    claim, _ = backend.claim("sid-a", at(0.0), 1.0)
    backend.hold("uid-1")
    owner = backend._owner

    def work() -> None:
        assert not backend._database._all
        backend.release(claim)
        with pytest.raises(TurnLost):
            backend.write(LIFE, {"ns": Change(1, b"late")}, at(1.0), claim)
        with pytest.raises(TurnTimeout):
            backend.claim("sid-a", at(0.0), 0.01)
        assert backend.held("uid-1")
        assert backend.expire([LIFE], at(1e6)) == [LIFE]
        begin(backend, MINE)
        backend.hold("uid-mine")
        assert backend._owner not in (0, owner)

    assert in_child(work) == 0
    assert not backend.held("uid-mine"), "the child is dead"
    backend.write(LIFE, {"ns": Change(1, b"two")}, at(1.0), claim, last=True)
    assert sorted(backend.sids()) == ["sid-a", "sid-mine"]
    assert backend._owner == owner


@forks
@warns
def test_a_fork_waits_for_what_other_threads_are_doing(open_sqlite: Open) -> None:
    backend = open_sqlite()
    begin(backend)
    stop: list[bool] = []

    def write_on() -> None:
        version = 1
        while not stop:
            write(backend, version)
            version += 1

    def fork() -> None:
        try:
            for number in range(10):
                assert in_child(lambda number=number: begin(backend, Life(f"sid-{number}", f"uid-{number}"))) == 0
        finally:
            stop.append(True)

    in_threads(3, lambda number: fork() if number == 0 else (write_on() if number == 1 else read_on(backend, stop)))
    assert backend.count() == 11


def read_on(backend: SQLiteBackend, stop: list[bool]) -> None:
    while not stop:
        assert backend.load("sid-a", at(0.0)) is not None


def test_a_child_of_a_fork_that_python_does_not_know_of_refuses(backend: SQLiteBackend) -> None:
    begin(backend)
    backend._database.after_fork()
    try:
        with pytest.raises(StoreUnavailable, match="forked"):
            backend.load("sid-a", at(0.0))
    finally:
        while sqlitefile._inherited:
            sqlitefile._inherited.pop().close()


def test_a_fork_waits_no_longer_than_for_a_while(open_sqlite: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_sqlite(timeout=0.01)
    monkeypatch.setattr(sqlitefile, "_FORK_WAIT", 0.01)
    database = backend._database
    connection = database.take()
    database._gate.acquire()
    database.before_fork()
    database._gate.release()
    database.after_fork_in_parent()
    database.give(connection)
    begin(backend)
