"""What ``celery --app celery_worker worker`` imports: the application, and the Celery that its runner uses."""

from __future__ import annotations

from silo_tasks.runners.celery import CeleryRunner
from words import runner

if not isinstance(runner, CeleryRunner):
    raise SystemExit("words.py does not use runners.celery()")
app = runner.app
