"""Runs that a worker executes, with an engine that hands messages to a thread."""

from __future__ import annotations

import json
import pickle
import queue
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from deadlines import until
from silo_tasks import (
    BackgroundTask,
    MemoryTaskStore,
    Status,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskRunning,
    TaskState,
    TaskTimeout,
    step,
    track,
)
from silo_tasks.run.reported import ReportedRun
from silo_tasks.runners.message import Message, named, reference
from silo_tasks.runners.queue import QueueRunner
from silo_tasks.runners.worker import execute

WAIT = 30
GATE = threading.Event()
RAN: list[str] = []


class Engine(QueueRunner):
    """Sends everything as bytes; its worker takes the next message when it is told to."""

    def __init__(self, store: MemoryTaskStore | None = None, *, max_wait: float = 60, max_bytes: int = 10_000) -> None:
        super().__init__(store or MemoryTaskStore(), max_wait=max_wait, max_bytes=max_bytes)
        self.sent: queue.Queue[bytes] = queue.Queue()

    def dumps(self, value: Any) -> bytes:
        return pickle.dumps(value)

    def send(self, message: Message) -> None:
        self.sent.put(pickle.dumps((json.dumps(message.head()), message.args, message.kwargs)))

    def work(self, again: int = 1) -> list[bool]:
        head, args, kwargs = pickle.loads(self.sent.get(timeout=WAIT))
        return [execute(Message.of(json.loads(head), args, kwargs), self.store) for _ in range(again)]

    def serve(self) -> None:
        threading.Thread(target=self.work, daemon=True).start()


@pytest.fixture
def engine() -> Iterator[Engine]:
    GATE.clear()
    RAN.clear()
    yield Engine()
    GATE.set()


def add(task: BackgroundTask, /, a: int, *more: int, scale: int = 1, **options: object) -> int:
    RAN.append(task.name)
    task.log("adding %d numbers", 1 + len(more), level="debug")
    with step("Add"):
        return sum(track([a, *more])) * scale


def fail(task: BackgroundTask) -> None:
    raise KeyError("no such column")


def wait_for_gate(task: BackgroundTask) -> str:
    RAN.append("begun")
    while not GATE.wait(0.005):
        task.checkpoint()
    return "open"


def give_tuple(task: BackgroundTask, value: Any) -> Any:
    return value


def end_early(task: BackgroundTask) -> str:
    task.complete("Enough")
    return "value"


def test_from_start_to_end(engine: Engine) -> None:
    task = BackgroundTask("sum", runner=engine, owner="me")
    task.start(add, 1, 2, 3, scale=2)
    assert (task.state.status, task.state.message) == (Status.QUEUED, "Waiting for a worker")
    assert not task.wait(0.01)
    assert engine.work() == [True]
    assert task.wait(WAIT)
    assert task.result() == 12
    state = task.state
    assert (state.status, state.progress, state.n, state.total, state.run) == (Status.SUCCEEDED, 100.0, 3, 3, 1)
    assert state.logs == ["adding 3 numbers"]
    assert [step.status for step in state.steps] == ["done"]
    [line] = task.logs()
    assert (line.seq, line.level, line.text) == (1, "debug", "adding 3 numbers")
    assert line.time > 0
    task.start(add, 1)
    assert engine.work() == [True]
    assert task.result(WAIT) == 1
    assert (task.state.run, [line.seq for line in task.logs(since=1)]) == (2, [2])


def _refuses(task: BackgroundTask) -> None:
    with pytest.raises(TaskRunning, match="already running"):
        task.start(wait_for_gate)
    with pytest.raises(TaskRunning, match="Cannot reset"):
        task.reset()


def test_progress_is_seen_while_it_runs(engine: Engine) -> None:
    task = BackgroundTask("gate", runner=engine)
    task.start(wait_for_gate)
    _refuses(task)
    engine.serve()
    while task.state.status is not Status.RUNNING:
        pass
    assert task.is_running
    _refuses(task)
    other = BackgroundTask.attach("gate", engine.store)
    assert other is not None
    _refuses(other)
    GATE.set()
    assert task.result(WAIT) == "open"


