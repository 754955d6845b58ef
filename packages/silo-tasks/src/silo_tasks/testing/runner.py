"""The contract suites for runners."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import TaskError
from ..fitting import check_runner
from ..reporting import step, track
from ..run.job import Job
from ..runners.base import Runner
from ..status import Status
from ..task import BackgroundTask, current_task
from .wait import WAIT


class PlainRun:
    """A run that records what a runner does with it.

    Args:
        body: Called by ``execute()`` only.

    Attributes:
        executed: How often the runner has executed the run.
        cancelled: Whether the runner has asked the run to stop.
        done: Set when the body has ended.
    """

    token = "token"  # noqa: S105 - the name of a run, not a secret

    def __init__(self, body: Callable[[], object]) -> None:
        self.body = body
        self.executed: int = 0
        self.done: threading.Event = threading.Event()
        self.cancelled: bool = False

    def job(self) -> Job:
        """Return the job for the runner."""
        return Job(self, "job", "'job'", "", 1, self.body, (), {}, None, 1000, 0, frozenset())

    def execute(self) -> None:
        """Run the body."""
        self.executed += 1
        try:
            self.body()
        finally:
            self.done.set()

    def cancel(self) -> bool:
        """Record the request."""
        self.cancelled = True
        return not self.done.is_set()

    def will_stop(self, reason: str) -> None:
        """Do nothing: this run logs nothing."""

    def left_behind(self) -> None:
        """Do nothing: this run logs nothing."""


# At the top level, so that another process or a worker can import them.


def _fail(task: BackgroundTask) -> None:
    raise ValueError(f"{task.name} fails on purpose")


def _log_and_raise(task: BackgroundTask, kind: str) -> None:
    task.log("mine")
    with task.logging("silo_tasks.testing.contract"):
        logging.getLogger("silo_tasks.testing.contract").error("of a library")
    raise {"ValueError": ValueError, "ZeroDivisionError": ZeroDivisionError}[kind]("some text")


def _fail_with_text(task: BackgroundTask) -> None:
    task.fail("for everyone")


def _return_fine(task: BackgroundTask) -> str:
    return f"{task.name} is fine"


def _give_back(task: BackgroundTask, a: object, *, b: object) -> tuple[str, object, object]:
    return task.name, a, b


def _note(task: BackgroundTask, path: str) -> None:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{task.name}\n")


def _report(task: BackgroundTask, count: int) -> int:
    task.plan(("Read", 1), ("Add", 3))
    with step("Read"):
        task.log("reading %d", count, level="debug")
    with step("Add"):
        task.update(message="{n} of {total}")
        return sum(track(range(count)))


def _see_itself(task: BackgroundTask) -> bool:
    return current_task() is task


class RunnerContract:
    """The rules of ``Runner``."""

    def make_runner(self) -> Runner:
        """Return a fresh runner."""
        raise NotImplementedError

    def run_one(self, runner: Runner) -> None:
        """Check that the runner executes a run."""
        task = BackgroundTask("contract", runner=runner)
        task.start(_return_fine)
        assert task.result(WAIT) == "contract is fine"

    def test_is_a_runner(self) -> None:
        """The methods take the arguments of ``Runner``, and a run is executed."""
        runner = self.make_runner()
        check_runner(runner)
        self.run_one(runner)
        assert runner.shutdown(WAIT)

    def test_making_one_starts_no_thread(self) -> None:
        """Construction is free of side effects."""
        before = threading.active_count()
        runner = self.make_runner()
        assert threading.active_count() <= before
        self.run_one(runner)
        assert runner.shutdown(WAIT)

    def test_each_run_is_executed_once(self) -> None:
        """Nothing is lost and nothing runs twice."""
        runner = self.make_runner()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "notes")
            tasks = [BackgroundTask(str(i), runner=runner) for i in range(50)]
            for task in tasks:
                task.start(_note, str(path))
            assert all(task.wait(WAIT) for task in tasks)
            assert runner.shutdown(WAIT)
            assert sorted(path.read_text("utf-8").split()) == sorted(task.name for task in tasks)

    def test_shutdown_waits_for_accepted_runs(self) -> None:
        """Accepted runs are executed before shutdown returns True."""
        runner = self.make_runner()
        tasks = [BackgroundTask(runner=runner) for _ in range(20)]
        for task in tasks:
            task.start(_return_fine)
        assert runner.shutdown(WAIT)
        assert all(task.state.complete for task in tasks)

    def test_nothing_is_accepted_after_shutdown(self) -> None:
        """A closed runner raises an error, and the task is as it was."""
        runner = self.make_runner()
        self.run_one(runner)
        assert runner.shutdown(WAIT)
        task = BackgroundTask(runner=runner)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "notes")
            try:
                task.start(_note, str(path))
            except TaskError:
                assert not path.exists()
            else:
                raise AssertionError("a runner that was shut down accepted a run")
        assert task.state.status is Status.IDLE

    def test_shutdown_twice_is_harmless(self) -> None:
        """The second call finds nothing to do."""
        runner = self.make_runner()
        self.run_one(runner)
        assert runner.shutdown(WAIT)
        assert runner.shutdown(WAIT)

    def test_a_failing_target_is_in_the_state(self) -> None:
        """``start()`` does not raise the target's error, and the next run is unharmed."""
        runner = self.make_runner()
        task = BackgroundTask("contract", runner=runner)

        task.start(_fail)
        assert task.wait(WAIT)
        assert (task.state.error, task.state.error_type) == ("contract fails on purpose", "ValueError")
        task.start(_return_fine)
        assert task.result(WAIT) == "contract is fine"
        assert runner.shutdown(WAIT)

    def test_whether_an_error_is_public_is_known(self) -> None:
        """The process in which the run fails decides, by the classes that the task names. The same holds for lines."""
        runner = self.make_runner()
        task = BackgroundTask("contract", runner=runner, public_errors=(ArithmeticError, KeyError))
        for kind in ("ValueError", "ZeroDivisionError"):
            task.start(_log_and_raise, kind)
            assert task.wait(WAIT)
            state, public = task.state, kind == "ZeroDivisionError"
            assert (state.error, state.error_type, state.error_public) == ("some text", kind, public)
            assert [(line.text, line.public) for line in task.logs()] == [("mine", True), ("of a library", False)]
            shown = state.to_dict(public=True)
            assert shown["error"] == ("some text" if public else "The task failed")
            assert shown["logs"] == ["mine"]
        task.start(_fail_with_text)
        assert task.wait(WAIT)
        assert (task.state.to_dict(public=True)["error"], task.state.error_public) == ("for everyone", True)
        assert runner.shutdown(WAIT)

    def test_arguments_and_result_get_through(self) -> None:
        """The target gets its task first, then its arguments."""
        runner = self.make_runner()
        task = BackgroundTask("contract", runner=runner)
        task.start(_give_back, 1, b={"x": (2, None)})
        assert task.result(WAIT) == ("contract", 1, {"x": (2, None)})
        assert runner.shutdown(WAIT)

    def test_what_a_run_reports_is_in_the_state(self) -> None:
        """Steps, counts, message and log are there at the end, and the next run continues the log's numbers."""
        runner = self.make_runner()
        task = BackgroundTask("contract", runner=runner)
        for run in (1, 2):
            task.start(_report, 5)
            assert task.result(WAIT) == 10
            state = task.state
            assert (state.status, state.run, state.progress) == (Status.SUCCEEDED, run, 100.0)
            assert [(each.name, each.status) for each in state.steps] == [("Read", "done"), ("Add", "done")]
            assert (state.n, state.total, state.message) == (5, 5, "5 of 5")
            assert [(line.seq, line.level, line.text) for line in task.logs()] == [(run, "debug", "reading 5")]
        assert runner.shutdown(WAIT)

    def test_callbacks_are_called_once(self) -> None:
        """A callback gets the task to which it was added."""
        runner = self.make_runner()
        task = BackgroundTask("contract", runner=runner)
        called: list[BackgroundTask] = []
        over = threading.Event()
        task.on_done(called.append)
        task.on_done(lambda _: over.set())
        task.start(_return_fine)
        assert over.wait(WAIT)
        assert runner.shutdown(WAIT)
        assert called == [task]

    def test_the_task_is_the_current_one(self) -> None:
        """Code that does not get the task as an argument finds it."""
        runner = self.make_runner()
        task = BackgroundTask("contract", runner=runner)
        task.start(_see_itself)
        assert task.result(WAIT)
        assert runner.shutdown(WAIT)


