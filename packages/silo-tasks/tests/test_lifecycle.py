from __future__ import annotations

import builtins
import contextlib
import copy
import dataclasses
import gc
import json
import pickle
import re
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from silo_tasks import (
    MAX_LINE,
    BackgroundTask,
    Cancelled,
    InlineRunner,
    Job,
    MemoryTaskStore,
    ProcessRunner,
    QueueFull,
    Status,
    TaskError,
    TaskFailed,
    TaskRunning,
    TaskState,
    ThreadRunner,
    current_task,
)
from silo_tasks.run.callbacks import Callback
from silo_tasks.run.idle import IdleRun

WAIT = 30


class Gate:
    """A target that tells when it is in, and leaves when it may."""

    def __init__(self) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()

    def __call__(self, task: BackgroundTask) -> str:
        self.entered.set()
        assert self.leave.wait(WAIT)
        return "left"


def test_construction_starts_nothing() -> None:
    before = threading.active_count()
    task = BackgroundTask("x")
    assert threading.active_count() <= before
    assert (task.name, task.is_running, task.is_complete, task.is_failed) == ("x", False, False, False)
    assert task.state.status is Status.IDLE
    assert BackgroundTask().name == "task"


def test_a_status_is_its_word() -> None:
    assert [f"{Status.QUEUED}", str(Status.QUEUED), f"{Status.QUEUED:>8}"] == ["queued", "queued", "  queued"]
    assert Status("queued") is Status.QUEUED


def test_idle_queued_running_succeeded() -> None:
    runner = ThreadRunner(workers=1)
    first, second = Gate(), Gate()
    blocker, task = BackgroundTask("blocker", runner=runner), BackgroundTask("x", runner=runner)
    blocker.start(first)
    assert first.entered.wait(WAIT)
    task.start(second)
    assert [task.state.status, task.is_running] == [Status.QUEUED, True]
    first.leave.set()
    assert second.entered.wait(WAIT)
    assert task.state.status is Status.RUNNING
    second.leave.set()
    assert task.wait(WAIT)
    state = task.state
    assert (state.status, state.complete, state.progress, state.error) == (Status.SUCCEEDED, True, 100.0, None)
    assert state.message == "Done"
    assert state.finished_at is not None
    assert state.started_at is not None
    assert state.started_at <= state.finished_at
    assert runner.shutdown(WAIT)


def test_target_gets_the_task_and_its_arguments() -> None:
    task = BackgroundTask("x", runner=InlineRunner())
    task.start(lambda *args, **kwargs: (args, kwargs), 1, timeout=2, name="n")
    assert task.result() == ((task, 1), {"timeout": 2, "name": "n"})


def test_start_while_running_raises(runner: ThreadRunner) -> None:
    task, gate = BackgroundTask("job", runner=runner), Gate()
    task.start(gate)
    assert gate.entered.wait(WAIT)
    with pytest.raises(TaskRunning, match="Task 'job' is already running") as caught:
        task.start(gate)
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, TaskError)
    with pytest.raises(RuntimeError, match="Cannot reset running task 'job'"):
        task.reset()
    gate.leave.set()
    assert task.wait(WAIT)


def test_a_queued_task_is_neither_started_nor_reset() -> None:
    runner, gate = ThreadRunner(workers=1), Gate()
    first, task = BackgroundTask(runner=runner), BackgroundTask("job", runner=runner)
    first.start(gate)
    task.start(gate)
    assert task.state.status is Status.QUEUED
    with pytest.raises(RuntimeError, match=r"Task 'job' is already running \(status: queued\)"):
        task.start(gate)
    with pytest.raises(RuntimeError, match="Cannot reset queued task 'job'"):
        task.reset()
    gate.leave.set()
    assert task.wait(WAIT)
    task.reset()
    assert task.state.run == 1
    assert task.state.complete is False
    assert runner.shutdown(WAIT)


def test_of_many_starts_at_once_one_wins(runner: ThreadRunner) -> None:
    task, gate = BackgroundTask(runner=runner), Gate()
    together, results = threading.Barrier(8), []

    def start() -> None:
        together.wait(WAIT)
        try:
            task.start(gate)
            results.append("started")
        except TaskRunning:
            results.append("refused")

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["refused"] * 7 + ["started"]
    gate.leave.set()
    assert task.wait(WAIT)
    assert task.state.run == 1


