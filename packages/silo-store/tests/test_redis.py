"""The Redis backend keeps the contract."""

from __future__ import annotations

import pytest
from silo_store import Backend
from silo_store.backends.redis import RedisBackend
from silo_store.testing import BackendContract


class TestRedis(BackendContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def make_backend(self) -> Backend:
        return RedisBackend(self.url)

    def make_peer(self, backend: Backend) -> Backend:
        return RedisBackend(self.url)

    def lose_claims(self, backend: Backend) -> bool:
        assert isinstance(backend, RedisBackend)
        keys = backend._server.command("KEYS", backend._keys.claim + "*")
        return bool(backend._server.command("DEL", *keys))
