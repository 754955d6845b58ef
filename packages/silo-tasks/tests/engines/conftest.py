"""Real servers and workers, where the engines are installed."""

from __future__ import annotations

from importlib.util import find_spec

from server_fixtures import own_redis, redis_server, redis_url, valkey_server, valkey_url

__all__ = ["own_redis", "redis_server", "redis_url", "valkey_server", "valkey_url"]

if all(find_spec(name) for name in ("celery", "redis", "rq")):
    from engines.fixtures import engine, engines_server, own_engine, own_server

    __all__ += ["engine", "engines_server", "own_engine", "own_server"]
else:
    collect_ignore_glob = ["test_*.py"]