def test_failure_is_described() -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        task.update(progress=30)
        raise ValueError("bad row")

    task.start(work)
    state = task.state
    assert (state.status, state.error, state.error_type) == (Status.FAILED, "bad row", "ValueError")
    assert (state.message, state.progress, state.complete) == ("Failed: bad row", 30.0, False)
    assert task.is_failed


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(("error", "text"), [(KeyError(), "KeyError"), (Unspeakable(), "Unspeakable")])
def test_error_text_is_never_empty(error: Exception, text: str) -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        raise error

    task.start(work)
    assert task.state.error == text
    task.fail("")
    task.reset()
    task.fail("")
    assert task.state.error == "unknown error"


def test_system_exit_in_a_target_is_a_failure(runner: ThreadRunner) -> None:
    task = BackgroundTask(runner=runner)

    def work(task: BackgroundTask) -> None:
        raise SystemExit(3)

    task.start(work)
    assert task.wait(WAIT)
    assert (task.state.error, task.state.error_type) == ("3", "SystemExit")


@pytest.mark.parametrize("target", [None, "work"])
def test_what_cannot_be_called_is_refused(runner: ThreadRunner, target: Any) -> None:
    task = BackgroundTask(runner=runner)
    with pytest.raises(TypeError, match=rf"not a {type(target).__name__}: start\(work, rows\)"):
        task.start(target)
    assert task.state.status is Status.IDLE


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An exception of which no attribute can be set, not even its traceback."""

    row: int


def test_a_frozen_exception_fails_the_run(runner: ThreadRunner) -> None:
    task = BackgroundTask(runner=runner)

    def work(task: BackgroundTask) -> None:
        raise Frozen(3)

    task.start(work)
    with pytest.raises(TaskFailed) as caught:
        task.result(WAIT)
    assert (type(caught.value.__cause__), caught.value.error_type) == (Frozen, "Frozen")
    assert "in work" in caught.value.traceback
    assert "_run.py" not in caught.value.traceback


async def coroutine(task: BackgroundTask) -> None: ...


def generator(task: BackgroundTask) -> Iterator[int]:
    yield 1


async def async_generator(task: BackgroundTask) -> AsyncIterator[int]:
    yield 1


class Calling:
    async def __call__(self, task: BackgroundTask) -> None: ...


class Named:
    async def work(self, task: BackgroundTask) -> None: ...


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (coroutine, "'coroutine' is a coroutine function: give it one that returns asyncio.run(coroutine(...))"),
        (partial(partial(coroutine)), "'coroutine' is a coroutine function"),
        (Named().work, "'work' is a coroutine function"),
        (Calling(), "'Calling' is a coroutine function"),
        (partial(Calling()), "'Calling' is a coroutine function"),
        (generator, "'generator' is a generator function: give it one that returns list(generator(...))"),
        (async_generator, "'async_generator' is an async generator function"),
        (None, "start() takes a function and its arguments, not a NoneType"),
    ],
    ids=["async", "partial", "method", "object", "partial-object", "generator", "async-generator", "none"],
)
def test_anything_but_a_plain_function_is_refused_at_once(target: Any, words: str) -> None:
    task = BackgroundTask(runner=InlineRunner())
    with pytest.raises(TypeError, match=re.escape(words)):
        task.start(target)
    assert task.state.status is Status.IDLE


def test_a_coroutine_is_refused_at_once() -> None:
    task = BackgroundTask(runner=InlineRunner())
    with pytest.raises(TypeError, match=re.escape("not a coroutine: start(work, rows) instead of start(work(rows))")):
        task.start(coroutine(task))  # type: ignore[arg-type]
    assert task.state.status is Status.IDLE


@pytest.mark.parametrize("target", [coroutine, generator, async_generator])
def test_a_call_that_executes_nothing_fails_the_run(target: Callable[..., Any]) -> None:
    """A plain function may still return such a call, as a decorator of an async function does."""
    task = BackgroundTask(runner=InlineRunner())
    task.start(lambda task: target(task))
    assert task.state.error_type == "TypeError"
    assert "a plain function" in (task.state.error or "")


@pytest.mark.parametrize(("args", "why"), [((), "missing 1 required positional argument"), ((1, 2), "takes 2")])
def test_a_run_whose_arguments_do_not_fit_says_what_the_function_takes(args: tuple[int, ...], why: str) -> None:
    def adding(task: BackgroundTask, rows: int, *, how: object = None) -> None: ...

    task = BackgroundTask(runner=InlineRunner())
    task.start(adding, *args)
    error = task.state.error or ""
    assert task.state.error_type == "TypeError"
    assert error.startswith(
        "adding(task, rows, *, how=None) cannot be called with the task and the arguments of start(): "
    )
    assert why in error


def test_a_function_without_a_parameter_for_the_task_fails_with_a_hint() -> None:
    def crunch(rows: list[int]) -> None: ...

    task = BackgroundTask(runner=InlineRunner())
    task.start(crunch, [1])  # type: ignore[arg-type, call-arg]
    error = task.state.error or ""
    assert error.startswith("crunch(rows) cannot be called with the task and the arguments of start(): ")
    assert error.endswith(". The first parameter is the task")


def test_a_type_error_of_the_code_itself_stays_as_it_is() -> None:
    task = BackgroundTask(runner=InlineRunner())
    task.start(lambda task: len(5))  # type: ignore[arg-type]
    assert task.state.error == "object of type 'int' has no len()"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": None}, "name must be a str, not a NoneType"),
        ({"name": 7}, "name must be a str, not a int"),
        ({"runner": "threads"}, "runner must be a silo_tasks.Runner such as ThreadRunner(), not 'threads'"),
        ({"runner": ThreadRunner}, "not the class ThreadRunner"),
        ({"runner": "redis://:secret@host"}, "not an address"),
        ({"store": MemoryTaskStore}, "not the class MemoryTaskStore"),
        (
            {"store": "redis://:secret@host"},
            "store must be a task store such as MemoryTaskStore() or RedisTaskStore(url)",
        ),
        ({"timeout": "5"}, "timeout must be a number of seconds, not a str"),
        ({"timeout": timedelta(seconds=5)}, "timeout must be a number of seconds, not a timedelta"),
        ({"max_logs": None}, "max_logs must be a whole number, not a NoneType"),
        ({"clock": 5.0}, "clock must be a function such as time.time, not a float"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_a_task_of_wrong_parts_is_refused_at_once(given: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=re.escape(words)) as caught:
        BackgroundTask(**given)
    assert "secret" not in str(caught.value)


def test_other_things_of_a_wrong_kind_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="store must be a task store"):
        BackgroundTask.attach("task", "redis://host")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"on_done\(\) takes a function"):
        BackgroundTask().on_done(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="workers must be a number, not a str"):
        ThreadRunner("4")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="kill_after must be a number of seconds, not a str"):
        ProcessRunner(kill_after="5")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "steps",
    [("Parse", "Write"), ([("Parse", 1), ("Write", 3)],), ([("Parse", 1)],), (("Parse",),), (("Parse", None),), (3,)],
    ids=["names", "list of two", "list of one", "no weight", "None", "number"],
)
def test_a_plan_of_anything_but_steps_is_refused_at_once(steps: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match=r"plan\(\) takes steps with their weights"):
        BackgroundTask().plan(*steps)


def test_a_text_in_place_of_the_percentage_is_refused_with_a_hint() -> None:
    task = BackgroundTask(runner=InlineRunner())
    task.start(lambda task: task.update("Reading"))  # type: ignore[arg-type]
    assert task.state.error == "progress is a percentage, not a str: give a text as update(message=...)"


def test_a_generator_that_has_begun_is_a_result() -> None:
    def work(task: BackgroundTask) -> Iterator[int]:
        rows = iter(n for n in range(3))
        next(rows)
        return rows

    task = BackgroundTask(runner=InlineRunner())
    task.start(work)
    assert list(task.result()) == [1, 2]


def test_complete_and_fail_end_the_run_at_once(runner: ThreadRunner) -> None:
    for end, status in (("complete", Status.SUCCEEDED), ("fail", Status.FAILED)):
        task, ended, leave = BackgroundTask(runner=runner), threading.Event(), threading.Event()

        def work(
            task: BackgroundTask, end: str = end, ended: threading.Event = ended, leave: threading.Event = leave
        ) -> str:
            getattr(task, end)("said so")
            ended.set()
            assert leave.wait(WAIT)
            task.update(progress=1, message="too late")
            task.complete("again")
            task.fail("again")
            return "value"

        task.start(work)
        assert ended.wait(WAIT)
        assert task.wait(WAIT)
        before = task.state
        assert before.status is status
        leave.set()
        if status is Status.SUCCEEDED:
            assert before.message == "said so"
            assert task.result(WAIT) == "value"
        assert task.state == before


def test_a_completed_target_that_raises_has_still_succeeded(caplog: pytest.LogCaptureFixture) -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        task.complete()
        raise ValueError("afterwards")

    task.start(work)
    assert (task.state.status, task.state.error, task.result()) == (Status.SUCCEEDED, None, None)
    assert "afterwards" in caplog.text


@pytest.mark.parametrize("end", ["complete", "fail", "give up"])
def test_what_is_reported_after_the_end_changes_nothing_but_the_log(end: str) -> None:
    task = BackgroundTask(runner=InlineRunner())
    seen: list[TaskState] = []

    def work(task: BackgroundTask) -> None:
        with contextlib.suppress(Cancelled), task.step("open"):
            for i in task.track(range(10)):
                if i == 3:
                    task.update(message="{n} of {total}")
                    if end == "give up":
                        with task.shield():
                            task.cancel(abandon=True)
                            go_on(task)
                    else:
                        getattr(task, end)("at {n} of {total}")
                        go_on(task)
        seen.append(task.state)

    def go_on(task: BackgroundTask) -> None:
        seen.append(task.state)
        task.plan(("never", 1))
        for _ in task.track([1, 2]):
            with task.step("late"):
                task.advance()
        task.log("late")

    task.start(work)
    assert (seen[0].n, seen[0].total, [step.name for step in seen[0].steps]) == (3, 10, ["open"])
    for later in seen[1:]:
        assert (later.logs, later.last_seq) == (["late"], 1)
        later.logs, later.last_seq = [], 0
        assert later == seen[0]


def test_a_message_just_after_the_end_is_dropped() -> None:
    task = BackgroundTask()

    class Failing:
        def __str__(self) -> str:
            task.fail("bad")
            return "too late"

    task.update(message=Failing())  # type: ignore[arg-type]
    assert task.state.message == "Failed: bad"


def test_reporting_on_an_idle_task_works() -> None:
    task = BackgroundTask()
    task.update(progress=40, message="by hand")
    task.log("line")
    assert (task.state.progress, task.state.message, task.state.logs) == (40.0, "by hand", ["line"])
    task.complete()
    assert (task.is_complete, task.state.message, task.state.progress) == (True, "Done", 100.0)
    assert task.result() is None
    task.reset()
    assert task.state.status is Status.IDLE
    assert (task.state.progress, task.state.logs, task.state.message) == (0.0, [], "")


def test_reset_keeps_the_numbers_rising() -> None:
    task = BackgroundTask(runner=InlineRunner())
    task.start(lambda task: task.log("one"))
    task.reset()
    assert task.logs() == []
    task.start(lambda task: task.log("two"))
    assert task.state.run == 2
    assert [(line.seq, line.text) for line in task.logs(since=1)] == [(2, "two")]


def test_a_stale_run_never_touches_the_newer_one(runner: ThreadRunner) -> None:
    task, old_in, go_on, old_out = BackgroundTask(runner=runner), *(threading.Event() for _ in range(3))
    raised: list[str] = []

    def old(task: BackgroundTask) -> str:
        old_in.set()
        assert go_on.wait(WAIT)
        calls: list[Any] = [
            lambda: task.update(progress=99, message="old", n=7, total=9),
            lambda: task.advance(),
            lambda: task.log("old"),
            lambda: task.complete("old"),
            lambda: task.fail("old"),
            lambda: task.cancel(),
            lambda: task.reset(),
            lambda: task.start(gate),
            lambda: list(task.track([1, 2])),
            lambda: task.step("old").__enter__(),
            lambda: task.checkpoint(),
        ]
        for number, call in enumerate(calls):
            try:
                call()
            except Cancelled:
                raised.append(str(number))
        old_out.set()
        return "old"

    gate = Gate()
    task.start(old)
    assert old_in.wait(WAIT)
    assert task.cancel(abandon=True)
    assert task.state.status is Status.CANCELLED
    task.start(gate)
    assert gate.entered.wait(WAIT)
    task.update(progress=10, message="new")
    before = task.state
    go_on.set()
    assert old_out.wait(WAIT)
    after = task.state
    assert raised == ["0", "1", "2", "6", "7", "8", "9", "10"]
    for name in ("status", "progress", "message", "logs", "n", "total", "steps", "run", "error", "last_seq"):
        assert getattr(after, name) == getattr(before, name), name
    gate.leave.set()
    assert task.result(WAIT) == "left"


def test_a_completed_target_that_goes_on_cannot_touch_the_next_run(runner: ThreadRunner) -> None:
    task, completed, go_on, out = BackgroundTask(runner=runner), *(threading.Event() for _ in range(3))

    def old(task: BackgroundTask) -> str:
        task.complete()
        completed.set()
        assert go_on.wait(WAIT)
        task.update(progress=99, message="old")
        task.log("old")
        task.fail("old")
        out.set()
        raise ValueError("old")

    task.start(old)
    assert completed.wait(WAIT)
    gate = Gate()
    task.start(gate)
    assert gate.entered.wait(WAIT)
    go_on.set()
    assert out.wait(WAIT)
    state = task.state
    assert (state.status, state.progress, state.logs, state.error) == (Status.RUNNING, 0.0, [], None)
    gate.leave.set()
    assert task.result(WAIT) == "left"


def test_many_runs_given_up_leave_only_the_last() -> None:
    runner = ThreadRunner(workers=16)
    task = BackgroundTask(runner=runner)
    rounds, go_on, out = 12, threading.Event(), threading.Semaphore(0)

    def work(task: BackgroundTask, number: int, entered: threading.Event) -> int:
        entered.set()
        assert go_on.wait(WAIT)
        try:
            for _ in task.track(range(1000)):
                task.update(progress=number, message=str(number))
                task.log(str(number))
        finally:
            out.release()
        return number

    for number in range(rounds):
        task.cancel(abandon=True)
        entered = threading.Event()
        task.start(work, number, entered)
        assert entered.wait(WAIT)
    go_on.set()
    assert task.result(WAIT) == rounds - 1
    for _ in range(rounds):
        assert out.acquire(timeout=WAIT)
    state = task.state
    assert (state.run, state.message, state.status) == (rounds, str(rounds - 1), Status.SUCCEEDED)
    assert set(state.logs) == {str(rounds - 1)}
    assert state.last_seq == 1000
    assert runner.shutdown(WAIT)


def test_no_user_code_runs_under_a_lock() -> None:
    """Each hook asks another thread for the state, which would wait for ever if the hook held a lock."""
    free: list[bool] = []

    def look_from_another_thread() -> None:
        thread = threading.Thread(target=lambda: BackgroundTask.state.fget(task))  # type: ignore[attr-defined]
        inside.append(True)
        thread.start()
        thread.join(5)
        inside.pop()
        free.append(not thread.is_alive())

    inside: list[bool] = []

    def clock() -> float:
        # The state asks for the time itself; only the outermost call looks.
        if ready and not inside:
            look_from_another_thread()
        return 5.0

    class Speaking:
        def __str__(self) -> str:
            look_from_another_thread()
            return "spoken"

    ready: list[bool] = []
    task = BackgroundTask(runner=InlineRunner(), clock=clock, timeout=3600)
    ready.append(True)
    task.on_done(lambda task: look_from_another_thread())

    def work(task: BackgroundTask) -> None:
        with task.step("a"):
            for _ in task.track([1]):
                task.log("%s", Speaking())
                task.update(message=Speaking())  # type: ignore[arg-type]
                task.fail(Speaking())  # type: ignore[arg-type]

    task.start(work)
    assert task.state.error == "spoken"
    task.reset()
    assert len(free) > 10
    assert all(free)


@pytest.mark.parametrize("how", ["cancelled", "refused"])
def test_no_destructor_of_an_argument_runs_under_a_lock(how: str) -> None:
    free: list[bool] = []

    class Argument:
        def __del__(self) -> None:
            thread = threading.Thread(target=lambda: task.state)
            thread.start()
            thread.join(5)
            free.append(not thread.is_alive())

    class Holding(InlineRunner):
        """Keeps the last reference to a job until its run is over, if it accepts it at all."""

        def submit(self, job: Job) -> None:
            if how == "refused":
                raise QueueFull(1)

    task = BackgroundTask(runner=Holding())
    with contextlib.ExitStack() as stack:
        if how == "refused":
            stack.enter_context(pytest.raises(QueueFull))
        task.start(lambda task, argument: None, Argument())
    task.cancel()
    gc.collect()
    assert free == [True]


def test_current_task(runner: ThreadRunner) -> None:
    task, inner = BackgroundTask(runner=runner), BackgroundTask("inner", runner=InlineRunner())
    seen: list[object] = [current_task()]

    def look(_: BackgroundTask) -> None:
        seen.append(current_task())
        task.update(message="from inside")

    def work(_: BackgroundTask) -> None:
        seen.append(current_task())
        inner.start(look)
        seen.append(current_task())

    task.start(work)
    assert task.wait(WAIT)
    assert seen == [None, task, inner, task]
    assert task.state.message == "from inside"


def test_code_that_goes_on_after_the_end_is_still_that_of_its_task() -> None:
    task, seen = BackgroundTask(runner=InlineRunner()), list[object]()

    def work(task: BackgroundTask) -> None:
        task.complete()
        seen.append(current_task())

    task.start(work)
    assert seen == [task]


def test_callbacks_run_once_and_harm_no_other(runner: ThreadRunner, caplog: pytest.LogCaptureFixture) -> None:
    task, called, done = BackgroundTask(runner=runner), [], threading.Event()

    def note(which: str) -> None:
        called.append((which, task.state.status, current_task()))

    def bad(task: BackgroundTask) -> None:
        raise ValueError("callback")

    task.on_done(lambda task: note("idle"))
    task.on_done(bad)
    gate = Gate()
    task.start(gate)
    task.on_done(lambda task: note("running"))
    task.on_done(lambda task: done.set())
    gate.leave.set()
    assert done.wait(WAIT)
    task.on_done(lambda task: note("over"))
    assert called == [(which, Status.SUCCEEDED, None) for which in ("idle", "running", "over")]
    assert "callback" in caplog.text
    task.start(lambda task: None)
    assert task.wait(WAIT)
    assert len(called) == 3


@pytest.mark.parametrize("error", [SystemExit, Cancelled, KeyError])
def test_whatever_a_callback_raises_the_others_are_called(error: type[BaseException]) -> None:
    task = BackgroundTask(runner=InlineRunner())
    called: list[BackgroundTask] = []

    def bad(task: BackgroundTask) -> None:
        raise error

    task.on_done(bad)
    task.on_done(called.append)
    task.start(lambda task: None)
    assert called == [task]
    task.on_done(bad)


@pytest.mark.parametrize("meanwhile", [BackgroundTask.reset, BackgroundTask.complete])
def test_a_callback_of_an_idle_task_waits_for_the_next_run(meanwhile: Callable[[BackgroundTask], None]) -> None:
    task = BackgroundTask(runner=InlineRunner())
    called: list[BackgroundTask] = []
    task.on_done(called.append)
    meanwhile(task)
    assert called == []
    for _ in range(2):
        task.start(lambda task: None)
        assert called == [task]


def test_a_callback_given_while_the_task_starts_is_called(runner: ThreadRunner) -> None:
    task, called = BackgroundTask(runner=runner), threading.Event()

    def start() -> None:
        task.start(lambda task: None)
        task.wait(WAIT)

    class Late(IdleRun):
        """Another thread starts the task just before the callback is added."""

        __slots__ = ()

        def add_callback(self, callback: Callback) -> bool:
            other = threading.Thread(target=start)
            other.start()
            other.join(0.2)
            return super().add_callback(callback)

    task._run.__class__ = Late
    task.on_done(lambda task: called.set())
    assert called.wait(WAIT)


def test_threads_that_first_use_an_idle_task_at_once_share_its_log() -> None:
    for _ in range(200):
        task, together = BackgroundTask(), threading.Barrier(2)

        def log(task: BackgroundTask = task, together: threading.Barrier = together) -> None:
            together.wait(WAIT)
            task.log("line")

        threads = [threading.Thread(target=log) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [line.seq for line in task.logs()] == [1, 2]


def test_callback_may_start_the_next_run(runner: ThreadRunner) -> None:
    task, done = BackgroundTask(runner=runner), threading.Event()

    def again(task: BackgroundTask) -> None:
        task.start(lambda task: "second")
        task.on_done(lambda task: done.set())

    task.on_done(again)
    task.start(lambda task: "first")
    assert done.wait(WAIT)
    assert (task.result(WAIT), task.state.run) == ("second", 2)


def test_a_full_queue_leaves_the_task_as_it_was() -> None:
    runner, gate = ThreadRunner(workers=1, queue_size=0), Gate()
    blocker, task = BackgroundTask(runner=runner), BackgroundTask(runner=runner)
    called: list[object] = []
    blocker.start(gate)
    task.log("before")
    task.on_done(called.append)
    before = task.state
    with pytest.raises(QueueFull):
        task.start(lambda task: None)
    assert task.state == before
    assert called == []
    task.complete()
    assert called == []
    gate.leave.set()
    assert runner.shutdown(WAIT)


@pytest.mark.parametrize("how", ["start", "reset"])
def test_a_refused_start_takes_nothing_from_a_start_just_after_it(how: str) -> None:
    class Refusing(InlineRunner):
        """Refuses the first run. Another caller comes when that run is over, and not taken back yet."""

        refused = 0

        def submit(self, job: Any) -> None:
            self.refused += 1
            if self.refused > 1:
                super().submit(job)
                return
            job.run.done.add(self)
            raise QueueFull(1)

        def release(self) -> None:
            task.start(lambda task: "other") if how == "start" else task.reset()

    task = BackgroundTask(runner=Refusing())
    called: list[BackgroundTask] = []
    task.on_done(called.append)
    with pytest.raises(QueueFull):
        task.start(lambda task: "refused")
    if how == "reset":
        assert called == []
        task.start(lambda task: "other")
    assert task.result() == "other"
    assert called == [task]


def test_live_objects_cannot_be_copied() -> None:
    task = BackgroundTask()
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="to_dict"):
            copying(task)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError):
        BackgroundTask(timeout=0)
    with pytest.raises(ValueError):
        BackgroundTask(timeout=float("nan"))
    with pytest.raises(ValueError):
        BackgroundTask(max_logs=-1)


def test_state_without_a_task() -> None:
    state = TaskState(running=True, progress=45.678, message="m", logs=["a", "b", "c"])
    record = state.to_dict(max_logs=2)
    assert (record["progress"], record["logs"]) == (45.7, ["b", "c"])
    assert state.to_dict(max_logs=0)["logs"] == []
    assert TaskState().to_dict()["logs"] == []
    odd = TaskState(progress=float("nan"), eta=float("inf"), rate=float("nan"), elapsed=float("inf"))
    json.loads(json.dumps(odd.to_dict(), allow_nan=False))


def test_snapshot_can_be_copied_and_compared() -> None:
    task = BackgroundTask(runner=InlineRunner())
    task.start(lambda task: task.log("line"))
    assert pickle.loads(pickle.dumps(task.state)) == task.state
    assert copy.deepcopy(task.state).logs == ["line"]
    assert "line" in repr(task.state)


class Data:
    """Something large that a target works on."""


KEPT: list[weakref.ref[Data]] = []


def fail_on_data(error: str = "bad") -> None:
    data = Data()
    KEPT.append(weakref.ref(data))
    raise ValueError(error)


def plain(task: BackgroundTask) -> None:
    fail_on_data()


def caused(task: BackgroundTask) -> None:
    try:
        fail_on_data()
    except ValueError as error:
        raise RuntimeError("outer") from error


def in_a_context(task: BackgroundTask) -> None:
    try:
        fail_on_data()
    except ValueError:
        raise RuntimeError("outer") from None


def by_text(task: BackgroundTask) -> None:
    try:
        fail_on_data()
    except ValueError:
        task.fail("bad")


def by_exception(task: BackgroundTask) -> None:
    try:
        fail_on_data()
    except ValueError as error:
        task.fail(error)


def in_a_group(task: BackgroundTask) -> None:
    try:
        fail_on_data()
    except ValueError as error:
        inner = error
    inner.__cause__ = loop = KeyError()
    loop.__cause__ = inner
    group: Any = getattr(builtins, "ExceptionGroup", lambda text, errors: errors[0])
    raise group("two", [inner, group("more", [inner])])


@pytest.mark.parametrize("work", [plain, caused, in_a_context, by_text, by_exception, in_a_group])
def test_a_failed_task_does_not_keep_its_data(work: Callable[[BackgroundTask], None]) -> None:
    task = BackgroundTask(runner=InlineRunner())
    task.start(work)
    assert task.is_failed
    gc.collect()
    assert KEPT.pop()() is None


@pytest.mark.parametrize("work", [plain, caused, by_text, in_a_group])
def test_a_failed_task_does_not_keep_its_arguments(
    runner: ThreadRunner, work: Callable[[BackgroundTask], None]
) -> None:
    task, data = BackgroundTask(runner=runner), Data()
    kept = weakref.ref(data)
    task.start(lambda task, data: work(task), data)
    assert task.wait(WAIT)
    task._run.value_ready.wait(WAIT)
    del data
    assert kept() is None
    assert task.is_failed


def test_a_run_that_was_cancelled_in_its_queue_does_not_keep_its_arguments() -> None:
    runner, gate = ThreadRunner(workers=1), Gate()
    blocker, task, data = BackgroundTask(runner=runner), BackgroundTask(runner=runner), Data()
    kept = weakref.ref(data)
    blocker.start(gate)
    task.start(lambda task, data: None, data)
    del data
    assert kept() is not None
    assert task.cancel()
    assert kept() is None
    gate.leave.set()
    assert runner.shutdown(WAIT)


def test_only_a_run_that_succeeded_keeps_its_value() -> None:
    for end in (lambda task: task.fail("bad"), lambda task: task.cancel(abandon=True)):
        task = BackgroundTask(runner=InlineRunner())
        kept: list[weakref.ref[Data]] = []

        def work(task: BackgroundTask, end: Callable[[BackgroundTask], object] = end, kept: list[Any] = kept) -> Data:
            end(task)
            data = Data()
            kept.append(weakref.ref(data))
            return data

        task.start(work)
        assert kept[0]() is None


@pytest.mark.timeout(20)
def test_a_callback_may_ask_for_the_result() -> None:
    task, got = BackgroundTask(runner=InlineRunner()), []
    task.on_done(lambda task: got.append(task.result(5)))
    task.start(lambda task: "value")
    assert got == ["value"]


@pytest.mark.timeout(20)
def test_a_callback_of_a_run_that_completed_early_does_not_wait_for_its_value(runner: ThreadRunner) -> None:
    task = BackgroundTask(runner=runner)
    got: list[str] = []

    def ask(task: BackgroundTask) -> None:
        assert task.wait()
        with pytest.raises(TaskError) as caught:
            task.result()
        got.append(str(caught.value))

    def work(task: BackgroundTask) -> str:
        task.on_done(ask)
        task.complete()
        return "value"

    task.start(work)
    assert task.result(WAIT) == "value"
    assert got == ["task 'task' would wait for itself"]


def test_texts_have_a_bound() -> None:
    task, huge = BackgroundTask(runner=InlineRunner()), "x" * 1_000_000

    def work(task: BackgroundTask) -> None:
        task.update(message=huge)
        assert len(task.state.message) == MAX_LINE + 1
        with task.step(huge):
            assert len(task.state.steps[0].name) == MAX_LINE + 1
        raise ValueError(huge)

    task.start(work)
    assert len(json.dumps(task.state.to_dict())) < 10_000
    with pytest.raises(TaskFailed) as caught:
        task.result()
    assert len(caught.value.error) == MAX_LINE + 1
    assert len(caught.value.traceback) < 21_000
    assert "in work" in caught.value.traceback
    task.reset()
    task.complete(huge)
    assert len(task.state.message) == MAX_LINE + 1


def test_a_run_that_is_cancelled_just_as_it_begins_does_not_run() -> None:
    calls: list[str] = []

    def clock() -> float:
        calls.append("clock")
        # The second look at the clock is that of the run about to begin.
        if len(calls) == 2:
            task.cancel()
        return 5.0

    task = BackgroundTask(runner=InlineRunner(), clock=clock)
    task.start(lambda task: calls.append("ran"))
    assert "ran" not in calls
    assert task.state.status is Status.CANCELLED


def test_task_is_freed_without_a_collection() -> None:
    gc.disable()
    try:
        task = BackgroundTask(runner=InlineRunner())
        task.start(lambda task: list(task.track([1, 2])))
        gone = weakref.ref(task)
        del task
        assert gone() is None
    finally:
        gc.enable()


def test_a_function_in_place_of_the_name_is_refused_at_once() -> None:
    def crunch(task: BackgroundTask) -> None: ...

    with pytest.raises(TypeError, match=r"BackgroundTask\('crunch'\), then start\(crunch, \.\.\.\)"):
        BackgroundTask(crunch)  # type: ignore[arg-type]
