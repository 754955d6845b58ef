"""Fixtures: stores that processes share, and the servers for them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from server_fixtures import lasting_redis, own_redis, redis_server, redis_url

__all__ = ["lasting_redis", "own_redis", "redis_server", "redis_url"]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite file that does not exist yet."""
    return f"sqlite:///{quote(str(tmp_path / 'sessions.db'))}"


@pytest.fixture(params=["sqlite", "redis"])
def shared_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store that processes share; parametrized over the backends."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["memory://", "memory://?copy=1", "sqlite", "redis"])
def any_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store; parametrized over the backends."""
    value: str = request.param
    return value if ":" in value else str(request.getfixturevalue(f"{value}_url"))
