"""The log has one line for each run that something other than its own code has ended."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import textwrap
import threading
from typing import Any

import process_jobs as jobs
import pytest
from silo_tasks import (
    BackgroundTask,
    InlineRunner,
    MemoryTaskStore,
    ProcessRunner,
    Status,
    TaskLost,
    ThreadRunner,
)

WAIT = 30
RUN = r"\(run [0-9a-f]{8}\)"


def losses(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log's lines about lost runs."""
    found = [record for record in caplog.records if "is lost" in record.getMessage()]
    assert {record.levelno for record in found} <= {logging.WARNING}
    return [record.getMessage() for record in found]


def store_run(store: MemoryTaskStore, *, wait: float | None = None) -> None:
    assert store.begin("", "sum", "a" * 32, {"running": True, "status": "queued"}, expect=None, wait=wait)


def test_of_many_readers_of_a_lost_run_one_logs_it(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    store = MemoryTaskStore(clock=lambda: now[0])
    store_run(store)
    assert (store.read("", "sum") or ("", {}))[1]["running"]
    assert losses(caplog) == []
    now[0] = 20.0
    together = threading.Barrier(8)

    def look() -> None:
        together.wait(WAIT)
        task = BackgroundTask.attach("sum", store)
        assert task is not None
        assert task.state.error_type == "TaskLost"

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert losses(caplog) == [
        "Task 'sum' (run aaaaaaaa) is lost: no sign of life for 20 seconds: its process has ended or cannot reach the "
        "store"
    ]


def test_a_run_that_no_worker_takes_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    store = MemoryTaskStore(clock=lambda: now[0])
    store_run(store, wait=60)
    now[0] = 61.0
    for _ in range(2):
        assert not (store.read("", "sum") or ("", {}))[1]["running"]
    assert losses(caplog) == ["Task 'sum' (run aaaaaaaa) is lost: no worker has taken it in 60 seconds"]


def test_a_run_that_was_logged_as_lost_may_report_again(caplog: pytest.LogCaptureFixture) -> None:
    """Its process was only cut off from the store for a while."""
    now = [0.0]
    store = MemoryTaskStore(clock=lambda: now[0])
    store_run(store)
    now[0] = 20.0
    store.read("", "sum")
    assert len(losses(caplog)) == 1
    record = {"running": True, "status": "running", "n": 5}
    assert store.publish("", "sum", "a" * 32, record)
    assert store.read("", "sum") == ("a" * 32, record)


class ReadOnly(MemoryTaskStore):
    """A store that refuses changes while ``read_only`` is set, like a replica."""

    def change(self, owner: str, name: str, change: Any) -> bool:
        if self.read_only:
            raise ConnectionError("read only")
        return super().change(owner, name, change)

    read_only = False


def test_a_reader_that_cannot_note_a_loss_leaves_the_line_to_another(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    store = ReadOnly(clock=lambda: now[0])
    store_run(store)
    now[0], store.read_only = 20.0, True
    assert not (store.read("", "sum") or ("", {}))[1]["running"]
    assert losses(caplog) == []
    store.read_only = False
    store.read("", "sum")
    assert len(losses(caplog)) == 1


def test_a_run_that_has_ended_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryTaskStore()
    store_run(store)
    store.publish("", "sum", "a" * 32, {"running": False, "status": "succeeded"})
    store.log_loss("", "sum", "a" * 32, "its worker was revoked")
    assert losses(caplog) == []


def test_shutdown_logs_the_runs_that_it_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    runner, entered = ThreadRunner(workers=1), threading.Event()
    names = ("running", "queued", "cancelled")
    tasks = [BackgroundTask(name, runner=runner) for name in names]

    def work(task: BackgroundTask) -> None:
        entered.set()
        for _ in task.track(iter(int, 1)):
            pass

    for task in tasks:
        task.start(work)
    assert entered.wait(WAIT)
    tasks[2].cancel()  # by the application, so it is not lost
    assert not runner.shutdown(0)
    assert tasks[0].wait(WAIT)
    assert runner.join(WAIT)
    assert [task.state.status for task in tasks] == [Status.CANCELLED] * 3
    lines = sorted(losses(caplog))
    assert len(lines) == 2
    for name, line in zip(("queued", "running"), lines, strict=True):
        assert re.fullmatch(rf"Task '{name}' {RUN} is lost: its runner was shut down", line)


def test_a_run_cancelled_before_a_shutdown_or_over_in_time_is_not_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runner, entered, leave = ThreadRunner(workers=2), threading.Event(), threading.Event()
    asked, done = BackgroundTask("asked", runner=runner), BackgroundTask("done", runner=runner)

    def work(task: BackgroundTask) -> None:
        entered.set()
        assert leave.wait(WAIT)
        if task is asked:
            task.checkpoint()

    done.start(work)
    assert entered.wait(WAIT)
    entered.clear()
    asked.start(work)
    assert entered.wait(WAIT)
    asked.cancel()
    assert not runner.shutdown(0)
    leave.set()
    assert runner.join(WAIT)
    assert (asked.state.status, done.state.status) == (Status.CANCELLED, Status.SUCCEEDED)
    assert losses(caplog) == []


AT_EXIT = """
import itertools, threading
from silo_tasks import BackgroundTask, Cancelled, MemoryTaskStore, ThreadRunner

if __name__ == "__main__":
    entered = threading.Barrier(4)

    def cooperative(task):
        entered.wait()
        for _ in task.track(itertools.count()):
            threading.Event().wait(0.001)

    def stubborn(task):
        entered.wait()
        threading.Event().wait()

    def returns(task):
        entered.wait()
        try:
            while True:
                task.checkpoint()
        except Cancelled:
            return "succeeded"

    runner, store = ThreadRunner(workers=3, drain_timeout=0.05), MemoryTaskStore()
    for work in (cooperative, stubborn, returns):
        BackgroundTask(work.__name__, runner=runner, store=store).start(work)
    entered.wait()
    runner2 = ThreadRunner(workers=1, drain_timeout=0.05)
    entered = threading.Barrier(2)
    BackgroundTask("first", runner=runner2).start(stubborn)
    entered.wait()
    BackgroundTask("queued", runner=runner2).start(cooperative)
"""


@pytest.mark.slow
def test_exit_logs_the_runs_that_it_has_ended() -> None:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(AT_EXIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT)
    assert done.returncode == 0
    lines = sorted(re.sub(RUN, "", line) for line in done.stderr.splitlines())
    left = " is lost: its process ended before it was over"
    assert lines == [
        "Task 'cooperative'  is lost: its process was stopped",
        f"Task 'first' {left}",
        f"Task 'queued' {left}",
        f"Task 'stubborn' {left}",
    ]


def test_a_killed_process_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    runner, store = ProcessRunner(workers=1), MemoryTaskStore()
    task = BackgroundTask("crunch", runner=runner, store=store)
    task.start(jobs.die, "kill")
    with pytest.raises(TaskLost):
        task.result(WAIT)
    assert runner.shutdown(WAIT)
    assert (store.read("", "crunch") or ("", {}))[1]["error_type"] == "TaskLost"
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(rf"Task 'crunch' {RUN} is lost: its process was ended by SIGKILL", line)
    assert losses(caplog) == [line]


def test_a_task_that_has_waited_for_a_lost_one_fails_and_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    def work(task: BackgroundTask) -> None:
        raise TaskLost("lost: the other one", "TaskLost")

    task = BackgroundTask("waits", runner=InlineRunner())
    task.start(work)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert re.fullmatch(rf"Task 'waits' {RUN} failed: TaskLost: lost: the other one", record.getMessage())
