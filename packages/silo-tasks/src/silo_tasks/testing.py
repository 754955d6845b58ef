"""What every runner and every task store must do, as test classes.

Derive from a contract in a test module and say how to make the thing; pytest runs the rest. Nothing here needs pytest.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import TaskError
from .reporting import step, track
from .run.job import Job
from .runners.base import Runner
from .status import Status
from .stores.base import TaskStore
from .task import BackgroundTask, current_task

WAIT = 30.0
"""Seconds after which a test gives up waiting for something that must happen."""


class PlainRun:
    """A run that notes what a runner does with it.

    Args:
        body: Called by `execute()`, and by nothing else.

    Attributes:
        executed: How often the runner has executed it.
        cancelled: Whether the runner has asked it to stop.
        done: Set when the body has ended.
    """

    token = "token"  # noqa: S105 - the name of a run, not a secret

    def __init__(self, body: Callable[[], object]) -> None:
        self.body = body
        self.executed = 0
        self.done = threading.Event()
        self.cancelled = False

    def job(self) -> Job:
        """Return what a runner gets."""
        return Job(self, "job", "'job'", "", 1, self.body, (), {}, None, 1000, 0, frozenset())

    def execute(self) -> None:
        """Run the body."""
        self.executed += 1
        try:
            self.body()
        finally:
            self.done.set()

    def cancel(self) -> bool:
        """Note the request."""
        self.cancelled = True
        return not self.done.is_set()

    def will_stop(self, reason: str) -> None:
        """Do nothing: this run logs nothing."""

    def left_behind(self) -> None:
        """Do nothing: this run logs nothing."""


# Functions that a process of its own or a worker can import as well.


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
    """The rules of `Runner`."""

    def make_runner(self) -> Runner:
        """Return a fresh runner."""
        raise NotImplementedError

    def test_making_one_starts_no_thread(self) -> None:
        """Construction is free of side effects."""
        before = threading.active_count()
        self.make_runner()
        assert threading.active_count() <= before

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
        """What was accepted is executed before shutdown returns True."""
        runner = self.make_runner()
        tasks = [BackgroundTask(runner=runner) for _ in range(20)]
        for task in tasks:
            task.start(_return_fine)
        assert runner.shutdown(WAIT)
        assert all(task.state.complete for task in tasks)

    def test_nothing_is_accepted_after_shutdown(self) -> None:
        """A closed runner says so, and the task is as it was."""
        runner = self.make_runner()
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
        assert runner.shutdown(WAIT)
        assert runner.shutdown(WAIT)

    def test_a_failing_target_is_in_the_state(self) -> None:
        """What a target raises does not come out of `start()`, and the next run is unharmed."""
        runner = self.make_runner()
        task = BackgroundTask("contract", runner=runner)

        task.start(_fail)
        assert task.wait(WAIT)
        assert (task.state.error, task.state.error_type) == ("contract fails on purpose", "ValueError")
        task.start(_return_fine)
        assert task.result(WAIT) == "contract is fine"
        assert runner.shutdown(WAIT)

    def test_whether_an_error_is_public_is_known(self) -> None:
        """The process in which the run fails decides, by the classes that the task names; so it is with log lines."""
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
        """Steps, counts, message and log are there at the end, and log numbers go on with the next run."""
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
        """By whom is not said, but with the task of whoever added them."""
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
        """Code that is not handed the task finds it."""
        runner = self.make_runner()
        task = BackgroundTask("contract", runner=runner)
        task.start(_see_itself)
        assert task.result(WAIT)
        assert runner.shutdown(WAIT)


class LocalRunnerContract(RunnerContract):
    """The rules of a `Runner` that executes jobs in this process."""

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
        """What was accepted is executed before shutdown returns True."""
        runner = self.make_runner()
        runs = [PlainRun(lambda: None) for _ in range(20)]
        for run in runs:
            runner.submit(run.job())
        assert runner.shutdown(WAIT)
        assert all(run.executed == 1 for run in runs)

    def test_a_job_is_refused_after_shutdown(self) -> None:
        """A closed runner says so."""
        runner = self.make_runner()
        assert runner.shutdown(WAIT)
        run = PlainRun(lambda: None)
        try:
            runner.submit(run.job())
        except TaskError:
            assert run.executed == 0
        else:
            raise AssertionError("a runner that was shut down accepted a job")

    def test_a_value_is_the_very_object(self) -> None:
        """Nothing is copied on its way."""
        runner = self.make_runner()
        task = BackgroundTask("contract", runner=runner)
        value = object()
        task.start(lambda _: value)
        assert task.result(WAIT) is value
        assert runner.shutdown(WAIT)


class TaskStoreContract:
    """The rules of ``TaskStore``."""

    def make_store(self) -> TaskStore:
        """Return an empty store."""
        raise NotImplementedError

    def test_nothing_is_there_at_first(self) -> None:
        """An unknown task has no record, and no run of it can be changed."""
        store = self.make_store()
        assert store.read("owner", "task") is None
        assert not store.publish("owner", "task", "a", {})
        assert not store.request_cancel("owner", "task", "a")
        assert not store.forget("owner", "task", "a")

    def test_begin_compares_and_sets(self) -> None:
        """A run begins only if the caller names the newest run."""
        store = self.make_store()
        assert store.begin("owner", "task", "a", {"run": 1}, expect=None)
        assert not store.begin("owner", "task", "b", {"run": 2}, expect=None)
        assert not store.begin("owner", "task", "b", {"run": 2}, expect="x")
        assert store.read("owner", "task") == ("a", {"run": 1})
        assert store.begin("owner", "task", "b", {"run": 2}, expect="a")
        assert store.read("owner", "task") == ("b", {"run": 2})

    def test_one_of_many_begins(self) -> None:
        """Of runs that begin at the same time, exactly one does."""
        store = self.make_store()
        together = threading.Barrier(8)
        won: list[str] = []

        def race(token: str) -> None:
            together.wait(WAIT)
            if store.begin("owner", "task", token, {}, expect=None):
                won.append(token)

        threads = [threading.Thread(target=race, args=(str(i),)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert len(won) == 1

    def test_an_old_run_cannot_publish(self) -> None:
        """The token of an older run changes nothing."""
        store = self.make_store()
        store.begin("owner", "task", "a", {}, expect=None)
        assert store.publish("owner", "task", "a", {"n": 1})
        store.begin("owner", "task", "b", {"n": 2}, expect="a")
        assert not store.publish("owner", "task", "a", {"n": 3})
        assert not store.forget("owner", "task", "a")
        assert not store.request_cancel("owner", "task", "a")
        assert store.read("owner", "task") == ("b", {"n": 2})

    def test_cancel_flag_belongs_to_a_run(self) -> None:
        """The flag is set for one run, and a run that is no longer the newest should stop too."""
        store = self.make_store()
        store.begin("owner", "task", "a", {}, expect=None)
        assert not store.cancel_requested("owner", "task", "a")
        assert store.request_cancel("owner", "task", "a")
        assert store.cancel_requested("owner", "task", "a")
        store.begin("owner", "task", "b", {}, expect="a")
        assert not store.cancel_requested("owner", "task", "b")
        assert store.cancel_requested("owner", "task", "a")

    def test_a_run_that_waits_is_claimed_once(self) -> None:
        """Of two workers that get the same run, one claims it. A run that does not wait cannot be claimed."""
        store = self.make_store()
        assert not store.claim("owner", "task", "a")
        store.begin("owner", "task", "a", {"running": True}, expect=None, wait=60)
        assert not store.claim("owner", "task", "x")
        assert store.claim("owner", "task", "a")
        assert not store.claim("owner", "task", "a")
        store.begin("owner", "task", "b", {"running": True}, expect="a")
        assert not store.claim("owner", "task", "a")
        assert not store.claim("owner", "task", "b")

    def test_a_run_that_has_reported_cannot_be_claimed(self) -> None:
        """A claim may be lost, as when a server that lags behind takes over. The run is not claimed again."""
        store = self.make_store()
        store.begin("owner", "task", "a", {"running": True}, expect=None, wait=60)
        assert store.publish("owner", "task", "a", {"running": True, "n": 1})
        assert not store.claim("owner", "task", "a")

    def test_one_of_many_claims(self) -> None:
        """Of workers that claim a run at the same time, exactly one does."""
        store = self.make_store()
        store.begin("owner", "task", "a", {"running": True}, expect=None, wait=60)
        together = threading.Barrier(8)
        won: list[int] = []

        def race(number: int) -> None:
            together.wait(WAIT)
            if store.claim("owner", "task", "a"):
                won.append(number)

        threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert len(won) == 1

    def test_a_waiting_run_that_is_cancelled_never_runs(self) -> None:
        """It is over at once, and no worker can claim it: otherwise its watchers would wait for a worker."""
        store = self.make_store()
        store.begin("owner", "task", "a", {"running": True, "status": "queued"}, expect=None, wait=60)
        assert store.request_cancel("owner", "task", "a")
        found = store.read("owner", "task")
        assert found is not None
        assert (found[1]["running"], found[1]["status"]) == (False, "cancelled")
        assert not store.claim("owner", "task", "a")

    def test_a_run_that_waited_too_long_is_lost(self) -> None:
        """It reads as lost, and no worker can claim it later."""
        store = self.make_store()
        store.begin("owner", "task", "a", {"running": True, "status": "queued"}, expect=None, wait=0.01)
        pause = threading.Event()
        while (store.read("owner", "task") or ("", {}))[1]["running"]:
            pause.wait(0.005)
        found = store.read("owner", "task")
        assert found is not None
        assert (found[1]["status"], found[1]["error_type"]) == ("failed", "TaskLost")
        assert not store.claim("owner", "task", "a")
        assert store.request_cancel("owner", "task", "a")
        assert store.read("owner", "task") == found

    def test_the_record_of_the_end_stays(self) -> None:
        """A late record does not bring the run back, and a second record of its end does not replace the first."""
        store = self.make_store()
        store.begin("owner", "task", "a", {"running": True}, expect=None)
        assert store.publish("owner", "task", "a", {"running": False, "n": 5})
        assert store.publish("owner", "task", "a", {"running": True, "n": 4})
        assert store.publish("owner", "task", "a", {"running": False, "n": 4})
        assert store.publish("owner", "task", "a", {"running": False, "returning": True, "n": 4})
        assert store.read("owner", "task") == ("a", {"running": False, "n": 5})

    def test_records_are_copied(self) -> None:
        """Neither the caller nor the store can change the other's record."""
        store = self.make_store()
        record: dict[str, Any] = {"logs": ["one"]}
        store.begin("owner", "task", "a", record, expect=None)
        record["logs"].append("two")
        found = store.read("owner", "task")
        assert found == ("a", {"logs": ["one"]})
        found[1]["logs"].append("three")
        assert store.read("owner", "task") == ("a", {"logs": ["one"]})

    def test_owners_and_names_are_apart(self) -> None:
        """The key is the pair of owner and name, not a text made of both."""
        store = self.make_store()
        assert store.begin("a", "b:c", "1", {}, expect=None)
        assert store.begin("a:b", "c", "2", {}, expect=None)
        assert store.forget("a", "b:c", "1")
        assert store.read("a", "b:c") is None
        assert store.read("a:b", "c") == ("2", {})
