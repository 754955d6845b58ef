"""The module for ``celery -A``."""

from . import on_redis, on_sqlite
from .runners import celery as app

__all__ = ["app", "on_redis", "on_sqlite"]