def test_callbacks_are_called(engine: Engine) -> None:
    task, over = BackgroundTask("sum", runner=engine), threading.Event()
    task.start(add, 1)
    task.on_done(lambda task: over.set())
    engine.work()
    assert over.wait(WAIT)
    assert task.state.complete


def test_any_process_can_watch_and_cancel_a_run(engine: Engine) -> None:
    assert BackgroundTask.attach("gate", engine.store, "me") is None
    task = BackgroundTask("gate", runner=engine, owner="me")
    task.start(wait_for_gate)
    engine.serve()
    other = BackgroundTask.attach("gate", engine.store, "me")
    assert other is not None
    assert other.is_running
    until(lambda: RAN, "the run does not begin")
    assert other.cancel()
    with pytest.raises(TaskCancelled):
        other.result(WAIT)
    assert not task.is_running
    task.start(add, 1, 2)
    engine.work()
    other = BackgroundTask.attach("gate", engine.store, "me")
    assert other is not None
    assert other.result() == 3
    assert (other.state.run, other.state.dropped, other.logs()) == (2, 0, task.logs())
    other.start(wait_for_gate)
    with pytest.raises(TaskRunning, match=r"already running in another process\..* another name or owner"):
        task.start(wait_for_gate)
    GATE.set()
    assert other.result(WAIT) == "open"


def test_a_run_in_a_thread_is_attached_to_as_well() -> None:
    store, leave = MemoryTaskStore(), threading.Event()
    task = BackgroundTask("thread", store=store)
    task.start(lambda task: leave.wait(WAIT))
    other, over = BackgroundTask.attach("thread", store), threading.Event()
    assert other is not None
    other.on_done(lambda task: over.set())
    leave.set()
    assert over.wait(WAIT)
    assert other.result() is True


def test_a_message_that_is_delivered_again_does_nothing(engine: Engine) -> None:
    task = BackgroundTask("sum", runner=engine)
    task.start(add, 1)
    assert engine.work(again=3) == [True, False, False]
    assert RAN == ["sum"]


def test_a_failure_has_type_text_and_traceback(engine: Engine) -> None:
    task = BackgroundTask("fail", runner=engine)
    task.start(fail)
    engine.work()
    with pytest.raises(TaskFailed) as caught:
        task.result(WAIT)
    assert (caught.value.error, caught.value.error_type) == ("'no such column'", "KeyError")
    assert "in fail" in caught.value.traceback
    assert task.is_failed


def test_what_is_cancelled_in_the_queue_never_runs(engine: Engine) -> None:
    task = BackgroundTask("sum", runner=engine)
    task.start(add, 1)
    assert task.cancel()
    assert not task.cancel()
    assert task.state.status is Status.CANCELLED
    with pytest.raises(TaskCancelled):
        task.result()
    assert engine.work() == [False]
    assert RAN == []


def test_a_running_one_is_cancelled(engine: Engine) -> None:
    task = BackgroundTask("gate", runner=engine)
    task.start(wait_for_gate)
    engine.serve()
    until(lambda: RAN, "the run does not begin")
    assert task.cancel()
    with pytest.raises(TaskCancelled):
        task.result(WAIT)


def test_a_running_one_is_abandoned(engine: Engine) -> None:
    task = BackgroundTask("gate", runner=engine)
    task.start(wait_for_gate)
    engine.serve()
    until(lambda: RAN, "the run does not begin")
    assert task.cancel(abandon=True)
    assert task.state.status is Status.CANCELLED
    task.start(add, 1)
    engine.work()
    assert task.result(WAIT) == 1


def test_the_deadline_is_the_workers(engine: Engine) -> None:
    task = BackgroundTask("gate", runner=engine, timeout=0.05)
    task.start(wait_for_gate)
    engine.serve()
    with pytest.raises(TaskTimeout, match="took longer than"):
        task.result(WAIT)
    assert task.state.error_type == "TaskTimeout"


