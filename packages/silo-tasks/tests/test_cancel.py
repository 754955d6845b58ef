from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from silo_tasks import (
    BackgroundTask,
    Cancelled,
    InlineRunner,
    Status,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskRunning,
    TaskTimeout,
    ThreadRunner,
    current_task,
)

WAIT = 30


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def cancelled_by(call: Callable[[BackgroundTask], object]) -> bool:
    """Return whether a cancelled run stops at this call."""
    task, passed = BackgroundTask(runner=InlineRunner()), []

    def work(task: BackgroundTask) -> None:
        assert task.cancel()
        call(task)
        passed.append(True)

    task.start(work)
    return task.state.status is Status.CANCELLED and not passed


@pytest.mark.parametrize(
    "call",
    [
        lambda task: task.update(progress=1),
        lambda task: task.advance(),
        lambda task: task.log("x"),
        lambda task: task.checkpoint(),
        lambda task: list(task.track([1])),
        lambda task: task.step("x").__enter__(),
        lambda task: task.shield().__enter__(),
    ],
    ids=["update", "advance", "log", "checkpoint", "track", "step", "shield"],
)
def test_cancel_is_seen_at(call: Callable[[BackgroundTask], object]) -> None:
    assert cancelled_by(call)


def test_except_exception_does_not_swallow_a_cancel() -> None:
    def call(task: BackgroundTask) -> None:
        with contextlib.suppress(Exception):
            task.checkpoint()

    assert cancelled_by(call)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs asyncio.TaskGroup")
@pytest.mark.parametrize("broken", [False, True])
def test_a_cancel_that_comes_out_of_a_task_group(broken: bool) -> None:
    task = BackgroundTask(runner=InlineRunner())

    async def part() -> None:
        try:
            task.checkpoint()
        finally:
            if broken:
                raise ValueError("real")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined, unused-ignore]
            for _ in range(2):
                group.create_task(part())

    def work(task: BackgroundTask) -> None:
        task.cancel()
        asyncio.run(main())

    task.start(work)
    assert task.state.status is (Status.FAILED if broken else Status.CANCELLED)


def test_cancelled_state_and_result(runner: ThreadRunner) -> None:
    task, entered, go_on = BackgroundTask("x", runner=runner), threading.Event(), threading.Event()

    def work(task: BackgroundTask) -> None:
        task.update(progress=40)
        entered.set()
        assert go_on.wait(WAIT)
        task.checkpoint()

    task.start(work)
    assert entered.wait(WAIT)
    assert task.cancel()
    assert task.is_running
    # A watcher that reports is not the one to be stopped.
    task.update(message="stopping")
    assert task.state.message == "stopping"
    go_on.set()
    with pytest.raises(TaskCancelled):
        task.result(WAIT)
    state = task.state
    assert (state.status, state.running, state.complete, state.error) == (Status.CANCELLED, False, False, None)
    assert (state.progress, state.message) == (40.0, "Cancelled")
    assert not task.is_failed
    assert not task.cancel()


def test_a_target_that_returns_in_spite_of_cancel_has_succeeded() -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> str:
        task.cancel()
        return "done anyway"

    task.start(work)
    assert task.result() == "done anyway"


def test_nothing_to_cancel() -> None:
    task = BackgroundTask()
    assert not task.cancel()
    assert not task.cancel(abandon=True)
    assert task.state.status is Status.IDLE


def test_a_cancelled_queued_run_never_runs() -> None:
    runner, leave, ran = ThreadRunner(workers=1), threading.Event(), []
    blocker, task = BackgroundTask(runner=runner), BackgroundTask(runner=runner)
    blocker.start(lambda task: leave.wait(WAIT))
    called: list[Status] = []
    task.on_done(lambda task: called.append(task.state.status))
    task.start(lambda task: ran.append("first"))
    assert task.cancel()
    assert task.wait(0)
    assert called == [Status.CANCELLED]
    with pytest.raises(TaskCancelled):
        task.result(0)
    task.start(lambda task: ran.append("second"))
    leave.set()
    assert task.wait(WAIT)
    assert runner.shutdown(WAIT)
    assert ran == ["second"]


def test_shield_delays_a_cancel() -> None:
    task = BackgroundTask(runner=InlineRunner())
    done: list[str] = []

    def work(task: BackgroundTask) -> None:
        for _ in task.track([1, 2, 3]):
            with task.shield():
                task.cancel()
                with task.shield():
                    done.extend(task.track("ab"))
                task.update(progress=1)
                task.log("still here")
                task.checkpoint()
                done.append("saved")
            done.append("never")

    task.start(work)
    assert done == ["a", "b", "saved"]
    assert task.state.status is Status.CANCELLED
    assert task.state.logs == ["still here"]


