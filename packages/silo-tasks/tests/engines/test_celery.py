"""What only holds for Celery."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis
from celery import Celery
from engines import jobs
from engines.celery_app import make_app
from engines.harness import CeleryEngine
from servers import RedisServer
from silo_tasks import BackgroundTask, MemoryTaskStore, TaskError, TaskFailed
from silo_tasks.runners.celery import CeleryRunner
from silo_tasks.stores.redis import RedisTaskStore

pytestmark = pytest.mark.slow

WAIT = 30.0


def test_two_runners_on_one_application(own_server: RedisServer, tmp_path: Path) -> None:
    """They share the Celery task and the store, and may use queues of their own."""
    engine = CeleryEngine(own_server.url)
    other = CeleryRunner(engine.app, queue="other")
    assert other.store is engine.runner.store
    tasks = [engine.task("one"), engine.task("two", runner=other)]
    for number, task in enumerate(tasks):
        task.start(jobs.add, number)
    client = redis.Redis.from_url(own_server.url)
    assert (client.llen("celery"), client.llen("other")) == (1, 1)
    client.close()
    with engine.start_worker(tmp_path / "worker", queues="celery,other"):
        assert [task.result(WAIT) for task in tasks] == [0, 1]
    engine.close()


def test_another_store_needs_another_name() -> None:
    app = make_app("redis://127.0.0.1:1/0")
    first, store = CeleryRunner(app), MemoryTaskStore()
    with pytest.raises(ValueError, match="give this runner another name"):
        CeleryRunner(app, store=store)
    second = CeleryRunner(app, store=store, name="mine.execute")
    assert isinstance(first.store, RedisTaskStore)
    assert second.store is store
    assert CeleryRunner(app, store=store, name="mine.execute").store is store
    assert {"silo_tasks.execute", "mine.execute"} <= set(app.tasks)


@pytest.mark.parametrize("url", ["memory://", "amqp://127.0.0.1:1", "redis://127.0.0.1:1;redis://127.0.0.1:2"])
def test_a_broker_that_can_hold_no_records(url: str) -> None:
    with pytest.raises(ValueError, match="store="):
        CeleryRunner(make_app(url))
    assert CeleryRunner(make_app(url), store=MemoryTaskStore()).store


def test_options_in_the_url_are_kombus(own_server: RedisServer) -> None:
    runner = CeleryRunner(make_app(f"{own_server.url}?visibility_timeout=5"))
    assert runner.store.read("", "task") is None


def test_the_serializer_of_the_application(redis_url: str) -> None:
    app = make_app(redis_url)
    app.conf.task_serializer = "pickle"
    task = BackgroundTask("give", runner=CeleryRunner(app))
    with pytest.raises(TypeError, match="'value'"):
        task.start(jobs.give, lambda: None)
    assert CeleryRunner(app).dumps({1}) != CeleryRunner(app).dumps({2})


def test_arguments_that_the_worker_cannot_read(
    own_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a class that it does not have."""
    (tmp_path / "not_with_celery.py").write_text("class Money:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    engine = CeleryEngine(own_server.url)
    engine.app.conf.task_serializer = "pickle"
    task = engine.task()
    with engine.start_worker(tmp_path / "worker", env={"ENGINE_ACCEPTS": "pickle", "C_FORCE_ROOT": "1"}):
        task.start(jobs.give, __import__("not_with_celery").Money())
        with pytest.raises(TaskFailed, match=r"cannot read the arguments.*not_with_celery"):
            task.result(WAIT)
        task.start(jobs.give, {1}, x=(2,))
        with pytest.raises(TaskError, match="not kept"):
            task.result(WAIT)
        task.start(jobs.give, (1, 2), x=3)
        assert task.result(WAIT) == [[1, 2], [], {"x": 3}]
    engine.close()


def test_what_celery_keeps_and_shows(own_server: RedisServer, tmp_path: Path) -> None:
    """No result, also where the application has a backend for them, and no arguments."""
    engine = CeleryEngine(own_server.url)
    engine.app.conf.result_backend = own_server.url
    task = engine.task(owner="margaret")
    client = redis.Redis.from_url(own_server.url)
    task.start(jobs.give, "secret")
    headers = json.loads(client.lindex("celery", 0) or "")["headers"]
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("task (engines.jobs:give)", "{}")
    with engine.start_worker(tmp_path / "worker", env={"ENGINE_BACKEND": own_server.url}) as worker:
        assert task.result(WAIT) == ["secret", [], {}]
        assert not client.keys("celery-task-meta*")
        client.close()
        assert engine.sent[-1].token in worker.log()
        assert "margaret" not in worker.log()
        assert "secret" not in worker.log()
    engine.close()


def test_run_at_once(own_server: RedisServer) -> None:
    """As applications do in their tests."""
    app = make_app(own_server.url)
    app.conf.task_always_eager = True
    task = BackgroundTask("add", runner=CeleryRunner(app))
    task.start(jobs.add, 1, b=2)
    assert task.state.status == "succeeded"
    assert task.result(0) == 3
    app.close()


def test_an_application_can_go() -> None:
    """A runner does not keep it alive for ever."""
    import gc
    import weakref

    app: Celery | None = make_app("redis://127.0.0.1:1/0")
    CeleryRunner(app)
    gone = weakref.ref(app)
    app = None
    gc.collect()
    assert gone() is None
