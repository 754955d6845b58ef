"""The runners of tasks, which the server and its workers import."""

from __future__ import annotations

import os
from collections.abc import Mapping

from celery import Celery
from redis import Redis
from rq import Queue
from silo_tasks import InlineRunner, ProcessRunner, Runner, ThreadRunner
from silo_tasks.runners.celery import CeleryRunner
from silo_tasks.runners.rq import RQRunner

QUEUES = os.environ["QUEUES_URL"]
UNWATCHED = "unwatched"
"""A queue that has no worker."""

celery = Celery("sessions", broker=QUEUES, set_as_current=False)
celery.conf.broker_connection_retry_on_startup = True
redis = Redis.from_url(QUEUES)

RUNNERS: Mapping[str, Runner] = {
    "thread": ThreadRunner(),
    "process": ProcessRunner(workers=2),
    "rq": RQRunner(Queue(connection=redis)),
    "celery": CeleryRunner(celery),
    "inline": InlineRunner(),
    "waits-rq": RQRunner(Queue(UNWATCHED, connection=redis)),
    "waits-celery": CeleryRunner(celery, queue=UNWATCHED),
}