def test_shield_lets_an_error_through() -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        with task.shield():
            task.cancel()
            raise ValueError("real")

    task.start(work)
    assert task.state.error == "real"


def test_loop_that_was_open_before_the_shield_stops_after_it() -> None:
    task, seen = BackgroundTask(runner=InlineRunner()), []

    def work(task: BackgroundTask) -> None:
        items = task.track(iter(range(5)))
        with task.shield():
            seen.append(next(items))
            task.cancel()
            seen.append(next(items))

    task.start(work)
    assert seen == [0, 1]
    assert task.state.status is Status.CANCELLED


def test_cancel_reaches_asyncio_and_threads_with_the_context(runner: ThreadRunner) -> None:
    task = BackgroundTask(runner=runner)
    seen: list[object] = []

    async def inside() -> None:
        seen.append(current_task())

    def work(task: BackgroundTask) -> None:
        asyncio.run(inside())

        def helper() -> None:
            try:
                task.update(progress=1)
            except Cancelled:
                seen.append("stopped")

        task.cancel()
        thread = threading.Thread(target=contextvars.copy_context().run, args=(helper,))
        thread.start()
        thread.join(WAIT)

    task.start(work)
    assert task.wait(WAIT)
    assert seen == [task, "stopped"]


def test_deadline_fails_a_run_that_does_not_cooperate(runner: ThreadRunner) -> None:
    task, leave, called = BackgroundTask("x", timeout=0.05, runner=runner), threading.Event(), threading.Event()
    task.on_done(lambda task: called.set())
    task.start(lambda task: leave.wait(WAIT))
    with pytest.raises(TaskTimeout) as caught:
        task.result(WAIT)
    assert isinstance(caught.value, TaskFailed)
    assert not isinstance(caught.value, TimeoutError)
    assert called.wait(WAIT)
    state = task.state
    assert (state.status, state.error, state.error_type) == (
        Status.FAILED,
        "took longer than 0.05 seconds",
        "TaskTimeout",
    )
    leave.set()


def test_a_deadline_by_another_clock_comes_without_a_reader(runner: ThreadRunner) -> None:
    clock, leave, called = Clock(), threading.Event(), threading.Event()
    task = BackgroundTask(timeout=0.001, runner=runner, clock=clock)
    task.on_done(lambda task: called.set())
    task.start(lambda task: leave.wait(WAIT))
    run = task._run
    while run.stop._alarm is None:
        time.sleep(0)
    first = run.stop._alarm
    while run.stop._alarm is first:
        # By the time of this world the deadline has passed.
        time.sleep(0)
    assert not called.is_set()
    clock.now += 1
    assert called.wait(WAIT)
    assert task.is_failed
    leave.set()


@pytest.mark.parametrize(
    "timeout",
    [Decimal("3600.5"), Fraction(7201, 2), 3600.5, float("inf"), 10**300],
    ids=["decimal", "fraction", "float", "infinity", "large"],
)
def test_a_deadline_of_any_number(timeout: Any) -> None:
    task = BackgroundTask(timeout=timeout, runner=InlineRunner())
    task.start(lambda task: "in time")
    assert task.result() == "in time"
    with pytest.raises(OverflowError):
        BackgroundTask(timeout=10**400)


def test_a_long_deadline_is_given_in_seconds() -> None:
    clock = Clock()
    task = BackgroundTask(timeout=1_209_600.5, runner=InlineRunner(), clock=clock)

    def work(task: BackgroundTask) -> None:
        clock.now += 1_209_601
        assert task.is_failed

    task.start(work)
    assert task.state.error == "took longer than 1209600.5 seconds"


def test_worker_past_its_deadline_stops_at_its_next_item(runner: ThreadRunner) -> None:
    task, over, taken, stopped = BackgroundTask(timeout=0.05, runner=runner), threading.Event(), [], threading.Event()

    def work(task: BackgroundTask) -> None:
        try:
            for i in task.track([1, 2, 3]):
                taken.append(i)
                assert over.wait(WAIT)
        finally:
            stopped.set()

    task.start(work)
    assert task.wait(WAIT)
    # The old code is still in its loop, and a new run can begin.
    task.start(lambda task: "new")
    assert task.result(WAIT) == "new"
    over.set()
    assert stopped.wait(WAIT)
    assert taken == [1]
    assert task.state.status is Status.SUCCEEDED


