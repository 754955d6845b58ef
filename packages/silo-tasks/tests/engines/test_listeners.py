"""The number of workers of a queue, with real workers."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from engines.celery_app import make_app
from engines.harness import CeleryEngine, Engine
from rq import Queue
from servers import RedisServer, until
from silo_tasks import MemoryTaskStore, RunnerUnavailable
from silo_tasks.runners.celery import CeleryRunner
from silo_tasks.runners.queue import QueueRunner
from silo_tasks.runners.rq import RQRunner

pytestmark = pytest.mark.slow

QUEUES = {"rq": "default", "celery": "celery"}


def number(runner: QueueRunner) -> int:
    found = runner.listeners()
    assert found is not None
    return found.number


def test_workers_are_counted_while_they_are_there(own_engine: Engine, tmp_path: Path) -> None:
    none = own_engine.runner.listeners()
    assert none is not None
    assert (none.queue, none.number) == (QUEUES[own_engine.name], 0)
    assert none.command.endswith(f" {none.queue}")
    with own_engine.start_worker(tmp_path / "one") as one, own_engine.start_worker(tmp_path / "two"):
        until(lambda: number(own_engine.runner) == 2, "a worker is not counted")
        one.stop()
        until(lambda: number(own_engine.runner) == 1, "a worker that was stopped is counted")


def test_workers_of_another_queue_are_not_counted(engine: Engine) -> None:
    until(lambda: number(engine.runner) == 1, "the worker is not counted")
    if isinstance(engine, CeleryEngine):
        other: QueueRunner = CeleryRunner(engine.app, queue="other")
    else:
        other = RQRunner(Queue("other", connection=redis.Redis.from_url(engine.url)))
    found = other.listeners()
    assert found is not None
    assert (found.queue, found.number) == ("other", 0)


def test_a_route_says_which_queue_is_asked_for(own_server: RedisServer, tmp_path: Path) -> None:
    engine = CeleryEngine(own_server.url)
    engine.app.conf.task_routes = {"silo_tasks.*": {"queue": "routed"}}
    with engine.start_worker(tmp_path / "worker", queues="routed"):
        until(lambda: number(engine.runner) == 1, "the worker is not counted")
    found = engine.runner.listeners()
    assert found is not None
    assert (found.queue, found.command) == ("routed", "celery -A ... worker -Q routed")
    engine.close()


def test_a_broker_without_workers_or_answers_gives_none(own_server: RedisServer) -> None:
    client = redis.Redis.from_url(own_server.url)
    assert RQRunner(Queue(connection=client, is_async=False)).listeners() is None
    client.close()
    for name, value in (("task_always_eager", True), ("worker_enable_remote_control", False)):
        app = make_app(own_server.url)
        app.conf[name] = value
        assert CeleryRunner(app).listeners() is None
        app.close()


@pytest.mark.parametrize("name", ["rq", "celery"])
def test_a_queue_that_cannot_be_reached(name: str) -> None:
    # Nothing listens on port 1.
    url = "redis://127.0.0.1:1/0"
    if name == "rq":
        runner: QueueRunner = RQRunner(Queue(connection=redis.Redis.from_url(url)))
    else:
        runner = CeleryRunner(make_app(url), store=MemoryTaskStore())
    with pytest.raises(RunnerUnavailable, match="cannot be reached"):
        runner.listeners()
