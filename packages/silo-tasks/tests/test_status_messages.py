"""What a run says that says nothing, and what is said of one that fails."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import process_jobs
import pytest
from silo_tasks import BackgroundTask, InlineRunner, Job, ProcessRunner, Runner, Status, ThreadRunner

WAIT = 30


def test_a_run_waits_for_a_thread_then_runs_then_is_done(runner: ThreadRunner) -> None:
    one, leave, entered = ThreadRunner(workers=1), threading.Event(), threading.Event()
    first, second = BackgroundTask("first", runner=one), BackgroundTask("second", runner=one)

    def work(task: BackgroundTask) -> None:
        entered.set()
        assert leave.wait(WAIT)

    first.start(work)
    second.start(work)
    assert entered.wait(WAIT)
    assert (first.state.message, second.state.message) == ("Running", "Waiting for a thread")
    assert second.state.to_dict(public=True)["message"] == "Waiting for a thread"
    leave.set()
    assert one.shutdown(WAIT)
    assert (first.state.message, second.state.message) == ("Done", "Done")


def test_a_run_waits_for_a_process_then_runs(tmp_path: Path) -> None:
    runner, gate = ProcessRunner(workers=1), tmp_path / "gate"
    first, second = BackgroundTask("first", runner=runner), BackgroundTask("second", runner=runner)
    first.start(process_jobs.hold, str(gate))
    second.start(process_jobs.hold, str(gate))
    while not first.state.logs:  # by then it has reported
        assert not first.wait(0.005)
    assert first.state.status is Status.RUNNING
    assert (first.state.message, second.state.message) == ("Running", "Waiting for a process")
    gate.touch()
    assert runner.shutdown(WAIT)


def test_a_runner_may_name_what_its_runs_wait_for() -> None:
    jobs: list[Job] = []

    class Later(Runner):
        def submit(self, job: Job) -> None:
            jobs.append(job)

        def shutdown(self, timeout: float | None = None) -> bool:
            return True

    class Worded(Later):
        waiting = "Waiting for the night"

    plain, worded = BackgroundTask("plain", runner=Later()), BackgroundTask("worded", runner=Worded())
    plain.start(lambda task: None)
    worded.start(lambda task: None)
    assert (plain.state.message, worded.state.message) == ("Waiting", "Waiting for the night")
    for job in jobs:
        job.run.execute()
    assert plain.state.message == "Done"


def test_a_message_that_equals_the_default_stays() -> None:
    task = BackgroundTask(runner=InlineRunner())
    task.start(lambda task: task.update(message="Running"))
    assert task.state.message == "Running"


class Missing(KeyError):
    def __str__(self) -> str:
        return "there is no column B"


@pytest.mark.parametrize(
    ("error", "message", "log"),
    [
        (KeyError("a"), "Failed: KeyError: 'a'", "KeyError: 'a'"),
        (KeyError(), "Failed: KeyError", "KeyError"),
        (Missing("B"), "Failed: there is no column B", "Missing: there is no column B"),
        (ValueError("bad row"), "Failed: bad row", "ValueError: bad row"),
    ],
    ids=["key", "nothing", "words", "other"],
)
@pytest.mark.parametrize("how", ["raise", "fail"])
def test_the_log_gives_the_class_of_an_error_and_a_message_only_of_a_bare_key(
    error: Exception, message: str, log: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    def work(task: BackgroundTask) -> None:
        if how == "fail":
            task.fail(error)
        else:
            raise error

    task = BackgroundTask("rows", runner=InlineRunner())
    task.start(work)
    assert task.state.message == message
    assert task.state.to_dict(public=True)["message"] == "The task failed"
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(rf"Task 'rows' \(run [0-9a-f]{{8}}\) failed: {re.escape(log)}", line)


@pytest.mark.parametrize("given", [KeyError, ValueError])
def test_the_text_for_clients_has_no_class(given: type[Exception]) -> None:
    def work(task: BackgroundTask) -> None:
        raise given("a")

    task = BackgroundTask(runner=InlineRunner(), public_errors=given)
    task.start(work)
    public = task.state.to_dict(public=True)
    assert (public["message"], public["error"]) == (f"Failed: {task.state.error}", task.state.error)
    assert given.__name__ not in public["message"]


def test_a_text_for_clients_is_logged_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "silo_tasks")

    def work(task: BackgroundTask) -> None:
        try:
            raise KeyError("a")
        except KeyError:
            task.fail("no column A")

    task = BackgroundTask("rows", runner=InlineRunner())
    task.start(work)
    assert task.state.message == "Failed: no column A"
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.endswith("failed: no column A")
