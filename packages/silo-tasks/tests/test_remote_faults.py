"""Runs in other processes, when something comes late, twice, at the same moment or not at all."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deadlines import until
from silo_tasks import (
    BackgroundTask,
    InlineRunner,
    MemoryTaskStore,
    RunnerUnavailable,
    Status,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskState,
    ThreadRunner,
)
from silo_tasks.run import publishing as publisher
from silo_tasks.run import record, remote, snapshot
from silo_tasks.run.remote import RemoteRun
from silo_tasks.runners.message import Message
from silo_tasks.runners.queue import QueueRunner
from silo_tasks.runners.worker import execute
from silo_tasks.stores.stored_run import StoredRun, TaskRecord

WAIT = 30
GATE = threading.Event()
RAN: list[str] = []


class Engine(QueueRunner):
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
    monkeypatch.setattr(remote, "INTERVAL", 0.01)


def attached(store: MemoryTaskStore, name: str = "task") -> BackgroundTask:
    task = BackgroundTask.attach(name, store)
    assert task is not None
    return task


def record_in(store: MemoryTaskStore, name: str = "task") -> TaskRecord:
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

    def publish(self, owner: str, name: str, token: str, record: TaskRecord) -> bool:
        self.published += 1
        return super().publish(owner, name, token, record)


@pytest.mark.usefixtures("quick")
def test_a_run_that_goes_on_after_its_end_reports_until_it_returns(runner: ThreadRunner) -> None:
    store = Counted()
    BackgroundTask("task", runner=runner, store=store).start(complete_first)
    until(lambda: store.published > 5, "it does not report while it goes on")
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


@pytest.mark.usefixtures("quick")
def test_a_run_that_start_executes_itself_reports_and_can_be_cancelled() -> None:
    store = Counted()

    def work(task: BackgroundTask) -> None:
        until(lambda: store.published > 2, "it does not report")
        assert attached(store).cancel()
        until(task.checkpoint, "it is cancelled")

    task = BackgroundTask("task", runner=InlineRunner(), store=store)
    task.start(work)
    assert task.state.status is Status.CANCELLED
    assert record_in(store)["status"] == "cancelled"


# Between the start of a run and its place in the store.


class AtBegin(MemoryTaskStore):
    """Does something just before a run begins, or just after."""

    before: Callable[[], object] = staticmethod(lambda: None)
    after: Callable[[], object] = staticmethod(lambda: None)

    def begin(
        self, owner: str, name: str, token: str, record: TaskRecord, *, expect: str | None, wait: float | None = None
    ) -> bool:
        self.before()
        begun = super().begin(owner, name, token, record, expect=expect, wait=wait)
        self.after()
        return begun


@pytest.mark.parametrize("ran_before", [False, True])
def test_a_reader_does_not_lose_a_run_before_it_has_begun(ran_before: bool) -> None:
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
    engine.sent.clear()
    assert RAN == []
    store.before = store.after = lambda: None
    when = "never"
    task.start(note)
    assert engine.work()
    assert task.result(WAIT) == "value"


def test_a_start_that_fails_on_a_cancel_puts_back_what_was_stored() -> None:
    class Refusing(AtBegin):
        def request_cancel(self, owner: str, name: str, token: str) -> bool:
            raise RunnerUnavailable("the store", "it is away")

    store = Refusing()
    task = BackgroundTask("task", runner=(engine := Engine(store)))
    task.start(note)
    engine.work()
    assert task.wait(WAIT)
    before = store.read("", "task")
    store.before = task.cancel
    with pytest.raises(RunnerUnavailable):
        task.start(note)
    assert engine.sent == []
    assert store.read("", "task") == before
    assert task.result(0) == "value"


# Readers of the store.


def test_is_complete_looks() -> None:
    task = BackgroundTask("task", runner=(engine := Engine()))
    task.start(note)
    assert not task.is_complete
    engine.work()
    assert task.is_complete


class Read(MemoryTaskStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def read(self, owner: str, name: str) -> tuple[str, TaskRecord] | None:
        self.reads += 1
        return super().read(owner, name)


@pytest.mark.usefixtures("quick")
def test_the_store_is_not_read_for_coroutines_that_have_left() -> None:
    store = Read()
    BackgroundTask("task", runner=Engine(store)).start(note)
    tasks = [attached(store) for _ in range(5)]

    async def main() -> None:
        for task in tasks:
            assert not await task.wait_async(0.02)

    asyncio.run(main())
    refs = [weakref.ref(task) for task in tasks]
    tasks.clear()

    def all_gone() -> bool:
        gc.collect()
        return not any(ref() for ref in refs)

    until(all_gone, "a dropped task is kept alive")


@pytest.mark.usefixtures("quick")
def test_reading_begins_again_with_the_next_waiter() -> None:
    task = BackgroundTask("task", runner=(engine := Engine()))
    task.start(note)
    run = task._run
    assert isinstance(run, RemoteRun)

    async def main() -> None:
        assert not await task.wait_async(0)
        until(lambda: not run._looking, "the store is still read")
        waiting = asyncio.create_task(task.result_async(WAIT))
        while not task._run.done.is_awaited:
            await asyncio.sleep(0)
        engine.work()
        assert await waiting == "value"

    asyncio.run(main())


@pytest.mark.usefixtures("quick")
def test_a_callback_that_waits_holds_up_no_other_run(runner: ThreadRunner) -> None:
    store = MemoryTaskStore()
    task = BackgroundTask("task", runner=(engine := Engine(store)))
    called = threading.Event()

    def wait(_: BackgroundTask) -> None:
        called.set()
        GATE.wait(WAIT)

    task.on_done(wait)
    task.start(note)
    engine.work()
    assert called.wait(WAIT)
    # What looks and publishes goes on meanwhile.
    counted = Counted()
    BackgroundTask("other", runner=runner, store=counted).start(lambda _: GATE.wait(WAIT))
    until(lambda: counted.published > 2, "other runs are published")
    GATE.set()


@pytest.mark.usefixtures("quick")
def test_a_callback_of_a_run_that_is_cancelled_in_its_queue_holds_up_no_other() -> None:
    runner, called = ThreadRunner(workers=1), threading.Event()
    blocker, store = BackgroundTask(runner=runner), Counted()
    blocker.start(lambda _: GATE.wait(WAIT))
    queued = BackgroundTask("task", runner=runner, store=store)

    def wait(_: BackgroundTask) -> None:
        called.set()
        GATE.wait(WAIT)

    queued.on_done(wait)
    queued.start(note)
    assert attached(store).cancel()
    assert called.wait(WAIT)
    other = ThreadRunner(workers=1)
    counted = Counted()
    BackgroundTask("other", runner=other, store=counted).start(lambda _: GATE.wait(WAIT))
    until(lambda: counted.published > 2, "other runs are published")
    GATE.set()
    assert runner.shutdown(WAIT)
    assert other.shutdown(WAIT)


@pytest.mark.slow
def test_of_many_that_wait_one_looks() -> None:
    store = Read()
    task = BackgroundTask("task", runner=(engine := Engine(store)))
    task.start(note)
    assert isinstance(task._run, RemoteRun)
    task._run._since -= 60
    store.reads, begin = 0, time.monotonic()
    threads = [threading.Thread(target=task._run.wait, args=(task._run.done, None)) for _ in range(20)]
    for thread in threads:
        thread.start()
    until(lambda: store.reads >= 4, "the store is not read")
    reads, seconds = store.reads, time.monotonic() - begin
    # Two may look at the same moment.
    assert reads <= 3 * (1 + seconds / remote.LONGEST)
    engine.work()
    for thread in threads:
        thread.join(WAIT)
    assert task.state.complete


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
@pytest.mark.usefixtures("quick")
def test_a_forked_child_looks_for_itself() -> None:
    store = MemoryTaskStore()
    task = BackgroundTask("task", runner=(engine := Engine(store)))
    task.start(note)
    task.on_done(lambda _: None)
    assert isinstance(task._run, RemoteRun)
    assert task._run._looking
    child = os.fork()
    if not child:
        code = 1
        try:
            over = threading.Event()
            task.on_done(lambda _: over.set())
            engine.work()
            code = 0 if over.wait(WAIT) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert task.cancel()


def test_what_is_not_accepted_leaves_nothing_behind() -> None:
    runner = InlineRunner()
    task = BackgroundTask("task", runner=runner, store=MemoryTaskStore())
    called: list[object] = []
    task.on_done(called.append)
    runner.shutdown()
    for _ in range(3):
        with pytest.raises(TaskError, match="shut down"):
            task.start(note)
    assert task._run.callbacks == [called.append]
    assert called == []


# A store that did what it was asked for, and failed to say so, or did not.


class Deaf(MemoryTaskStore):
    """Takes nothing back for a while."""

    deaf = False

    def forget(self, owner: str, name: str, token: str) -> bool:
        if self.deaf:
            raise OSError("store is away")
        return super().forget(owner, name, token)

    def begin(
        self, owner: str, name: str, token: str, record: TaskRecord, *, expect: str | None, wait: float | None = None
    ) -> bool:
        if self.deaf and not record["running"]:
            raise OSError("store is away")
        return super().begin(owner, name, token, record, expect=expect, wait=wait)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("ran_before", [False, True])
def test_what_was_not_accepted_is_taken_back_later(ran_before: bool) -> None:
    class Full(Engine):
        full = False

        def send(self, message: Message) -> None:
            if self.full:
                raise TaskError("the queue is away")
            super().send(message)

    store = Deaf()
    task = BackgroundTask("task", runner=(engine := Full(store)))
    if ran_before:
        task.start(note)
        engine.work()
        assert task.wait(WAIT)
    before = store.read("", "task")
    store.deaf = engine.full = True
    with pytest.raises(TaskError, match="the queue is away"):
        task.start(note)
    assert record_in(store)["status"] == "queued"
    store.deaf = engine.full = False
    until(lambda: store.read("", "task") == before, "it is as it was")
    task.start(note)
    assert engine.work()
    assert task.result(WAIT) == "value"


def test_a_cancel_that_the_store_does_not_take_is_raised() -> None:
    class Refusing(MemoryTaskStore):
        def request_cancel(self, owner: str, name: str, token: str) -> bool:
            raise OSError("store is away")

    store = Refusing()
    task = BackgroundTask("task", runner=(engine := Engine(store)))
    task.start(note)
    with pytest.raises(OSError, match="store is away"):
        task.cancel()
    engine.work()
    assert task.result(WAIT) == "value"


def test_a_worker_that_was_silent_goes_on_unless_another_has_begun() -> None:
    now = 0.0
    store = MemoryTaskStore(clock=lambda: now)
    task = BackgroundTask("task", runner=(engine := Engine(store)))
    task.start(note)
    first = engine.sent[0].token
    assert store.claim("", "task", first)
    now = 20.0
    with pytest.raises(TaskLost):
        task.result(WAIT)
    running = TaskState(running=True, status=Status.RUNNING, message="Still here", run=1).to_dict()
    assert store.publish("", "task", first, running)
    assert attached(store).is_running
    # A task that has seen its end stays with that, and may begin the next.
    assert task.state.error_type == "TaskLost"
    task.start(note)
    assert not store.publish("", "task", first, running)
    assert store.cancel_requested("", "task", first)
    engine.sent.pop(0)
    assert engine.work()
    assert task.result(WAIT) == "value"


def test_what_is_lost_in_its_queue_is_not_cancelled_later() -> None:
    now = 0.0
    store = MemoryTaskStore(clock=lambda: now)
    BackgroundTask("task", runner=Engine(store)).start(note)
    token = (store.read("", "task") or ("",))[0]
    now = 60.1
    lost = record_in(store)
    assert lost["error_type"] == "TaskLost"
    assert store.request_cancel("", "task", token)
    assert record_in(store) == lost


# What is in a record.


class Sly(dict[str, int]):
    """Looks like a dict that JSON can hold."""

    def items(self) -> Any:
        raise RuntimeError("no items")

    def __deepcopy__(self, memo: object) -> None:
        raise RuntimeError("no copy")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def give(task: BackgroundTask, kind: str) -> object:
    values = {
        "sly": Sly(a=1),
        "deep": nested(450),
        "deeper": nested(100_000),
        "large": ["x" * 1000] * 1000,
        "keys": {1: (2, None)},
        "bytes": b"x",
    }
    return values[kind]


@pytest.mark.parametrize("kind", ["sly", "deeper", "large", "bytes"])
def test_no_value_keeps_the_end_of_a_run_from_the_store(kind: str) -> None:
    task = BackgroundTask("task", runner=(engine := Engine()))
    task.start(give, kind)
    engine.work()
    with pytest.raises(TaskError, match="was not kept"):
        task.result(WAIT)
    assert task.state.complete


@pytest.mark.parametrize(("kind", "value"), [("keys", {"1": [2, None]}), ("deep", nested(450))])
def test_a_value_is_what_json_gives_back(kind: str, value: object) -> None:
    task = BackgroundTask("task", runner=(engine := Engine()))
    task.start(give, kind)
    engine.work()
    assert task.result(WAIT) == value


def test_a_stored_run_of_a_newer_release_is_read() -> None:
    stored = StoredRun("a", {"running": True}, 1.0, 60.0, cancel=True)
    assert StoredRun.from_dict(json.loads(json.dumps(stored.to_dict() | {"priority": 1}))) == stored


@pytest.mark.parametrize("line", [[1, 2.0, "info", "text", True, "thread-1"], [1, 2.0, "info", "text"]])
def test_log_lines_of_other_releases_are_read(line: list[object]) -> None:
    state = TaskState.from_dict({"name": "task", "last_seq": 1, "log": [line]})
    assert state.logs == ["text"]
    assert state.private_logs == ([] if len(line) > 4 else [0])


def test_a_message_of_a_newer_release_is_read() -> None:
    task = BackgroundTask("task", runner=(engine := Engine()))
    task.start(note)
    message = engine.sent.pop()
    head = json.loads(json.dumps(message.head() | {"priority": 1}))
    assert execute(Message.of(head, message.args, message.kwargs), engine.store)
    assert task.result(WAIT) == "value"


def test_a_message_carries_only_what_differs_from_a_default() -> None:
    short, full = (
        Message("jobs:note", "task", "", "a", 1),
        Message("jobs:note", "task", "", "a", 1, 2.0, 0, 3, True, ["x:Y"]),
    )
    assert set(short.head()) == {"function", "name", "owner", "token", "number"}
    assert set(full.head()) == set(Message._fields[:-2])
    for message in (short, full):
        assert Message.of(json.loads(json.dumps(message.head())), (), {}) == message


def test_a_module_that_ends_its_process_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script_without_guard.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(str(tmp_path))
    task = BackgroundTask("task", runner=(engine := Engine()))
    task.start(note)
    message = engine.sent.pop()._replace(function="script_without_guard:note")
    assert execute(message, engine.store)
    with pytest.raises(TaskFailed, match="cannot import script_without_guard:note: SystemExit"):
        task.result(WAIT)


@pytest.mark.usefixtures("quick")
def test_a_run_whose_function_takes_long_to_import_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, store = tmp_path / "gate", MemoryTaskStore()
    gate.touch()
    code = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.005)\n"
    (tmp_path / "slow_to_import.py").write_text(f"{code}def work(task):\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    task = BackgroundTask("task", runner=(engine := Engine(store)))
    task.start(__import__("slow_to_import").work)
    monkeypatch.delitem(sys.modules, "slow_to_import")
    gate.unlink()
    worker = threading.Thread(target=engine.work)
    worker.start()
    try:
        until(lambda: task.state.status is Status.RUNNING, "it is not claimed")
        before = store.look("", "task")[1]
        until(lambda: seen(store) > before, "it does not report")
        assert record_in(store)["status"] == "running"
    finally:
        gate.touch()
        worker.join(WAIT)
    assert task.result(WAIT) == 1


def seen(store: MemoryTaskStore) -> float:
    stored, _ = store.look("", "task")
    assert stored is not None
    return stored.seen


def test_a_worker_without_the_function_that_knows_the_store_says_so() -> None:
    BackgroundTask("task", runner=(engine := Engine())).start(note)
    message = engine.sent.pop()._replace(function="nowhere:note", brings_store=True)
    with pytest.raises(TaskError, match="cannot import nowhere:note"):
        execute(message, engine.store)


def test_the_end_of_a_lost_run_is_a_time_of_day() -> None:
    store = MemoryTaskStore()
    BackgroundTask("task", runner=Engine(store)).start(note)
    attached(store).cancel()
    record = record_in(store)
    assert abs(record["finished_at"] - record["started_at"]) < WAIT


def log_lines(task: BackgroundTask, count: int) -> None:
    for number in range(count):
        task.log("line %d", number)


def test_lines_that_no_record_holds_count_as_dropped() -> None:
    task = BackgroundTask("task", runner=(engine := Engine()))
    for count in (60, 3):
        task.start(log_lines, count)
        engine.work()
        other = attached(engine.store)  # type: ignore[arg-type]
        kept = min(count, 50)
        for state in (task.state, other.state):
            assert (len(state.logs), state.dropped) == (kept, count - kept)
        assert other.logs() == task.logs()
        assert [line[3] for line in record_in(engine.store)["log"]] == task.state.logs  # type: ignore[arg-type]


def test_lines_that_come_while_a_record_is_taken_change_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    task = BackgroundTask("task", runner=(engine := Engine()), max_logs=5)
    taken = snapshot.state_of

    def state_of(run: Any) -> TaskState:
        state = taken(run)
        for _ in range(20):
            run.log.append(0.0, "error", "late", ())
        return state

    monkeypatch.setattr(record, "state_of", state_of)
    task.start(log_lines, 5)
    engine.work()
    assert [(line.text, line.level) for line in attached(engine.store).logs()] == [  # type: ignore[arg-type]
        (f"line {number}", "info") for number in range(5)
    ]


def test_line_numbers_go_on_after_a_run_that_was_given_up() -> None:
    store = MemoryTaskStore()
    task = BackgroundTask("task", runner=(engine := Engine(store)))
    task.start(note)
    token = engine.sent.pop().token
    assert store.claim("", "task", token)
    running = TaskState(running=True, status=Status.RUNNING, run=1, last_seq=3).to_dict()
    assert store.publish("", "task", token, running)
    assert task.cancel(abandon=True)
    # Its worker has not seen that yet.
    assert store.publish("", "task", token, running | {"last_seq": 8})
    task.start(note)
    assert (engine.sent[0].number, engine.sent[0].last_seq) == (2, 8)
