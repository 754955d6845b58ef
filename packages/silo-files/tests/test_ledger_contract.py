"""The contract suite of ledgers, run on those on disk and in memory, and what ``FileStore`` takes as a ledger."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from silo_files import FileBackend, FileStore, LocalFileBackend, SessionQuotaExceeded
from silo_files.ledger import Ledger, Limits
from silo_files.local import LocalLedger
from silo_files.memory_ledger import MemoryLedger
from silo_files.testing import LedgerContract


class TestLocalLedger(LedgerContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.base_dir = str(tmp_path / "store")

    def make_ledger(self, limits: Limits) -> tuple[FileBackend, Ledger]:
        backend = LocalFileBackend(self.base_dir)
        return backend, LocalLedger(backend.counts, limits)

    def test_a_reservation_that_a_caller_has_lost_gives_back_its_room(self) -> None:
        self.start(session_bytes=1_000_000, store_bytes=1_000_000, files=2)
        lost = self.ledger.reserve("key", size=1_000_000)
        with pytest.raises(SessionQuotaExceeded):
            self.ledger.reserve("key", size=500_000)

        with self.ledger.change("key"):  # a thread that holds the lock may collect garbage
            del lost
            gc.collect()
        with self.ledger.change("other"):
            pass

        self.save("a", 1_000_000)


class TestMemoryLedger(TestLocalLedger):
    def make_ledger(self, limits: Limits) -> tuple[FileBackend, Ledger]:
        backend = LocalFileBackend(self.base_dir)
        return backend, MemoryLedger(backend, limits)


def test_a_store_takes_a_ledger_with_its_limits(tmp_path: Path) -> None:
    backend = LocalFileBackend(str(tmp_path))
    store = FileStore(tmp_path, backend=backend, ledger=MemoryLedger(backend, Limits(session_bytes=10)))
    store.save("sid", "a", b"x" * 10)
    with pytest.raises(SessionQuotaExceeded):
        store.save("sid", "b", b"x")


def test_a_store_with_a_ledger_refuses_limits(tmp_path: Path) -> None:
    backend = LocalFileBackend(str(tmp_path))
    with pytest.raises(ValueError, match="give the limits to the ledger"):
        FileStore(tmp_path, backend=backend, ledger=MemoryLedger(backend, Limits()), max_files=1)


def test_a_store_refuses_an_incomplete_ledger_and_lists_what_is_missing(tmp_path: Path) -> None:
    ledger: Any = object()
    with pytest.raises(TypeError, match=r"ledger must be a Ledger, .* has no reserve, change, removal, forget"):
        FileStore(tmp_path, ledger=ledger)
