from __future__ import annotations

import json
import threading

import pytest
from silo_tasks import BackgroundTask, InlineRunner, MemoryTaskStore, QueueFull, TaskRunning, TaskStore, ThreadRunner
from silo_tasks import _publisher as publisher
from silo_tasks.store import Record
from silo_tasks.testing import TaskStoreContract

WAIT = 30


class TestMemoryTaskStore(TaskStoreContract):
    def make_store(self) -> TaskStore:
        return MemoryTaskStore()


def test_record_follows_the_run(runner: ThreadRunner) -> None:
    store, leave, entered = MemoryTaskStore(), threading.Event(), threading.Event()
    task = BackgroundTask("job", runner=runner, store=store, owner="someone")

    def work(task: BackgroundTask) -> None:
        entered.set()
        assert leave.wait(WAIT)

    task.start(work)
    assert entered.wait(WAIT)
    found = store.read("someone", "job")
    assert found is not None
    assert found[1]["running"] is True
    leave.set()
    # Callbacks are called in order, so the record has been stored when this one comes.
    done = threading.Event()
    task.on_done(lambda task: done.set())
    assert task.wait(WAIT)
    assert done.wait(WAIT)
    found = store.read("someone", "job")
    assert found is not None
    assert json.loads(json.dumps(found[1])) == task.state.to_dict()


def test_a_cancel_request_in_the_store_reaches_the_run(runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "INTERVAL", 0.01)
    store, stopped = MemoryTaskStore(), threading.Event()
    task = BackgroundTask("job", runner=runner, store=store)

    def work(task: BackgroundTask) -> None:
        pause = threading.Event()
        while not pause.wait(0.001):
            task.checkpoint()

    task.on_done(lambda task: stopped.set())
    task.start(work)
    found = store.read("", "job")
    assert found is not None
    assert store.request_cancel("", "job", found[0])
    assert stopped.wait(WAIT)
    assert task.state.status.value == "cancelled"


class Slow(MemoryTaskStore):
    """Its first record of a running run arrives after that of the end."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.ended, self.finals = threading.Event(), threading.Event(), threading.Semaphore(0)

    def publish(self, owner: str, name: str, token: str, record: Record) -> bool:
        if record["running"]:
            self.late.set()
            assert self.ended.wait(WAIT)
        newest = super().publish(owner, name, token, record)
        if not record["running"]:
            self.ended.set()
            self.finals.release()
        return newest


def test_a_late_record_does_not_stay(runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "INTERVAL", 0.01)
    store = Slow()
    task = BackgroundTask("job", runner=runner, store=store)
    task.start(lambda task: store.late.wait(WAIT))
    for _ in range(2):
        assert store.finals.acquire(timeout=WAIT)
    found = store.read("", "job")
    assert found is not None
    assert found[1]["status"] == "succeeded"


class LostRace(MemoryTaskStore):
    def begin(self, owner: str, name: str, token: str, record: Record, *, expect: str | None) -> bool:
        return False


class Broken(MemoryTaskStore):
    def publish(self, owner: str, name: str, token: str, record: Record) -> bool:
        raise OSError("store is away")


def test_losing_the_race_to_start_leaves_the_task_as_it_was() -> None:
    task = BackgroundTask("job", runner=InlineRunner(), store=LostRace())
    with pytest.raises(TaskRunning):
        task.start(lambda task: None)
    assert task.state.status.value == "idle"


def test_a_broken_store_harms_no_run(caplog: pytest.LogCaptureFixture) -> None:
    task = BackgroundTask("job", runner=InlineRunner(), store=Broken())
    task.start(lambda task: "fine")
    assert task.result() == "fine"
    assert "store is away" in caplog.text


def test_a_refused_run_does_not_stay_queued_in_the_store() -> None:
    runner, store, leave = ThreadRunner(workers=1, queue_size=0), MemoryTaskStore(), threading.Event()
    blocker, task = BackgroundTask(runner=runner), BackgroundTask("job", runner=runner, store=store)
    blocker.start(lambda task: leave.wait(WAIT))
    with pytest.raises(QueueFull):
        task.start(lambda task: None)
    found = store.read("", "job")
    assert found is not None
    assert found[1]["status"] == "cancelled"
    leave.set()
    assert runner.shutdown(WAIT)
