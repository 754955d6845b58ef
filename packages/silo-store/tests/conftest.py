"""A store of each kind, on a clock that tests move."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

# An unpacked sdist is without the workspace's settings.
sys.path.insert(0, str(Path(__file__).with_name("support")))
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from server_fixtures import lasting_redis, own_redis, redis_server, redis_url, valkey_server, valkey_url
from silo_store import SessionStore
from silo_store.testing import TTL, Clock
from sqlite_files import open_sqlite

__all__ = ["lasting_redis", "open_sqlite", "own_redis", "redis_server", "redis_url", "valkey_server", "valkey_url"]


def pytest_configure(config: pytest.Config) -> None:
    """Set what the workspace's settings set, which an unpacked sdist does not have."""
    config.addinivalue_line("markers", "slow: starts processes or servers, or takes more than a second")
    config.addinivalue_line("filterwarnings", "error")
    if not config.getini("timeout"):
        config.option.timeout = config.option.timeout or 120


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory://", "memory://?copy=1", "sqlite", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    if value == "sqlite":
        value = f"sqlite:///{quote(str(request.getfixturevalue('tmp_path') / 'sessions.db'))}"
    if value == "redis":
        value = request.getfixturevalue("redis_url")
    return value


@pytest.fixture
def make_store(url: str, clock: Clock) -> Iterator[Callable[..., SessionStore]]:
    made: list[SessionStore] = []

    def make(**options: object) -> SessionStore:
        settings: dict[str, object] = {"backend": url, "clock": clock, "ttl": TTL, "expired_retain": 100, **options}
        store = SessionStore(**settings)  # type: ignore[arg-type]
        store.register_namespace("counter", lambda: {"value": 0})
        store.register_namespace("notes", lambda: {"lines": []})
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store: Callable[..., SessionStore]) -> SessionStore:
    return make_store()


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Let the threads of this process take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
