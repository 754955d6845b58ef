from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from silo_tasks import (
    BackgroundTask,
    InlineRunner,
    MemoryTaskStore,
    QueueFull,
    Runner,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskTimeout,
    ThreadRunner,
)
from silo_tasks.run.remote import RemoteRun

WAIT = 30


class Held:
    """A running task that ends when it is released."""

    def __init__(self, runner: ThreadRunner) -> None:
        self.task = BackgroundTask("held", runner=runner)
        self.leave = threading.Event()
        self.task.start(self.work)

    def work(self, task: BackgroundTask) -> str:
        assert self.leave.wait(WAIT)
        return "value"

    @property
    def waiters(self) -> int:
        """How many wait for the run."""
        return len(self.task._run.done._waiters) + len(self.task._run.value_ready._waiters)


@pytest.fixture
def held(runner: ThreadRunner) -> Iterator[Held]:
    held = Held(runner)
    yield held
    held.leave.set()


async def until_waiting(held: Held, count: int) -> None:
    while held.waiters != count:
        await asyncio.sleep(0)


def test_the_loop_goes_on_while_a_coroutine_waits(held: Held) -> None:
    async def main() -> tuple[bool, bool, Any]:
        soon = await held.task.wait_async(0)
        waiting = asyncio.gather(held.task.wait_async(), held.task.result_async(WAIT))
        await until_waiting(held, 2)
        held.leave.set()
        over, value = await waiting
        return soon, over, value

    assert asyncio.run(main()) == (False, True, "value")
    assert held.waiters == 0


def test_a_thousand_waiters_take_no_thread(held: Held) -> None:
    async def main() -> list[Any]:
        # What is counted are new threads: one of an earlier test may end at any moment.
        before = set(threading.enumerate())
        waiting = asyncio.gather(*(held.task.result_async() for _ in range(1000)))
        await until_waiting(held, 1000)
        assert set(threading.enumerate()) <= before
        held.leave.set()
        return await waiting

    assert asyncio.run(main()) == ["value"] * 1000


def fails(task: BackgroundTask) -> None:
    raise ValueError("bad")


def polls(task: BackgroundTask) -> None:
    while True:
        task.checkpoint()


def test_the_answers_are_those_of_wait_and_result(runner: ThreadRunner) -> None:
    async def main() -> None:
        task = BackgroundTask("answers", runner=runner)
        assert await task.wait_async(0) is True
        with pytest.raises(TaskError, match="has not been started"):
            await task.result_async()
        task.start(fails)
        assert await task.wait_async(WAIT) is True
        with pytest.raises(TaskFailed, match="bad") as failed:
            await task.result_async()
        assert isinstance(failed.value.__cause__, ValueError)
        task.start(polls)
        with pytest.raises(TimeoutError, match=r"'answers' is not over after 0\.01 seconds"):
            await task.result_async(0.01)
        assert await task.wait_async(-1) is False
        task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result_async(WAIT)
        short = BackgroundTask(runner=runner, timeout=0.01)
        short.start(polls)
        with pytest.raises(TaskTimeout):
            await short.result_async(WAIT)

    asyncio.run(main())


def test_the_value_of_a_target_that_completed_early(runner: ThreadRunner) -> None:
    leave = threading.Event()

    def work(task: BackgroundTask) -> int:
        task.complete()
        assert leave.wait(WAIT)
        return 5

    async def main() -> Any:
        task = BackgroundTask(runner=runner)
        task.start(work)
        assert await task.wait_async(WAIT)
        with pytest.raises(TimeoutError):
            await task.result_async(0.01)
        waiting = asyncio.create_task(task.result_async(WAIT))
        while not task._run.value_ready._waiters:
            await asyncio.sleep(0)
        leave.set()
        return await waiting

    assert asyncio.run(main()) == 5


@pytest.mark.parametrize("way", ["wait_async", "result_async"])
def test_a_task_does_not_wait_for_itself(way: str) -> None:
    def work(task: BackgroundTask) -> None:
        with pytest.raises(TaskError, match="wait for itself"):
            asyncio.run(getattr(task, way)())

    task = BackgroundTask(runner=InlineRunner())
    task.start(work)
    task.result()


@pytest.mark.parametrize("timeout", [None, WAIT])
def test_a_cancelled_waiter_leaves_nothing_behind(held: Held, timeout: float | None) -> None:
    async def main() -> None:
        for wait in (held.task.wait_async, held.task.result_async):
            for _ in range(10):
                waiting = asyncio.create_task(wait(timeout))
                await until_waiting(held, 1)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert held.waiters == 0
        for _ in range(10):
            assert not await held.task.wait_async(0)
        assert held.waiters == 0

    asyncio.run(main())


def test_a_closed_loop_harms_no_other(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    def abandon(coroutine: Coroutine[Any, Any, Any]) -> weakref.ref[Any]:
        loop = asyncio.new_event_loop()
        waiting = loop.create_task(coroutine)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))
        assert held.waiters == 1
        loop.close()
        waiting._log_destroy_pending = False  # type: ignore[attr-defined]
        kept.append(waiting)
        return weakref.ref(loop)

    # asyncio logs what other tests have left when it is collected: that is not ours.
    gc.collect()
    caplog.clear()
    kept: list[Any] = []
    loop = abandon(held.task.wait_async())
    held.leave.set()
    assert held.task.wait(WAIT)
    assert held.task.result(WAIT) == "value"
    assert held.waiters == 0
    kept.clear()
    gc.collect()
    assert loop() is None
    assert caplog.records == []


