from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from silo_tasks import (
    BackgroundTask,
    InlineRunner,
    MemoryTaskStore,
    QueueFull,
    TaskError,
    TaskRunning,
    TaskState,
    TaskStore,
    ThreadRunner,
)
from silo_tasks.run import publishing as publisher
from silo_tasks.stores.stored_run import TaskRecord
from silo_tasks.testing import TaskStoreContract
from silo_tasks.timer import publisher as timer

WAIT = 30


class TestMemoryTaskStore(TaskStoreContract):
    def make_store(self) -> TaskStore:
        return MemoryTaskStore()


class TestStoreOfTheGuide(TaskStoreContract):
    """Two methods are enough."""

    def make_store(self) -> TaskStore:
        guide = (Path(__file__).parents[1] / "GUIDE.md").read_text("utf-8")
        (code,) = re.findall(
            r"^```python\n(import [^`]*class DictStore.*?)^\n\nstore = ", guide, re.DOTALL | re.MULTILINE
        )
        names: dict[str, Any] = {}
        exec(code.partition("\nstore = ")[0], names)  # our own guide
        store: TaskStore = names["DictStore"]()
        return store


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
    state = task.state.to_dict()
    for name in ("logs", "private_logs", "dropped"):
        del state[name]
    more: dict[str, object] = {"log": [], "first_seq": 1, "value": None}
    assert json.loads(json.dumps(found[1])) == state | more


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

    def publish(self, owner: str, name: str, token: str, record: TaskRecord) -> bool:
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
    def begin(
        self, owner: str, name: str, token: str, record: TaskRecord, *, expect: str | None, wait: float | None = None
    ) -> bool:
        return False


class Broken(MemoryTaskStore):
    def publish(self, owner: str, name: str, token: str, record: TaskRecord) -> bool:
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


@pytest.mark.parametrize("ran_before", [False, True])
def test_after_a_refusal_the_store_says_what_it_said_before(ran_before: bool) -> None:
    runner, store, leave = ThreadRunner(workers=1, queue_size=0), MemoryTaskStore(), threading.Event()
    blocker, task = BackgroundTask(runner=runner), BackgroundTask("job", runner=runner, store=store)
    if ran_before:
        done = threading.Event()
        task.on_done(lambda task: done.set())
        task.start(lambda task: None)
        assert done.wait(WAIT)
    before = store.read("", "job")
    while True:
        # The thread must be free again.
        try:
            blocker.start(lambda task: leave.wait(WAIT))
            break
        except QueueFull:
            continue
    with pytest.raises(QueueFull):
        task.start(lambda task: None)
    assert store.read("", "job") == before
    assert (before is not None) == ran_before
    leave.set()
    assert runner.shutdown(WAIT)
    task = BackgroundTask("job", runner=InlineRunner(), store=store)
    task.start(lambda task: None)


class Crossing(MemoryTaskStore):
    """The last record of a run comes just before the next one, which was refused, is taken back."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on, self.came, self.begun = threading.Event(), threading.Event(), 0

    def begin(
        self, owner: str, name: str, token: str, record: TaskRecord, *, expect: str | None, wait: float | None = None
    ) -> bool:
        self.begun += 1
        if self.begun == 3:
            self.go_on.set()
            assert self.came.wait(WAIT)
        return super().begin(owner, name, token, record, expect=expect, wait=wait)

    def publish(self, owner: str, name: str, token: str, record: TaskRecord) -> bool:
        if record["running"]:
            return super().publish(owner, name, token, record)
        assert self.go_on.wait(WAIT)
        stored = super().publish(owner, name, token, record)
        self.came.set()
        return stored


def test_a_last_record_that_comes_amid_a_refusal_is_not_lost() -> None:
    runner, store = ThreadRunner(workers=1, queue_size=0), Crossing()
    task, entered, leave = BackgroundTask("job", runner=runner, store=store), threading.Event(), threading.Event()

    def work(task: BackgroundTask) -> None:
        entered.set()
        leave.wait(WAIT)

    task.start(work)
    assert entered.wait(WAIT)
    task.cancel(abandon=True)
    with pytest.raises(QueueFull):
        task.start(work)
    found = store.read("", "job")
    leave.set()
    assert runner.shutdown(WAIT)
    assert found is not None
    assert found[1]["status"] == "cancelled"


class Away(MemoryTaskStore):
    """Cannot be reached for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.away, self.tries = threading.Event(), threading.Semaphore(0)

    def publish(self, owner: str, name: str, token: str, record: TaskRecord) -> bool:
        self.tries.release()
        if self.away.is_set():
            raise OSError("store is away")
        return super().publish(owner, name, token, record)


