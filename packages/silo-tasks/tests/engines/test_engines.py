"""What holds for RQ and Celery alike, with real workers."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
import redis
from engines import jobs
from engines.harness import ENGINES, Engine
from links import RoundTrips
from servers import RedisServer, until
from silo_tasks import (
    BackgroundTask,
    RunnerUnavailable,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskRunning,
    TaskTimeout,
)
from silo_tasks.runners.queue import QueueRunner
from silo_tasks.stores.redis import RedisTaskStore
from silo_tasks.stores.stored_run import LEASE
from silo_tasks.testing import RunnerContract

pytestmark = pytest.mark.slow

WAIT = 30.0
_numbers = itertools.count()


@pytest.fixture
def task(engine: Engine) -> BackgroundTask:
    return engine.task(owner=f"owner {next(_numbers)}")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def others(engine: Engine) -> BackgroundTask:
    return engine.task(owner=f"owner {next(_numbers)}")


def holding(task: BackgroundTask) -> None:
    """Wait until a worker has begun with `hold`."""
    until(lambda: task.state.message == "holding", "no worker has begun")


def waiting(server: RedisServer) -> None:
    """Wait until a worker waits for jobs. One of RQ ends where the broker goes away while it prepares for that."""
    client = redis.Redis.from_url(server.url)
    until(lambda: any("b" in each["flags"] for each in client.client_list()), "no worker waits")
    client.close()


class TestRunner(RunnerContract):
    """The rules of all runners, except that a queue copies values and does not wait for its workers."""

    @pytest.fixture(autouse=True)
    def _engine(self, engine: Engine) -> None:
        self.engine = engine
        if found := engine.runner.store.read("", "contract"):
            engine.runner.store.forget("", "contract", found[0])  # Numbers of runs go on otherwise.

    def make_runner(self) -> QueueRunner:
        return self.engine.make_runner()

    def test_shutdown_waits_for_accepted_runs(self) -> None:
        """It does not: they are the workers'."""
        runner = self.make_runner()
        task = BackgroundTask("contract", runner=runner)
        task.start(jobs.add, 1)
        assert runner.shutdown(0)
        assert task.result(WAIT) == 1

    def test_arguments_and_result_get_through(self) -> None:
        task = BackgroundTask("contract", runner=self.make_runner())
        task.start(jobs.give, 1, b={"x": [2, None]})
        assert task.result(WAIT) == [1, [], {"b": {"x": [2, None]}}]


def test_arguments_and_value(task: BackgroundTask) -> None:
    task.start(jobs.give, "ä", 2, x=[1, None])
    assert task.result(WAIT) == ["ä", [2], {"x": [1, None]}]
    state = task.state
    assert (state.status, state.progress, state.message, state.run) == ("succeeded", 100, "Done", 1)


def test_the_target_has_its_task(task: BackgroundTask) -> None:
    task.start(jobs.show_itself)
    assert task.result(WAIT)[1] is True


def test_progress_and_log(task: BackgroundTask, gate: Path) -> None:
    task.start(jobs.hold, str(gate))
    assert task.state.status in ("queued", "running")
    holding(task)
    state = task.state
    assert (state.status, state.progress, state.n, state.total) == ("running", 40, 0, 2)
    assert [(line.seq, line.level, line.text) for line in task.logs()] == [(1, "warning", "first line")]
    with pytest.raises(TaskRunning):
        task.start(jobs.add, 1)
    gate.touch()
    assert task.result(WAIT) == "went on"
    task.start(jobs.add, 1, b=2)
    assert task.result(WAIT) == 3
    assert task.state.run == 2
    assert [(line.seq, line.text) for line in task.logs(since=1)] == [(2, "adding 1 and 2")]


def test_another_process_sees_it(engine: Engine, task: BackgroundTask, gate: Path) -> None:
    """All it needs is the store."""
    store, owner = RedisTaskStore(engine.url), engine.sent[-1].owner if engine.sent else ""
    task.start(jobs.hold, str(gate))
    owner = engine.sent[-1].owner
    until(lambda: (store.read(owner, "task") or ("", {}))[1].get("message") == "holding", "it is not seen")
    peer = BackgroundTask("task", store=store, owner=owner)
    with pytest.raises(TaskRunning):
        peer.start(lambda task: None)
    gate.touch()
    task.result(WAIT)
    assert (store.read(owner, "task") or ("", {}))[1]["value"] == "went on"