def test_a_worker_that_is_gone_has_lost_the_run() -> None:
    now = 0.0
    store = MemoryTaskStore(clock=lambda: now)
    engine = Engine(store)
    task = BackgroundTask("sum", runner=engine)
    task.start(add, 1)
    [token] = [run.token for run in store._runs.values()]
    assert store.claim("", "sum", token)
    now = 15.0
    assert task.is_running
    now = 15.1
    with pytest.raises(TaskLost, match="lost: its process has ended"):
        task.result()
    assert task.state.error_type == "TaskLost"
    task.start(add, 2)
    assert engine.work() == [False], "the run before"
    engine.work()
    assert task.result() == 2


def test_a_run_that_no_worker_takes_is_lost() -> None:
    engine = Engine(max_wait=0.01)
    task = BackgroundTask("sum", runner=engine)
    task.start(add, 1)
    with pytest.raises(TaskLost, match="no worker has taken it in"):
        task.result(WAIT)
    assert engine.work() == [False]


def test_a_value_that_no_record_holds(engine: Engine) -> None:
    task = BackgroundTask("value", runner=engine)
    task.start(give_tuple, (1, {"a": None}))
    engine.work()
    assert task.result(WAIT) == [1, {"a": None}]
    for value in ({1, 2}, "x" * 70_000, float("nan")):
        task.start(give_tuple, {"of": 1}) if isinstance(value, str) else task.start(give_tuple, value)
        engine.work()
        if isinstance(value, str):
            assert task.result(WAIT) == {"of": 1}
            continue
        with pytest.raises(TaskError, match="was not kept"):
            task.result(WAIT)
        assert task.state.complete


def test_a_value_that_comes_after_the_end(engine: Engine) -> None:
    task = BackgroundTask("early", runner=engine)
    task.start(end_early)
    engine.work()
    assert task.result(WAIT) == "value"
    assert task.state.message == "Enough"


def test_a_worker_without_the_function(engine: Engine) -> None:
    task = BackgroundTask("sum", runner=engine)
    task.start(add, 1)
    head, args, kwargs = pickle.loads(engine.sent.get())
    head = json.loads(head)
    head["function"] = "no_such_module:add"
    assert execute(Message.of(head, args, kwargs), engine.store)
    with pytest.raises(TaskFailed, match="the worker cannot import no_such_module:add: ModuleNotFoundError"):
        task.result(WAIT)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda task: None, "cannot be imported"),
        (partial(give_tuple), "cannot be imported"),
        (Engine().work, "cannot be imported"),
    ],
)
def test_a_function_that_no_worker_can_import(engine: Engine, function: Any, words: str) -> None:
    task = BackgroundTask("odd", runner=engine)
    with pytest.raises(TaskError, match=words):
        task.start(function)
    assert task.state.status is Status.IDLE
    assert engine.store.read("", "odd") is None


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "words"),
    [
        ((), {}, TypeError, r"^add\(task, /, a, .*\) cannot be called with .*: missing a required argument: 'a'"),
        ((1,), {"scale": threading.Lock()}, TypeError, "argument 'scale' cannot be sent"),
        ((1, 2, threading.Lock()), {}, TypeError, r"argument 'more\[1\]' cannot be sent"),
        ((1,), {"key": threading.Lock()}, TypeError, "argument 'key' cannot be sent"),
        ((1,), {"how": "x" * 20_000}, ValueError, "'how' takes 200"),
    ],
)
def test_arguments_that_cannot_be_sent(
    engine: Engine, args: tuple[Any, ...], kwargs: dict[str, Any], error: type[Exception], words: str
) -> None:
    task = BackgroundTask("sum", runner=engine)
    with pytest.raises(error, match=words):
        task.start(add, *args, **kwargs)
    assert task.state.status is Status.IDLE
    assert engine.sent.empty()


def test_names_of_arguments() -> None:
    def function(task: object, a: object, /, b: object, *rest: object, c: object = 1, **more: object) -> None: ...

    found = list(named(function, (1, 2, 3, 4), {"c": 5, "d": 6}))
    assert found == [("a", 1), ("b", 2), ("rest[0]", 3), ("rest[1]", 4), ("c", 5), ("d", 6)]

    def loose(*args: object) -> None: ...

    assert list(named(loose, (1, 2), {})) == [("args[0]", 1), ("args[1]", 2)]
    assert list(named(loose, (1, 2), {}, given=0)) == [("args[0]", 1), ("args[1]", 2)]


