"""The Redis backend keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from silo_store import Backend, Life, Moment
from silo_store.backends.redis import RedisBackend
from silo_store.record import Record
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


@pytest.mark.parametrize("prefix", ["silo", "sï[l]*o?\\^-"])
def test_a_life_is_found_while_sweeps_move_it(redis_url: str, prefix: str) -> None:
    backend, sweeping = (RedisBackend(redis_url, prefix=prefix) for _ in range(2))
    for n in range(300):
        backend.create(Record(f"sid{n}", f"uid{n}", 0.0, 0.0), Moment(0.0, 100.0))
        backend.touch(Life(f"sid{n}", f"uid{n}"), Moment(90.0, 100.0))
    living = backend._living

    def overtaken() -> Iterator[Life]:
        """The lists of ids, which a sweep changes between two looks at them."""
        for life in living():
            yield life
            assert not list(sweeping.due(Moment(120.0, 100.0)))

    backend._living = overtaken  # type: ignore[method-assign]
    assert backend.alive("uid299")
    assert not backend.alive("uid300")
    assert backend.remove(Life("sid7", "uid7"))
    assert not backend.alive("uid7")
    backend.close()
    sweeping.close()
