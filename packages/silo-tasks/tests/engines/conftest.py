"""Real servers and workers, where the engines are installed and the workspace's servers for tests are at hand."""

from __future__ import annotations

from importlib.util import find_spec

if all(find_spec(name) for name in ("celery", "redis", "rq", "server_fixtures")):
    from engines.fixtures import engine, engines_server, own_engine, own_server
    from server_fixtures import own_redis, redis_server, redis_url, valkey_server, valkey_url

    __all__ = [
        "engine",
        "engines_server",
        "own_engine",
        "own_redis",
        "own_server",
        "redis_server",
        "redis_url",
        "valkey_server",
        "valkey_url",
    ]
else:
    collect_ignore_glob = ["test_*.py"]
