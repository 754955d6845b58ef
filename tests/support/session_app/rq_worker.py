"""The module for ``rq worker -c``, which imports it before it forks a process for each job."""

from . import on_redis, on_sqlite
from .runners import QUEUES as REDIS_URL

__all__ = ["REDIS_URL", "on_redis", "on_sqlite"]
