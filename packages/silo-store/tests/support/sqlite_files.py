"""Backends on an SQLite file, and what tests do to it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from silo_store import (
    Backend,
    Blob,
    Change,
    Life,
    Record,
)
from silo_store.backends.sqlite import SQLiteBackend
from silo_store.backends.sqlite import file as database_file
from silo_store.backends.sqlite import locks as byte_locks
from silo_store.testing import at

LIFE = Life("sid-a", "uid-1")
MINE = Life("sid-mine", "uid-mine")

Open = Callable[..., SQLiteBackend]


@pytest.fixture
def open_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open backends on ``sessions.db``, which look at their files for every operation."""
    monkeypatch.setattr(database_file, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(byte_locks, "LOOK_EVERY", 0.0)
    opened: list[SQLiteBackend] = []

    def open_it(timeout: float = 5.0, **options: bool) -> SQLiteBackend:
        opened.append(SQLiteBackend(tmp_path / "sessions.db", timeout=timeout, **options))
        return opened[-1]

    yield open_it
    for backend in opened:
        backend.close()


def begin(backend: Backend, life: Life = LIFE, now: float = 0.0) -> None:
    record = Record(*life, now, now)
    record["ns"] = Blob(1, b"one")
    backend.create(record, at(now))


def write(backend: Backend, version: int = 1, life: Life = LIFE) -> None:
    backend.write(life, {"ns": Change(version, b"two")}, at(1.0))


@contextlib.contextmanager
def other_connection(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        yield connection


def delete(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