@pytest.mark.parametrize("inline", [False, True])
def test_a_last_record_that_could_not_be_stored_is_stored_later(
    inline: bool, runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(publisher, "INTERVAL", 0.01)
    store = Away()
    store.away.set()
    task = BackgroundTask("job", runner=InlineRunner() if inline else runner, store=store)
    task.start(lambda task: None)
    assert task.wait(WAIT)
    for _ in range(3):
        assert store.tries.acquire(timeout=WAIT)
    found = store.read("", "job")
    assert found is not None
    assert found[1]["running"]
    assert caplog.text.count("could not be stored") == 1
    store.away.clear()
    pause = threading.Event()
    while not (store.read("", "job") or ("", {}))[1].get("complete"):
        pause.wait(0.005)


def test_a_store_that_fails_for_good_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    later: list[Callable[[], None]] = []
    store, real = Away(), timer.call_later

    def call_later(delay: float, call: Callable[[], None]) -> object:
        # What other tests have left behind goes on as it is.
        if getattr(getattr(call, "__self__", None), "_store", None) is not store:
            return real(delay, call)
        later.append(call)
        return None

    monkeypatch.setattr(timer, "call_later", call_later)
    store.away.set()
    task = BackgroundTask("job", runner=InlineRunner(), store=store)
    task.start(lambda task: None)
    tries = 0
    while later:
        later.pop()()
        tries += 1
    assert tries == publisher.TRIES


def test_the_number_of_a_run_is_a_number() -> None:
    task = BackgroundTask("job", runner=InlineRunner())
    assert json.dumps(task.state.to_dict()["run"]) == "0"
    for number in ("1", "2"):
        task.start(lambda task: None)
        assert json.dumps(task.state.to_dict()["run"]) == number


def test_a_state_comes_back_from_its_record() -> None:
    task = BackgroundTask("job", runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        with task.step("One"):
            task.log("a line")
        raise ValueError("no")

    idle = task.state
    task.start(work)
    for state in (idle, task.state):
        record = json.loads(json.dumps(state.to_dict()))
        back = TaskState.from_dict(record)
        assert back.to_dict() == record
        assert (back.status, back.steps, back.logs) == (state.status, state.steps, state.logs)
    assert TaskState.from_dict({**record, "from": "another release"}) == back
    assert TaskState.from_dict({"n": 3}) == TaskState(n=3)
    with pytest.raises(ValueError, match="sleeping"):
        TaskState.from_dict({"status": "sleeping"})


class Stuck(MemoryTaskStore):
    """Cannot put back what was there."""

    def forget(self, owner: str, name: str, token: str) -> bool:
        raise OSError("store is away")


def test_a_store_that_cannot_put_back_a_record_harms_no_run(caplog: pytest.LogCaptureFixture) -> None:
    runner = InlineRunner()
    runner.shutdown()
    task = BackgroundTask("job", runner=runner, store=Stuck())
    with pytest.raises(TaskError, match="shut down"):
        task.start(lambda task: None)
    assert task.state.status.value == "idle"
    assert "store is away" in caplog.text


def test_a_task_that_another_process_runs_is_not_started(runner: ThreadRunner) -> None:
    store, leave, done = MemoryTaskStore(), threading.Event(), threading.Event()
    here, other = (BackgroundTask("job", runner=runner, store=store, owner="o") for _ in range(2))
    other.start(lambda task: leave.wait(WAIT))
    other.on_done(lambda task: done.set())
    with pytest.raises(TaskRunning, match="already running in another process"):
        here.start(lambda task: None)
    assert here.state.status.value == "idle"
    assert other.is_running
    leave.set()
    assert done.wait(WAIT)
    assert other.result() is True
    here.start(lambda task: "here")
    assert here.result(WAIT) == "here"


class Late(MemoryTaskStore):
    """Records of ends never arrive."""

    def publish(self, owner: str, name: str, token: str, record: TaskRecord) -> bool:
        return True


@pytest.mark.parametrize("reset", [False, True])
def test_the_tasks_own_last_record_does_not_refuse_a_start(reset: bool) -> None:
    task = BackgroundTask("job", runner=InlineRunner(), store=Late())
    for _ in range(3):
        task.start(lambda task: "again")
        if reset:
            task.reset()
            task.reset()


class Counting(MemoryTaskStore):
    """Counts the reads."""

    reads = 0

    def read(self, owner: str, name: str) -> tuple[str, TaskRecord] | None:
        self.reads += 1
        return super().read(owner, name)


def test_a_task_whose_last_run_was_here_starts_without_reading() -> None:
    store = Counting()
    task = BackgroundTask("job", runner=InlineRunner(), store=store)
    for _ in range(3):
        task.start(lambda task: task.log("line"))
    assert store.reads == 1
    assert (task.state.run, [line.seq for line in task.logs()]) == (3, [3])


def test_the_runs_of_two_processes_are_counted_on() -> None:
    store = Counting()
    here, there = (BackgroundTask("job", runner=InlineRunner(), store=store) for _ in range(2))
    for each in (here, there, there, here):
        each.start(lambda task: task.log("line"))
    assert (here.state.run, [line.seq for line in here.logs()]) == (4, [4])
    assert store.reads == 3, "here, there, and here once more, as another task has run meanwhile"
    found = store.read("", "job")
    assert found is not None
    assert found[1]["run"] == 4


def test_what_a_known_run_has_left_is_put_back_after_a_refusal() -> None:
    def logs(task: BackgroundTask) -> str:
        task.log("line")
        return "value"

    store, runner = Counting(), InlineRunner()
    task = BackgroundTask("job", runner=runner, store=store)
    task.start(logs)
    before = store.read("", "job")
    runner.shutdown()
    with pytest.raises(TaskError, match="shut down"):
        task.start(lambda task: None)
    assert store.reads == 2
    assert store.read("", "job") == before
