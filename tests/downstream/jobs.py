"""silo-tasks alone: runners, stores, reports, and what watches a task."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager

from redis import Redis
from silo_tasks import (
    BackgroundTask,
    Cancelled,
    InlineRunner,
    Job,
    LogLine,
    MemoryTaskStore,
    ProcessRunner,
    Runner,
    Status,
    StepState,
    TaskFailed,
    TaskState,
    ThreadRunner,
    current_task,
    step,
    track,
)
from silo_tasks.console import follow, line
from silo_tasks.stores.redis import RedisTaskStore
from typing_extensions import assert_type


def crunch(task: BackgroundTask, rows: list[int], *, scale: float = 1.0) -> float:
    total = 0.0
    task.plan(("Read", 1), ("Write", 3))
    with task.step("Read", weight=2):
        for row in task.track(rows):
            assert_type(row, int)
            total += row * scale
    with task.logging("urllib3", level=logging.INFO, public=True), task.shield():
        task.log("%d rows", len(rows), level="warning")
    task.update(50, "half of {total}", n=1, total=2)
    task.advance()
    task.checkpoint()
    return total


def plain(names: Iterator[str]) -> int:
    count = 0
    for name in track(names, total=10):
        assert_type(name, str)
        with step(name):
            count += 1
    assert_type(current_task(), BackgroundTask | None)
    return count


class Named(BackgroundTask):
    """A task of this project."""

    def greet(self) -> str:
        return f"this is {self.name}"


def greet(task: Named, who: str) -> str:
    return task.greet() + who


class Slow(Runner):
    """A runner of this project."""

    def submit(self, job: Job) -> None:
        job.run.execute()

    def shutdown(self, timeout: float | None = None) -> bool:
        return True


runners: list[Runner] = [ThreadRunner(4), ProcessRunner(workers=2), InlineRunner(), Slow()]
records = RedisTaskStore(Redis(), prefix="tasks")
task = BackgroundTask("crunch", timeout=60, max_logs=10, runner=runners[0], store=MemoryTaskStore(), owner="someone")
task.start(crunch, [1, 2, 3])
task.start(crunch, rows=[1, 2, 3], scale=2)
task.start(lambda task: task.log("from a lambda"))
Named().start(greet, "you")
Named().start(crunch, [1])
named = Named.attach("crunch", records, owner="someone")
assert_type(named, Named | None)


def watch() -> TaskState:
    state = task.state
    assert_type(state.status, Status)
    assert_type(state.steps, list[StepState])
    assert_type(state.total, int | None)
    assert_type(task.logs(since=3), list[LogLine])
    print(line(state), *[each.text for each in task.logs()])
    task.on_done(lambda done: print(done.name))
    if task.is_running and not task.wait(timeout=1):
        assert_type(task.cancel(abandon=True, kill_after=5), bool)
    return follow(task, sys.stdout, interval=0.5, logs=False)


async def wait() -> object:
    try:
        await task.wait_async(1)
        return await task.result_async()
    except TaskFailed as error:
        return error.__cause__
    except Cancelled:
        raise asyncio.CancelledError from None


def steps(task: BackgroundTask) -> AbstractContextManager[None]:
    return task.step("a step")
