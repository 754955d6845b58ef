"""``flask silo doctor`` says which queue of tasks has no worker, while real workers come and go."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines.harness import RQ, CeleryEngine
from flask import Flask
from flask_silo import Silo
from servers import RedisServer, redis_binary, until

pytestmark = [
    pytest.mark.skipif(redis_binary() is None or not hasattr(os, "fork"), reason="needs a redis-server, and POSIX"),
    pytest.mark.slow,
]


@pytest.fixture
def rq(own_redis: RedisServer) -> Iterator[RQ]:
    engine = RQ(own_redis.url)
    yield engine
    engine.close()


@pytest.fixture
def celery(own_redis: RedisServer) -> Iterator[CeleryEngine]:
    engine = CeleryEngine(own_redis.url)
    yield engine
    engine.close()


def work() -> None:
    """A task that no test starts."""


def tasks(app: Flask) -> list[tuple[str, str]]:
    result = app.test_cli_runner().invoke(args=["silo", "doctor", "--json"])
    assert result.exit_code == 0, "a warning is no error"
    found = json.loads(result.output)["findings"]
    return [(each["level"], each["message"]) for each in found if each["topic"] == "tasks"]


def test_a_queue_without_a_worker_is_a_warning(
    rq: RQ, celery: CeleryEngine, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SILO_STORE_URL", raising=False)
    app = Flask("queues")
    silo = Silo(app, store_url=sqlite_url, auto_cleanup=False)
    for name, runner in (("report", rq.runner), ("chart", celery.runner), ("table", celery.runner)):
        silo.task(name=name, runner=runner)(work)
    no_rq = (
        "warning",
        "the queue 'default' has no live worker, so runs of report wait: start one beside the server "
        "(rq worker default)",
    )
    no_celery = (
        "warning",
        "the queue 'celery' has no live worker, so runs of chart, table wait: start one beside the server "
        "(celery -A ... worker -Q celery)",
    )
    well = (
        "ok",
        "workers of a task queue run chart, report, table: they need the same SILO_STORE_URL and file folders",
    )
    assert tasks(app) == [no_celery, no_rq, well]
    with rq.start_worker(tmp_path / "rq") as worker:
        has_rq = ("ok", "the queue 'default' of report has 1 worker")
        until(lambda: tasks(app) == [no_celery, has_rq, well], "the worker of RQ is not seen")
        with celery.start_worker(tmp_path / "celery"):
            has_celery = ("ok", "the queue 'celery' of chart, table has 1 worker")
            until(lambda: tasks(app) == [has_celery, has_rq, well], "the worker of Celery is not seen")
        worker.stop()
    until(lambda: no_rq in tasks(app), "the worker that was stopped counts")
