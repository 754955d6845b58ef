"""Runs that the engine ends, or refuses to begin: what their records say."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from engines import jobs
from engines.harness import RQ, CeleryEngine, Engine, Worker
from redis import Redis
from rq import Callback, Queue
from rq.command import send_stop_job_command
from rq.job import Job
from rq.registry import FailedJobRegistry
from servers import RedisServer, until
from silo_tasks import BackgroundTask, TaskFailed, TaskLost, TaskTimeout
from silo_tasks.runners.rq import on_failure
from silo_tasks.stores.redis import RedisTaskStore

pytestmark = pytest.mark.slow

WAIT = 30.0


def configured(**conf: Any) -> Mapping[str, str]:
    """The environment of a worker of Celery with these settings."""
    return {"ENGINE_CONF": json.dumps(conf)}


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def holding(engine: Engine, gate: Path) -> BackgroundTask:
    """A task that a worker has begun."""
    task = engine.task()
    task.start(jobs.hold, str(gate))
    until(lambda: task.state.message == "holding", "no worker has begun")
    return task


def one_loss(worker: Worker, caplog: pytest.LogCaptureFixture, task: BackgroundTask, words: str) -> None:
    """In the logs of all processes, one line says that the run is lost, and by what."""
    until(lambda: "is lost" in worker.log() + caplog.text, "no log says it")
    found = re.findall(r"(?<=Task ).*\(run .*\) is lost: .*", worker.log() + caplog.text)
    assert len(found) == 1, found
    assert re.search(rf"^'task' \(run [0-9a-f]{{8}}\) is lost: {words}", found[0]), found
    assert task.state.error_type == "TaskLost"


def goes_on(task: BackgroundTask) -> None:
    """The task can be started again, and the worker takes it."""
    task.start(jobs.add, 1)
    assert task.result(WAIT) == 1


# Celery


def test_a_time_limit(own_server: RedisServer, tmp_path: Path, gate: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = CeleryEngine(own_server.url)
    with engine.start_worker(tmp_path / "worker", env=configured(task_time_limit=1)) as worker:
        task = holding(engine, gate)
        with pytest.raises(
            TaskLost, match=r"^lost: its worker ended it (at the|by signal 15 \(SIGTERM\).*) time limit"
        ):
            task.result(WAIT)
        one_loss(worker, caplog, task, "its worker ended it (at the|by signal 15 .*) time limit")
        goes_on(task)
    engine.close()


def test_a_soft_time_limit(own_server: RedisServer, tmp_path: Path, gate: Path) -> None:
    engine = CeleryEngine(own_server.url)
    with engine.start_worker(tmp_path / "worker", env=configured(task_soft_time_limit=1)):
        task = holding(engine, gate)
        with pytest.raises(TaskTimeout, match="soft time limit of its worker"):
            task.result(WAIT)
        goes_on(task)
    engine.close()


def test_a_running_run_that_is_revoked(
    own_server: RedisServer, tmp_path: Path, gate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = CeleryEngine(own_server.url)
    with engine.start_worker(tmp_path / "worker") as worker:
        task = holding(engine, gate)
        (process,) = worker.children()
        engine.app.control.revoke(engine.sent[-1].token, terminate=True)
        with pytest.raises(TaskLost, match=r"^lost: .*its worker ended it by signal 15 \(SIGTERM\)"):
            task.result(WAIT)
        assert "Failed: lost: " in task.state.message
        until(lambda: process not in worker.children(), "the process that was told to end goes on")
        one_loss(worker, caplog, task, r".*its worker ended it by signal 15 \(SIGTERM\)")
        goes_on(task)
    engine.close()


def test_a_queued_run_that_is_revoked(own_server: RedisServer, tmp_path: Path, gate: Path) -> None:
    """It does not read as queued for as long as it may wait."""
    engine = CeleryEngine(own_server.url)
    with engine.start_worker(tmp_path / "worker"):
        first, second = holding(engine, gate), engine.task("second")
        second.start(jobs.add, 1)
        assert engine.app.control.broadcast(
            "revoke", arguments={"task_id": engine.sent[-1].token}, reply=True, timeout=WAIT, limit=1
        )
        gate.touch()
        assert first.result(WAIT) == "went on"
        with pytest.raises(TaskLost, match="revoked before a worker took it"):
            second.result(WAIT)
        goes_on(second)
    engine.close()


def test_a_process_of_celery_that_is_killed(
    own_server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker that is left says so, long before the lease is over."""
    engine = CeleryEngine(own_server.url)
    with engine.start_worker(tmp_path / "worker") as worker:
        engine.runner.store.lease = 60.0
        task = engine.task()
        task.start(jobs.die)
        with pytest.raises(TaskLost, match=r"signal 9 \(SIGKILL\)"):
            task.result(WAIT)
        one_loss(worker, caplog, task, "its process has ended: .*signal 9")
        goes_on(task)
    engine.close()


def test_what_celery_may_not_read(own_server: RedisServer, tmp_path: Path) -> None:
    """The worker says why it refused the message, and the task can be started again."""
    reader, sender = CeleryEngine(own_server.url), CeleryEngine(own_server.url)
    sender.app.conf.task_serializer = "pickle"
    with reader.start_worker(tmp_path / "worker"):
        task = sender.task()
        task.start(jobs.add, 1)
        with pytest.raises(TaskFailed, match=r"worker of Celery refuses the message: .*pickle") as caught:
            task.result(WAIT)
        assert caught.value.error_type == "ContentDisallowed"
        goes_on(reader.task())
    reader.close()
    sender.close()


