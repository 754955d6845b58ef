"""Real servers and workers."""

from __future__ import annotations

from engines.fixtures import engine, own_engine, own_server
from server_fixtures import own_redis, redis_server, redis_url, valkey_server, valkey_url

__all__ = [
    "engine",
    "own_engine",
    "own_redis",
    "own_server",
    "redis_server",
    "redis_url",
    "valkey_server",
    "valkey_url",
]
