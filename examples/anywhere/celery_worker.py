"""The module for ``celery --app celery_worker worker``: it imports the application and names its Celery app."""

from __future__ import annotations

from silo_tasks.runners.celery import CeleryRunner
from words import runner

if not isinstance(runner, CeleryRunner):
    raise SystemExit("words.py does not use runners.celery(): change its line `runner = ...`")
app = runner.app