def test_callbacks_are_called_here(task: BackgroundTask) -> None:
    over: list[str] = []
    task.on_done(lambda task: over.append(task.state.status))
    task.start(jobs.add, 1)
    until(lambda: bool(over), "the callback was not called")
    assert over == ["succeeded"]


def test_a_value_that_no_record_holds(task: BackgroundTask) -> None:
    task.start(jobs.give_set)
    assert task.wait(WAIT)
    assert task.state.status == "succeeded"
    with pytest.raises(TaskError, match="not kept"):
        task.result()


def test_a_failure_is_told_with_its_traceback(task: BackgroundTask) -> None:
    task.start(jobs.fail, "no such row")
    with pytest.raises(TaskFailed, match="no such row") as caught:
        task.result(WAIT)
    assert caught.value.error_type == "ValueError"
    assert "in fail\n" in caught.value.traceback
    task.start(jobs.leave)
    with pytest.raises(TaskFailed, match="leaving"):
        task.result(WAIT)


def test_a_queued_run_is_cancelled_at_once_and_never_runs(
    engine: Engine, task: BackgroundTask, gate: Path, tmp_path: Path
) -> None:
    task.start(jobs.hold, str(gate))
    holding(task)
    queued = others(engine)
    queued.start(jobs.note, str(tmp_path / "noted"))
    assert queued.state.status == "queued"
    assert queued.cancel()
    assert queued.state.status == "cancelled"
    gate.touch()
    task.result(WAIT)
    last = others(engine)
    last.start(jobs.add, 1)
    last.result(WAIT)
    assert not (tmp_path / "noted").exists()


def test_a_running_run_is_cancelled(task: BackgroundTask) -> None:
    task.start(jobs.endless)
    until(lambda: task.state.n > 0, "it does not run")
    assert task.cancel()
    with pytest.raises(TaskCancelled):
        task.result(WAIT)
    assert not task.cancel()


def test_a_cancel_from_another_process(engine: Engine, task: BackgroundTask) -> None:
    store = RedisTaskStore(engine.url)
    task.start(jobs.endless)
    until(lambda: task.state.n > 0, "it does not run")
    assert store.request_cancel(engine.sent[-1].owner, "task", engine.sent[-1].token)
    assert task.wait(WAIT)
    assert task.state.status == "cancelled"


def test_a_deadline(engine: Engine, gate: Path) -> None:
    """It is applied on the worker, also to code that looks at nothing, and counts from when the run begins."""
    task = engine.task(owner=f"owner {next(_numbers)}", timeout=0.3)
    task.start(jobs.deaf, str(gate))
    with pytest.raises(TaskTimeout, match="took longer"):
        task.result(WAIT)
    gate.touch()
    task.start(jobs.endless)
    with pytest.raises(TaskTimeout):
        task.result(WAIT)
    other = others(engine)
    other.start(jobs.add, 1)
    assert other.result(WAIT) == 1


