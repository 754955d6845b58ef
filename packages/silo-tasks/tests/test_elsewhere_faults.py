"""Runs elsewhere when something comes late, twice, at the same moment or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from silo_tasks import (
    BackgroundTask,
    MemoryTaskStore,
    Status,
    TaskCancelled,
    TaskError,
    ThreadRunner,
)
from silo_tasks import _publisher as publisher
from silo_tasks.message import Message
from silo_tasks.remote import execute
from silo_tasks.runners.engine import EngineRunner
from silo_tasks.store import Record

WAIT = 30
GATE = threading.Event()
RAN: list[str] = []


class Engine(EngineRunner):
    """Keeps what it is sent, for `work()`."""

    def __init__(self, store: MemoryTaskStore | None = None) -> None:
        super().__init__(store or MemoryTaskStore(), max_wait=60)
        self.sent: list[Message] = []

    def dumps(self, value: Any) -> bytes:
        return b""

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def work(self) -> bool:
        return execute(self.sent.pop(0), self.store)


@pytest.fixture(autouse=True)
def _gate() -> Iterator[None]:
    GATE.clear()
    RAN.clear()
    yield
    GATE.set()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "INTERVAL", 0.01)


def until(look: Callable[[], object], what: str) -> None:
    pause = threading.Event()
    for _ in range(WAIT * 200):
        if look():
            return
        pause.wait(0.005)
    raise AssertionError(what)


def attached(store: MemoryTaskStore, name: str = "task") -> BackgroundTask:
    task = BackgroundTask.attach(name, store)
    assert task is not None
    return task


def record_in(store: MemoryTaskStore, name: str = "task") -> Record:
    found = store.read("", name)
    assert found is not None
    return found[1]


def note(task: BackgroundTask) -> str:
    RAN.append(task.name)
    return "value"


def complete_first(task: BackgroundTask) -> str:
    task.complete("Enough")
    GATE.wait(WAIT)
    return "value"


# A run that called complete() and goes on.


class Counted(MemoryTaskStore):
    def __init__(self) -> None:
        super().__init__()
        self.published = 0

    def publish(self, owner: str, name: str, token: str, record: Record) -> bool:
        self.published += 1
        return super().publish(owner, name, token, record)


@pytest.mark.usefixtures("quick")
def test_a_run_that_goes_on_after_its_end_is_heard_of_until_it_returns(runner: ThreadRunner) -> None:
    store = Counted()
    BackgroundTask("task", runner=runner, store=store).start(complete_first)
    until(lambda: store.published > 5, "it is heard of while it goes on")
    other = attached(store)
    assert other.state.complete
    with pytest.raises(TimeoutError):
        other.result(0)
    GATE.set()
    assert other.result(WAIT) == "value"


def test_a_worker_that_is_gone_before_it_returned_is_not_waited_for() -> None:
    now = 0.0
    store = MemoryTaskStore(clock=lambda: now)
    task = BackgroundTask("task", runner=(engine := Engine(store)))
    task.start(complete_first)
    token = engine.sent[0].token
    assert store.claim("", "task", token)
    end = {"running": False, "status": "succeeded", "complete": True, "message": "Enough", "returning": True}
    assert store.publish("", "task", token, record_in(store) | end)
    with pytest.raises(TimeoutError):
        task.result(0)
    now = 15.1
    with pytest.raises(TaskError, match="was not kept"):
        task.result(WAIT)
    assert task.state.complete


# Between the start of a run and its place in the store.


class AtBegin(MemoryTaskStore):
    """Does something just before a run begins, or just after."""

    before: Callable[[], object] = staticmethod(lambda: None)
    after: Callable[[], object] = staticmethod(lambda: None)

    def begin(
        self, owner: str, name: str, token: str, record: Record, *, expect: str | None, wait: float | None = None
    ) -> bool:
        self.before()
        begun = super().begin(owner, name, token, record, expect=expect, wait=wait)
        self.after()
        return begun


@pytest.mark.parametrize("ran_before", [False, True])
def test_who_looks_before_a_run_has_begun_does_not_lose_it(ran_before: bool) -> None:
    store = AtBegin()
    task = BackgroundTask("task", runner=(engine := Engine(store)))
    if ran_before:
        task.start(note)
        engine.work()
        assert task.wait(WAIT)
    seen: list[Status] = []
    store.before = store.after = lambda: seen.append(task.state.status)
    task.start(note)
    assert seen == [Status.QUEUED] * 2
    assert engine.work()
    assert task.result(WAIT) == "value"


@pytest.mark.parametrize("when", ["before", "after", "send"])
def test_a_run_that_is_cancelled_while_it_begins_never_runs(when: str) -> None:
    class Eager(Engine):
        def dumps(self, value: Any) -> bytes:
            if when == "send":
                assert task.cancel()
            return b""

        def submit(self, job: Any) -> None:
            if when == "send":
                assert task.cancel()
            super().submit(job)

    store = AtBegin()
    task = BackgroundTask("task", runner=(engine := Eager(store)))
    if when != "send":
        setattr(store, when, lambda: task.cancel() or pytest.fail("there was something to cancel"))
    task.start(note)
    assert task.state.status is Status.CANCELLED
    assert record_in(store)["status"] == "cancelled"
    with pytest.raises(TaskCancelled):
        task.result(WAIT)
    assert [execute(message, store) for message in engine.sent] in ([], [False])
    assert RAN == []
    store.before = store.after = lambda: None
    when = "never"
    task.start(note)
    assert engine.work()
    assert task.result(WAIT) == "value"


# Whoever looks.


def test_is_complete_looks() -> None:
    task = BackgroundTask("task", runner=(engine := Engine()))
    task.start(note)
    assert not task.is_complete
    engine.work()
    assert task.is_complete
