"""The Celery application that the benchmarks and their workers share."""

from __future__ import annotations

import os

import engine_jobs
from celery import Celery
from silo_tasks.runners.celery import CeleryRunner

app = Celery("bench", broker=os.environ["ENGINE_URL"], backend=os.environ["ENGINE_URL"])
app.conf.broker_connection_retry_on_startup = True
bare = app.task(name="bare")(engine_jobs.bare)
runner = CeleryRunner(app)