def test_a_message_that_is_delivered_twice_does_nothing(engine: Engine, gate: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    first, last = others(engine), others(engine)
    first.start(jobs.note, str(notes))
    engine.deliver(engine.sent[-1])
    first.result(WAIT)
    engine.deliver(engine.sent[-1])
    last.start(jobs.add, 1)
    last.result(WAIT)
    assert notes.read_text() == "ran\n"
    assert first.state.status == "succeeded"


def test_two_tasks_at_once(engine: Engine) -> None:
    tasks = [others(engine) for _ in range(2)]
    for number, task in enumerate(tasks):
        task.start(jobs.add, number)
    assert [task.result(WAIT) for task in tasks] == [0, 1]


def test_a_worker_without_the_function(
    engine: Engine, task: BackgroundTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"only_here_{engine.name}"
    (tmp_path / f"{name}.py").write_text("def work(task):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__(name)
    task.start(module.work)
    with pytest.raises(TaskFailed, match=f"cannot import {name}:work"):
        task.result(WAIT)


def test_what_cannot_be_sent(engine: Engine, task: BackgroundTask) -> None:
    sent = len(engine.sent)
    with pytest.raises(TypeError, match="argument 'value'"):
        task.start(jobs.give, engine.bad)
    with pytest.raises(TypeError, match="argument 'named'"):
        task.start(jobs.give, 1, named=engine.bad)
    with pytest.raises(TypeError, match=r"argument 'rest\[1\]'"):
        task.start(jobs.give, 1, 2, engine.bad)
    with pytest.raises(ValueError, match="'value' takes 2000"):
        task.start(jobs.give, "x" * 2_000_000)
    with pytest.raises(TypeError, match="'a'"):
        task.start(jobs.add)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'c'"):
        task.start(jobs.add, 1, c=2)  # type: ignore[call-arg]
    with pytest.raises(TaskError, match="imported"):
        task.start(lambda task: None)
    assert len(engine.sent) == sent
    assert task.state.status == "idle"
    task.start(jobs.add, 1)
    assert task.result(WAIT) == 1


def test_a_store_that_cannot_be_opened(engine: Engine, task: BackgroundTask) -> None:
    """The worker cannot report it and goes on; the run reads as lost after its lease."""
    task = others(engine)
    waiting = BackgroundTask("task", runner=engine.make_runner(max_wait=1), owner=f"owner {next(_numbers)}")
    waiting.start(jobs.with_store)
    task.start(jobs.add, 1)
    assert task.result(WAIT) == 1
    with pytest.raises(TaskLost, match="no worker has taken it in 1 seconds"):
        waiting.result(WAIT)


def test_a_process_that_dies_in_the_middle(engine: Engine) -> None:
    """The engine starts another one; the run is lost, and the task can be started again."""
    store = RedisTaskStore(engine.url)
    task = engine.task(owner=f"owner {next(_numbers)}", store=store)
    task.start(jobs.die)
    until(lambda: task.state.status == "running", "no worker has begun")
    store.lease = 1.0
    with pytest.raises(TaskLost):
        task.result(WAIT)
    store.lease = LEASE
    task.start(jobs.add, 1)
    assert task.result(WAIT) == 1


# Workers and brokers of their own.


def test_a_worker_that_is_killed(
    own_engine: Engine, tmp_path: Path, gate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its run is lost, and does not run again when another worker comes, nor when the message is delivered again."""
    store, notes = RedisTaskStore(own_engine.url), tmp_path / "notes"
    task = own_engine.task(store=store)
    with own_engine.start_worker(tmp_path / "first") as worker:
        task.start(jobs.hold, str(gate))
        holding(task)
        worker.kill()
    store.lease = 1.0
    with pytest.raises(TaskLost):
        task.result(WAIT)
    store.lease = LEASE
    other = BackgroundTask.attach("task", RedisTaskStore(own_engine.url, lease=1.0))
    assert other is not None
    assert other.state.error_type == "TaskLost"
    (line,) = [record.getMessage() for record in caplog.records if "is lost" in record.getMessage()]
    assert line.startswith(f"Task 'task' (run {own_engine.sent[-1].token[:8]}) is lost: no sign of life for ")
    with own_engine.start_worker(tmp_path / "second"):
        own_engine.deliver(own_engine.sent[-1])
        gate.touch()
        task.start(jobs.note, str(notes))
        task.result(WAIT)
    assert notes.read_text() == "ran\n"
    assert task.state.run == 2


def test_a_process_that_dies_while_it_imports_the_function(
    own_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has begun with the run by then, so the run is lost soon, and does not read as queued for a day."""
    name = f"deadly_for_{own_engine.name}"
    code = f"import os\nif os.getpid() != {os.getpid()}:\n    os.kill(os.getpid(), 9)\ndef work(task):\n    pass\n"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(tmp_path)])))
    store = RedisTaskStore(own_engine.url)
    task = own_engine.task(store=store)
    with own_engine.start_worker(tmp_path / "worker"):
        task.start(__import__(name).work)
        until(lambda: task.state.status == "running", "no worker has begun")
        store.lease = 1.0
        with pytest.raises(TaskLost):
            task.result(WAIT)


