"""Where the job can run. Each function imports what it needs, so the other libraries need not be installed."""

from __future__ import annotations

import os

from silo_tasks import Runner

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")


def thread() -> Runner:
    """Run in threads of the server: for work that mostly waits."""
    from silo_tasks import ThreadRunner

    return ThreadRunner(workers=8)


def process() -> Runner:
    """Run in processes on the server: for work that computes, and for work that may have to be killed."""
    from silo_tasks import ProcessRunner

    return ProcessRunner(workers=2, kill_after=10)


def rq() -> Runner:
    """Run on RQ workers, on any machine that can reach the Redis server."""
    from redis import Redis
    from rq import Queue
    from silo_tasks.runners.rq import RQRunner

    return RQRunner(Queue(connection=Redis.from_url(REDIS_URL)))


def celery() -> Runner:
    """Run on Celery workers."""
    from celery import Celery
    from silo_tasks.runners.celery import CeleryRunner

    return CeleryRunner(Celery("anywhere", broker=REDIS_URL))
