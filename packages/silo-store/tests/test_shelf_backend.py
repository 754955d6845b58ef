"""The example backend passes the contract suite, and BACKENDS.md describes it correctly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from shelf_backend import ShelfBackend
from silo_store import Backend, SessionStore
from silo_store.testing import BackendContract, Clock

PACKAGE = Path(__file__).parents[1]


class TestShelf(BackendContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_backend(self) -> Backend:
        return ShelfBackend(str(self.folder / "sessions"))


def test_it_survives_a_restart(tmp_path: Path) -> None:
    command = [sys.executable, str(PACKAGE / "examples/shelf_backend.py"), str(tmp_path / "sessions")]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout for _ in range(3)]
    assert runs == ["run number 1\n", "run number 2\n", "run number 3\n"]


def test_a_store_works_on_it(tmp_path: Path) -> None:
    clock = Clock()
    store = SessionStore(backend=ShelfBackend(str(tmp_path / "sessions")), ttl=60, clock=clock)
    store.register_namespace("cart", lambda: {"items": []})
    store.update("a" * 32, "cart", lambda cart: cart["items"].append("book"))
    assert store.get("a" * 32)["cart"] == {"items": ["book"]}
    clock.advance(61)
    assert store.cleanup() == ["a" * 32]
    assert store.is_expired("a" * 32)


def test_the_page_names_every_method() -> None:
    page = (PACKAGE / "BACKENDS.md").read_text(encoding="utf-8")
    methods = [name for name, value in vars(Backend).items() if callable(value) and not name.startswith("_")]
    assert [name for name in methods if f"`{name}" not in page] == []