def test_a_run_that_no_worker_takes(own_engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run that waits too long is lost, and a worker that comes later leaves it alone."""
    notes = tmp_path / "notes"
    late = BackgroundTask("late", runner=own_engine.make_runner(max_wait=1))
    late.start(jobs.note, str(notes))
    assert late.state.message == "Waiting for a worker"
    with pytest.raises(TaskLost, match="no worker has taken it"):
        late.result(WAIT)
    assert [record.levelname for record in caplog.records if "is lost: no worker" in record.getMessage()] == ["WARNING"]
    with own_engine.start_worker(tmp_path / "worker"):
        task = own_engine.task()
        task.start(jobs.add, 1)
        assert task.result(WAIT) == 1
    assert not notes.exists()


@pytest.mark.parametrize("max_wait", [0, -1, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ENGINES)
def test_a_time_to_wait_that_is_none(name: str, max_wait: float) -> None:
    engine = ENGINES[name]("redis://127.0.0.1:1/0")
    with pytest.raises(ValueError, match="max_wait"):
        engine.make_runner(max_wait=max_wait)
    engine.close()


def test_no_broker(own_engine: Engine, own_server: RedisServer, redis_url: str, tmp_path: Path) -> None:
    """`start()` says so in bounded time, whether or not the store can be reached, and the task is as it was."""
    task = own_engine.task()
    apart = own_engine.task(store=RedisTaskStore(redis_url))
    own_server.stop()
    for each in (task, apart):
        with pytest.raises(RunnerUnavailable):
            each.start(jobs.add, 1)
        assert each.state.status == "idle"
    assert RedisTaskStore(redis_url).read("", "task") is None
    own_server.restart()
    with own_engine.start_worker(tmp_path / "worker"):
        task.start(jobs.add, 1)
        assert task.result(WAIT) == 1


def test_a_broker_that_is_restarted(own_engine: Engine, own_server: RedisServer, tmp_path: Path, gate: Path) -> None:
    """What runs ends properly, and the next jobs run."""
    task = own_engine.task()
    with own_engine.start_worker(tmp_path / "worker"):
        waiting(own_server)
        own_server.restart()
        task.start(jobs.add, 1)
        assert task.result(WAIT) == 1
        task.start(jobs.hold, str(gate))
        holding(task)
        own_server.stop()
        gate.touch()
        own_server.restart()
        assert task.result(WAIT) == "went on"
        task.start(jobs.add, 2)
        assert task.result(WAIT) == 2


def test_a_broker_that_has_forgotten_all(
    own_engine: Engine, own_server: RedisServer, tmp_path: Path, gate: Path
) -> None:
    """What ran is lost, and its code is stopped; the next jobs run."""
    task = own_engine.task()
    with own_engine.start_worker(tmp_path / "worker"):
        task.start(jobs.hold, str(gate))
        holding(task)
        own_server.restart(empty=True)
        with pytest.raises(TaskLost, match="record is gone"):
            task.result(WAIT)
        task.start(jobs.add, 1)
        assert task.result(WAIT) == 1


@pytest.mark.parametrize("name", ENGINES)
def test_connections_that_hang(own_server: RedisServer, name: str, tmp_path: Path, gate: Path) -> None:
    """As when another server has taken over: the worker reports again, before the lease is over."""
    link, store = RoundTrips(own_server.port), RedisTaskStore(own_server.url)
    engine = ENGINES[name](f"redis://127.0.0.1:{link.port}/0")
    task = engine.task(store=store)
    with engine.start_worker(tmp_path / "worker"):
        task.start(jobs.hold, str(gate))
        holding(task)
        link.hang()
        before = store.look("", "task")[1]
        until(lambda: seen(store) > before + 0.1, "the run does not report again")
        assert task.state.status == "running"
        gate.touch()
        assert task.result(WAIT) == "went on"
    engine.close()
    link.close()


def seen(store: RedisTaskStore) -> float:
    """Return when the run reported last."""
    stored, _ = store.look("", "task")
    assert stored is not None
    return stored.seen


KINDS = [("rq", "rq.SimpleWorker"), ("celery", "solo"), ("celery", "threads")]


@pytest.mark.parametrize(("name", "pool"), KINDS)
def test_other_kinds_of_workers(own_server: RedisServer, name: str, pool: str, tmp_path: Path, gate: Path) -> None:
    """They run jobs in their own process, where what a module sets up stays for all."""
    engine = ENGINES[name](own_server.url)
    with engine.start_worker(tmp_path / "worker", pool) as worker:
        task = engine.task()
        task.start(jobs.show_itself)
        assert task.result(WAIT) == [worker.pid, True]
        task.start(jobs.setting)
        assert task.result(WAIT) == "set by the module"
        task.start(jobs.hold, str(gate))
        holding(task)
        gate.touch()
        assert task.result(WAIT) == "went on"
        task.start(jobs.endless)
        until(lambda: task.state.n > 0, "it does not run")
        task.cancel()
        assert task.wait(WAIT)
        assert task.state.status == "cancelled"
        task.start(jobs.fail, "oh")
        assert task.wait(WAIT)
        assert task.state.error == "oh"
    engine.close()