class LocalRunnerContract(RunnerContract):
    """The rules of a ``Runner`` that executes jobs in this process."""

    def test_each_job_is_executed_once(self) -> None:
        """Nothing is lost and nothing runs twice."""
        runner = self.make_runner()
        runs = [PlainRun(lambda: None) for _ in range(50)]
        for run in runs:
            runner.submit(run.job())
        assert all(run.done.wait(WAIT) for run in runs)
        assert runner.shutdown(WAIT)
        assert [run.executed for run in runs] == [1] * 50

    def test_shutdown_waits_for_accepted_jobs(self) -> None:
        """Accepted jobs are executed before shutdown returns True."""
        runner = self.make_runner()
        runs = [PlainRun(lambda: None) for _ in range(20)]
        for run in runs:
            runner.submit(run.job())
        assert runner.shutdown(WAIT)
        assert all(run.executed == 1 for run in runs)

    def test_a_job_is_refused_after_shutdown(self) -> None:
        """A closed runner raises an error."""
        runner = self.make_runner()
        accepted = PlainRun(lambda: None)
        runner.submit(accepted.job())
        assert runner.shutdown(WAIT)
        assert accepted.executed == 1
        run = PlainRun(lambda: None)
        try:
            runner.submit(run.job())
        except TaskError:
            assert run.executed == 0
        else:
            raise AssertionError("a runner that was shut down accepted a job")

    def test_a_value_is_the_very_object(self) -> None:
        """The runner copies no value."""
        runner = self.make_runner()
        task = BackgroundTask("contract", runner=runner)
        value = object()
        task.start(lambda _: value)
        assert task.result(WAIT) is value
        assert runner.shutdown(WAIT)
