"""The memory backends keep the contract."""

from __future__ import annotations

import pytest
from silo_store import Backend, MemoryBackend, open_backend
from silo_store.testing import BackendContract


class TestLive(BackendContract):
    def make_backend(self) -> Backend:
        return open_backend("memory://")


class TestCopies(BackendContract):
    def make_backend(self) -> Backend:
        return open_backend("memory://?copy=1")


@pytest.mark.parametrize(
    ("url", "live"), [("memory://", True), ("memory://?copy=0", True), ("memory://?copy=1", False)]
)
def test_a_url_names_a_memory_backend(url: str, live: bool) -> None:
    backend = open_backend(url)
    assert isinstance(backend, MemoryBackend)
    assert backend.live is live


@pytest.mark.parametrize(
    "url",
    ["", "memory", "memory://host", "memory://?copy=2", "memory://?cpy=1", "memory:///path", "other://x:secret@y"],
)
def test_another_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="memory://") as caught:
        open_backend(url)
    assert "secret" not in str(caught.value)