def test_a_run_that_ends_at_the_same_moment(runner: ThreadRunner) -> None:
    async def main() -> None:
        for i in range(2000):
            task = BackgroundTask(runner=runner)
            task.start(lambda task, i: i, i)
            if i % 2:
                assert await task.wait_async(WAIT)
            assert await task.result_async(WAIT) == i

    asyncio.run(main())


def test_a_timeout_at_the_moment_of_the_end(runner: ThreadRunner) -> None:
    async def main() -> None:
        for i in range(300):
            task = BackgroundTask(runner=runner)
            task.start(lambda task: time.sleep(0.001))
            over = await task.wait_async(0.001)
            assert over or await task.wait_async(WAIT), i
            assert task._run.done._waiters == []

    asyncio.run(main())


def test_waiters_of_several_loops_and_threads(held: Held) -> None:
    seen: list[Any] = []
    threads = [
        threading.Thread(target=lambda: seen.append(asyncio.run(held.task.result_async(WAIT)))) for _ in range(4)
    ] + [threading.Thread(target=lambda: seen.append(held.task.result(WAIT))) for _ in range(4)]
    for thread in threads:
        thread.start()
    while held.waiters < 8:
        time.sleep(0)
    held.leave.set()
    for thread in threads:
        thread.join(WAIT)
    assert seen == ["value"] * 8


def test_waiters_of_a_run_that_was_not_accepted_are_released() -> None:
    class Refusing(Runner):
        """Refuses a run only after a thread has begun to wait for it."""

        def submit(self, job: Any) -> None:
            waiting.append(asyncio.run_coroutine_threadsafe(task.wait_async(), loop))
            while not job.run.done._waiters:
                time.sleep(0)
            raise QueueFull(1)

        def shutdown(self, timeout: float | None = None) -> bool:
            return True

    waiting: list[Any] = []
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        task = BackgroundTask(runner=Refusing())
        with pytest.raises(QueueFull):
            task.start(fails)
        assert waiting[0].result(WAIT) is True
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT)
        loop.close()


class Watched(MemoryTaskStore):
    """Notes which threads have read it."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[int] = set()

    def read(self, owner: str, name: str) -> tuple[str, Any] | None:
        self.readers.add(threading.get_ident())
        return super().read(owner, name)


def test_waiting_for_a_run_that_another_process_has_started(runner: ThreadRunner) -> None:
    store, leave = Watched(), threading.Event()
    task = BackgroundTask("task", runner=runner, store=store, owner="me")
    task.start(lambda task: [leave.wait(WAIT), 5][1])
    other = BackgroundTask.attach("task", store, "me")
    assert other is not None
    store.readers.clear()

    async def main() -> Any:
        assert not await other.wait_async(0)
        with pytest.raises(TimeoutError):
            await other.result_async(0)
        waiting = asyncio.gather(other.wait_async(), other.result_async())
        while len(other._run.done._waiters) < 2:
            await asyncio.sleep(0)
        leave.set()
        over, value = await asyncio.wait_for(waiting, WAIT)
        assert over is await other.wait_async(0) is True
        # A store may be slow, and the loop must go on.
        assert threading.get_ident() not in store.readers
        return value

    assert asyncio.run(main()) == 5


def test_watching_again_and_again_asks_the_store_as_seldom_as_waiting(held: Held) -> None:
    class Counted(MemoryTaskStore):
        reads = 0

        def read(self, owner: str, name: str) -> tuple[str, Any] | None:
            self.reads += 1
            return super().read(owner, name)

    store = Counted()
    task = BackgroundTask("task", store=store)
    task.start(held.work)
    other = BackgroundTask.attach("task", store)
    assert other is not None
    assert isinstance(other._run, RemoteRun)
    other._run._since -= 60
    store.reads = 0
    for _ in range(10):
        assert not other.wait(0.03)
    # At the beginning and the end of each, and when a lock wakes up a little early.
    assert 20 <= store.reads <= 40
    held.leave.set()
    assert other.result(WAIT) == "value"


def test_the_last_look_is_after_the_timeout(runner: ThreadRunner) -> None:
    store, leave = Watched(), threading.Event()
    task = BackgroundTask("task", runner=runner, store=store)
    task.start(lambda task: leave.wait(WAIT))
    other = BackgroundTask.attach("task", store)
    assert other is not None

    async def main() -> bool:
        waiting = asyncio.create_task(other.wait_async(0.01))
        while not other._run.done._waiters:
            await asyncio.sleep(0)
        # Over before the loop gets to the timeout, and long before the store is read otherwise.
        leave.set()
        assert task.wait(WAIT)
        while store.read("", "task")[1]["running"]:  # type: ignore[index]
            pass
        return await waiting

    assert asyncio.run(main())


def test_asyncio_is_not_imported_for_threads() -> None:
    code = "import sys, silo_tasks, silo_tasks.console; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
