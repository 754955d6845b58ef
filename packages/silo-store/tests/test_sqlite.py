"""Sessions in an SQLite file: the contract, the file, and its faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from silo_store import Backend
from silo_store.backends.sqlite import SQLiteBackend
from silo_store.testing import BackendContract


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