def test_a_reader_never_sees_an_overdue_run_as_running(runner: ThreadRunner) -> None:
    for look in ("state", "is_running", "is_failed", "wait"):
        clock = Clock()
        task = BackgroundTask(timeout=3600, runner=runner, clock=clock)
        entered, leave = threading.Event(), threading.Event()

        def work(task: BackgroundTask, entered: threading.Event = entered, leave: threading.Event = leave) -> None:
            entered.set()
            leave.wait(WAIT)

        task.start(work)
        assert entered.wait(WAIT)
        clock.now += 3599
        assert task.is_running
        clock.now += 1
        if look == "state":
            assert task.state.status is Status.FAILED
        elif look == "is_running":
            assert not task.is_running
        elif look == "is_failed":
            assert task.is_failed
        else:
            assert task.wait(0)
        leave.set()


def test_time_in_the_queue_does_not_count() -> None:
    runner, leave, clock = ThreadRunner(workers=1), threading.Event(), Clock()
    blocker, task = BackgroundTask(runner=runner), BackgroundTask(timeout=10, runner=runner, clock=clock)
    blocker.start(lambda task: leave.wait(WAIT))
    task.start(lambda task: "in time")
    clock.now += 100
    assert task.is_running
    leave.set()
    assert task.result(WAIT) == "in time"
    assert runner.shutdown(WAIT)


def test_a_run_in_time_leaves_no_alarm() -> None:
    from silo_tasks.timer import deadlines

    task = BackgroundTask(timeout=3600, runner=InlineRunner())
    for _ in range(1000):
        task.start(lambda task: None)
    assert task.is_complete
    assert len(deadlines._heap) < 300
    assert all(alarm.call is None for _, _, alarm in deadlines._heap)


def test_result_of_a_failure_carries_the_cause() -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        big = object()
        raise ValueError("bad row", big)

    task.start(work)
    for _ in range(2):
        with pytest.raises(TaskFailed, match="bad row") as caught:
            task.result()
        failed = caught.value
        assert failed.error == str(failed.__cause__)
        assert failed.error_type == "ValueError"
        assert failed.traceback.startswith("Traceback")
        assert "in work" in failed.traceback
        assert "_run.py" not in failed.traceback
        assert type(failed.__cause__) is ValueError


def test_fail_inside_except_keeps_the_cause() -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        try:
            raise KeyError("key")
        except KeyError:
            task.fail("no such key")

    task.start(work)
    with pytest.raises(TaskFailed, match="no such key") as caught:
        task.result()
    assert (caught.value.error_type, type(caught.value.__cause__)) == ("KeyError", KeyError)
    task.fail("after the end")
    assert task.state.error == "no such key"


def test_fail_with_an_exception() -> None:
    task = BackgroundTask()
    task.fail(OSError("disk"))
    assert (task.state.error, task.state.error_type) == ("disk", "OSError")


def test_waiting_in_vain(runner: ThreadRunner) -> None:
    task, leave = BackgroundTask(runner=runner), threading.Event()
    assert task.wait(0)
    with pytest.raises(TaskError, match="not been started"):
        task.result()
    task.start(lambda task: leave.wait(WAIT))
    assert not task.wait(0)
    assert not task.wait(0.001)
    with pytest.raises(TimeoutError):
        task.result(0.001)
    leave.set()
    assert task.result(WAIT) is True


def test_many_waiters_are_released(runner: ThreadRunner) -> None:
    task, leave, ready = BackgroundTask(runner=runner), threading.Event(), threading.Barrier(9)
    task.start(lambda task: leave.wait(WAIT) and "value")
    got: list[object] = []

    def waiter() -> None:
        ready.wait(WAIT)
        got.append(task.result(WAIT))

    threads = [threading.Thread(target=waiter) for _ in range(8)]
    for thread in threads:
        thread.start()
    ready.wait(WAIT)
    leave.set()
    for thread in threads:
        thread.join(WAIT)
    assert got == ["value"] * 8


def test_a_run_does_not_wait_for_itself() -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        with pytest.raises(TaskError, match="itself"):
            task.wait()
        with pytest.raises(TaskError, match="itself"):
            task.result()
        with pytest.raises(TaskRunning):
            task.reset()

    task.start(work)
    assert task.state.error is None


def test_keyboard_interrupt_goes_on_to_an_inline_caller() -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        task.start(work)
    assert task.state.error == "KeyboardInterrupt"