def test_a_function_of_this_module_has_a_reference() -> None:
    assert reference(add) == f"{__name__}:add"


def test_an_older_record_does_not_turn_progress_back(engine: Engine) -> None:
    task = BackgroundTask("sum", runner=engine)
    task.start(add, 1)
    [token] = [run.token for run in engine.store._runs.values()]  # type: ignore[attr-defined]
    assert engine.store.claim("", "sum", token)
    assert isinstance(task._run, ReportedRun)
    for elapsed, progress in [(1.0, 30.0), (2.0, 60.0), (1.5, 45.0)]:
        task._run.report(TaskState(running=True, status=Status.RUNNING, progress=progress, elapsed=elapsed).to_dict())
    assert task._run.latest is not None
    assert task._run.latest.progress == 60.0


class Away(MemoryTaskStore):
    away = False

    def read(self, owner: str, name: str) -> Any:
        if self.away:
            raise OSError("store is away")
        return super().read(owner, name)


def test_a_store_that_is_away_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    store = Away()
    engine = Engine(store)
    task = BackgroundTask("sum", runner=engine)
    task.start(add, 1)
    store.away = True
    assert task.state.status is Status.QUEUED
    assert not task.wait(0.01)
    assert caplog.text.count("could not be read") == 1
    engine.work()
    store.away = False
    assert task.result(WAIT) == 1


class Target:
    """A callable that brings the store of its runs."""

    def __init__(self) -> None:
        self.__module__, self.__qualname__ = __name__, "TARGET"
        self.store = MemoryTaskStore()

    def __call__(self, task: BackgroundTask) -> str:
        return "own"

    def open_store(self, message: Message) -> MemoryTaskStore:
        assert message.owner == "me"
        return self.store


TARGET = Target()


def test_a_function_brings_its_own_store(engine: Engine) -> None:
    task = BackgroundTask("own", runner=engine, store=TARGET.store, owner="me")
    task.start(TARGET)
    engine.work()
    assert task.result(WAIT) == "own"
    assert engine.store.read("me", "own") is None


def test_a_record_says_what_a_state_says(engine: Engine) -> None:
    task = BackgroundTask("sum", runner=engine)
    task.start(add, 1)
    engine.work()
    found = engine.store.read("", "sum")
    assert found is not None
    state = TaskState.from_dict(found[1])
    assert (state.status, state.logs, state.progress) == (Status.SUCCEEDED, ["adding 1 numbers"], 100.0)


@pytest.mark.parametrize("function", [add, fail])
def test_a_state_is_the_same_everywhere(engine: Engine, function: Any) -> None:
    task = BackgroundTask("sum", runner=engine)
    task.start(function, *[1] * (function is add))
    engine.work()
    time.sleep(0.01)  # Later than the last read.
    found = engine.store.read("", "sum")
    assert found is not None
    assert task.state.to_dict() == TaskState.from_dict(found[1]).to_dict()


def test_what_is_said_of_a_run_that_says_nothing(engine: Engine) -> None:
    task = BackgroundTask("quiet", runner=engine)
    task.start(wait_for_gate)
    found = engine.store.read("", "quiet")
    assert found is not None
    assert found[1]["message"] == "Waiting for a worker"
    assert engine.store.claim("", "quiet", found[0])  # as a worker does that imports the function then
    assert task.state.message == "Running"
    engine.store.forget("", "quiet", found[0])
    engine.sent.get()

    GATE.set()
    task.start(wait_for_gate)
    engine.work()
    assert task.state.message == "Done"


def test_a_runner_that_was_shut_down_sends_nothing(engine: Engine) -> None:
    assert engine.shutdown()
    with pytest.raises(TaskError, match="shut down"):
        BackgroundTask("sum", runner=engine).start(add, 1)