# RQ


def test_a_job_that_is_told_to_stop(
    own_server: RedisServer, tmp_path: Path, gate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = RQ(own_server.url)
    with engine.start_worker(tmp_path / "worker") as worker:
        task = holding(engine, gate)
        send_stop_job_command(engine.connection, engine.sent[-1].token)
        with pytest.raises(TaskLost, match=r"^lost: its worker was told to stop its job, and ended it"):
            task.result(WAIT)
        one_loss(worker, caplog, task, "its worker was told to stop its job")
        goes_on(task)
    engine.close()


def test_a_job_that_is_told_to_stop_whose_function_brings_its_store(
    own_server: RedisServer, tmp_path: Path, gate: Path
) -> None:
    """The worker itself does not open it: the processes for the next jobs would have what that imports."""
    engine, store = RQ(own_server.url), RedisTaskStore(own_server.url)
    with engine.start_worker(tmp_path / "worker", env={"ENGINE_STORE": own_server.url}) as worker:
        task = engine.task(store=store)
        task.start(jobs.hold_with_store, str(gate))
        until(lambda: task.state.message == "holding", "no worker has begun")
        send_stop_job_command(engine.connection, engine.sent[-1].token)
        until(lambda: "stopped by user" in worker.log(), "it goes on")
        goes_on(engine.task("other"))
        store.lease = 0.5
        with pytest.raises(TaskLost, match="its process has ended"):
            task.result(WAIT)
        opened = Path(f"{gate}.opened").read_text().split()
        assert len(opened) == 1
        assert str(worker.pid) not in opened
    engine.close()


@pytest.mark.parametrize(
    ("queue", "worker"),
    [("JSONSerializer", "DefaultSerializer"), ("DefaultSerializer", "JSONSerializer")],
    ids=["json is sent", "pickle is sent"],
)
def test_what_rq_cannot_read(own_server: RedisServer, tmp_path: Path, queue: str, worker: str) -> None:
    """RQ lists the job as failed, and so does the task; it can be started again."""
    reader, sender = RQ(own_server.url, f"rq.serializers.{worker}"), RQ(own_server.url, f"rq.serializers.{queue}")
    with reader.start_worker(tmp_path / "worker"):
        task = sender.task()
        task.start(jobs.add, 1)
        words = r"worker of RQ cannot execute the job: .*serializer of the queue"
        with pytest.raises(TaskFailed, match=words) as caught:
            task.result(WAIT)
        assert caught.value.error_type == "DeserializationError"
        failed = FailedJobRegistry(queue=sender.queue)
        until(lambda: failed.get_job_ids() == [sender.sent[-1].token], "RQ does not list it")
        goes_on(reader.task())
    reader.close()
    sender.close()


def test_what_rq_cannot_read_where_only_the_arguments_say_which_store(own_server: RedisServer, tmp_path: Path) -> None:
    """Nothing can be stored, and RQ lists the job with the reason of its failure."""
    reader, sender = RQ(own_server.url), RQ(own_server.url, "rq.serializers.JSONSerializer")
    with reader.start_worker(tmp_path / "worker") as worker:
        task = sender.task()
        task.start(jobs.with_store)
        goes_on(reader.task("other"))
        result = Job.fetch(sender.sent[-1].token, connection=reader.connection).latest_result()
        assert result is not None
        assert "DeserializationError" in str(result.exc_string)
        assert "there is no such store" not in str(result.exc_string)
        assert "The end of a run of task 'task' could not be stored" in worker.log()
    assert task.state.status == "queued"
    reader.close()
    sender.close()


def test_a_worker_of_rq_that_is_shut_down_at_once(
    own_server: RedisServer, tmp_path: Path, gate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The job is executed by the worker's own process, and ends with it."""
    engine = RQ(own_server.url)
    worker = engine.start_worker(tmp_path / "worker", "rq.SimpleWorker")
    task = holding(engine, gate)
    os.kill(worker.pid, signal.SIGTERM)
    until(lambda: "warm shut down" in worker.log(), "it has not seen the signal")
    seen = time.monotonic()
    until(lambda: time.monotonic() > seen + 1.1, "")  # RQ takes a second one within a second for the same.
    os.kill(worker.pid, signal.SIGTERM)
    with pytest.raises(TaskLost, match=r"^lost: its worker was shut down$"):
        task.result(WAIT)
    until(lambda: not worker.running, "the worker goes on")
    one_loss(worker, caplog, task, "its worker was shut down")
    worker.kill()
    engine.close()


def test_a_job_without_a_note(own_server: RedisServer, tmp_path: Path) -> None:
    """As of an older release: the worker goes on."""
    engine = RQ(own_server.url)
    client = Redis.from_url(own_server.url)
    queue = Queue(connection=client)
    queue.enqueue_call("engines.jobs.missing", on_failure=Callback(on_failure))
    with engine.start_worker(tmp_path / "worker"):
        goes_on(engine.task())
        assert "error while executing failure callback" not in Path(tmp_path / "worker" / "log").read_text()
    client.close()
    engine.close()
