"""What only holds for RQ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from engines import jobs
from engines.harness import RQ
from rq import Queue
from rq.job import Job
from servers import RedisServer, until
from silo_tasks import BackgroundTask, TaskFailed
from silo_tasks.runners.rq import RQRunner
from silo_tasks.stores.redis import RedisTaskStore

pytestmark = pytest.mark.slow

WAIT = 30.0


@pytest.fixture
def client(own_server: RedisServer) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(own_server.url)
    yield client
    client.close()


@pytest.mark.parametrize("serializer", ["DefaultSerializer", "JSONSerializer"])
def test_the_serializer_of_the_queue(own_server: RedisServer, tmp_path: Path, serializer: str) -> None:
    engine = RQ(own_server.url, f"rq.serializers.{serializer}")
    task = engine.task()
    if serializer == "JSONSerializer":
        with pytest.raises(TypeError, match="'value'"):
            task.start(jobs.give, {1, 2})
    with engine.start_worker(tmp_path / "worker"):
        task.start(jobs.give, ("a", 1), x=None)
        assert task.result(WAIT) == [["a", 1], [], {"x": None}]
    engine.close()


def test_what_rq_is_told(client: redis.Redis) -> None:
    """It shows no arguments, ends and repeats no job, and drops a job that is done or that no worker took."""
    runner = RQRunner(Queue(connection=client), max_wait=99.5)
    task = BackgroundTask("give", runner=runner, owner="margaret")
    task.start(jobs.give, "secret")
    (job_id,) = Queue(connection=client).job_ids
    job = Job.fetch(job_id, connection=client)
    assert job.description == "give (engines.jobs:give)"
    assert (job.timeout, job.ttl, job.result_ttl, job.retries_left) == (-1, 100, 1, None)
    assert 90 < client.ttl(job.key) <= 100


def test_nothing_is_left_but_the_record(own_server: RedisServer, client: redis.Redis, tmp_path: Path) -> None:
    engine = RQ(own_server.url)
    task = engine.task(owner="margaret")
    with engine.start_worker(tmp_path / "worker") as worker:
        task.start(jobs.add, 1, 2)
        assert task.result(WAIT) == 3
        until(lambda: not client.keys("rq:job:*"), "RQ keeps a job")
        assert not client.keys("rq:results:*")
        assert client.keys("silo-tasks:*") == [b"silo-tasks:8:margaret:task"]
        assert "engines.jobs:add" in worker.log()
        assert "margaret" not in worker.log()
    engine.close()


def test_the_queue_does_not_end_a_run(own_server: RedisServer, client: redis.Redis, tmp_path: Path) -> None:
    """Its timeout is one second, and the task has none."""
    engine = RQ(own_server.url)
    runner = RQRunner(Queue(connection=client, default_timeout=1))
    task, gate = BackgroundTask("hold", runner=runner), tmp_path / "gate"
    with engine.start_worker(tmp_path / "worker"):
        task.start(jobs.hold, str(gate))
        until(lambda: (task.state.elapsed or 0) > 1.5, "it does not run")
        gate.touch()
        assert task.result(WAIT) == "went on"
    engine.close()


def test_the_worker_finds_the_records(own_server: RedisServer, client: redis.Redis, tmp_path: Path) -> None:
    """Where the runner has put them, and keeps them as long."""
    engine = RQ(own_server.url)
    task = BackgroundTask("add", runner=RQRunner(Queue(connection=client), prefix="mine", retain=50))
    with engine.start_worker(tmp_path / "worker"):
        task.start(jobs.add, 1)
        assert task.result(WAIT) == 1
    found = RedisTaskStore(client, prefix="mine").read("", "add")
    assert found is not None
    assert 40 < client.ttl("mine:0::add") <= 50
    engine.close()


def test_a_worker_imports_the_runner_once(own_server: RedisServer, tmp_path: Path) -> None:
    """Not in each process that it forks for a job."""
    engine = RQ(own_server.url)
    task = engine.task()
    with engine.start_worker(tmp_path / "worker", env={"PYTHONPROFILEIMPORTTIME": "1"}) as worker:
        for number in range(3):
            task.start(jobs.add, number)
            assert task.result(WAIT) == number
        assert worker.log().count("silo_tasks.runners.rq") == 1
    engine.close()


def test_arguments_that_the_worker_cannot_read(
    own_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a class that it does not have."""
    engine = RQ(own_server.url)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "not_there.py").write_text("class Money:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    task = engine.task()
    with engine.start_worker(tmp_path / "worker"):
        task.start(jobs.give, __import__("not_there").Money())
        with pytest.raises(TaskFailed, match=r"cannot read the arguments.*not_there"):
            task.result(WAIT)
        task.start(jobs.add, 1)
        assert task.result(WAIT) == 1
    engine.close()


def test_a_queue_without_workers(client: redis.Redis) -> None:
    """RQ's own way of running jobs at once, in tests."""
    task = BackgroundTask("add", runner=RQRunner(Queue(connection=client, is_async=False)))
    task.start(jobs.add, 1, 2)
    assert task.state.status == "succeeded"
    assert task.result(0) == 3
