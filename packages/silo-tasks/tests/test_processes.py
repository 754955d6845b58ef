"""Runs in child processes."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import process_jobs as jobs
import pytest
from deadlines import until
from silo_tasks import (
    BackgroundTask,
    InlineRunner,
    Job,
    MemoryTaskStore,
    ProcessRunner,
    QueueFull,
    Runner,
    Status,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskTimeout,
    ThreadRunner,
)
from silo_tasks.testing import RunnerContract

pytestmark = pytest.mark.slow

WAIT = 60
JOBS = str(Path(jobs.__file__).parent)


class TestProcessRunner(RunnerContract):
    def make_runner(self) -> Runner:
        return ProcessRunner(workers=2)


@pytest.fixture(scope="module")
def shared() -> Iterator[ProcessRunner]:
    """For runs that leave their process as it was: a process takes a while to start."""
    runner = ProcessRunner(workers=2)
    yield runner
    assert runner.shutdown(WAIT), "a test left a task running"


@pytest.fixture
def runner() -> Iterator[ProcessRunner]:
    """For runs whose process is looked at, or ends."""
    runner = ProcessRunner(workers=1)
    yield runner
    assert runner.shutdown(WAIT), "a test left a task running"


def exists(pid: int) -> bool:
    """Whether there is a process, if only as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def runs(pid: int) -> bool:
    """Whether a process, which need not be a child of this one, does something."""
    if not exists(pid):
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def said(task: BackgroundTask, count: int = 1) -> int:
    """The number in the line of that number, once it is there."""
    until(lambda: task.state.last_seq >= count, "the task logged nothing")
    return int(task.state.logs[count - 1])


def script(tmp_path: Path, code: str) -> list[str]:
    """The command that runs a program which can import the jobs."""
    path = tmp_path / "script.py"
    path.write_text(f"import sys\nsys.path.insert(0, {JOBS!r})\n{textwrap.dedent(code)}", "utf-8")
    return [sys.executable, "-W", "error", str(path)]


def python(tmp_path: Path, code: str, said: str = "") -> str:
    """Run a program, which says what that pattern fits on stderr, and return what it printed."""
    done = subprocess.run(script(tmp_path, code), capture_output=True, text=True, timeout=WAIT)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(said, done.stderr), done.stderr
    return done.stdout


# What goes in and comes out.


def test_a_value_is_what_it_was(shared: ProcessRunner) -> None:
    task = BackgroundTask(runner=shared)
    for value in ({1, 2}, (1, [2, None]), b"\0", float("inf"), None, "ü" * 100_000, Path("x"), False):
        task.start(jobs.give, value)
        assert task.result(WAIT) == value
    assert type(task.result()) is bool


def test_much_goes_both_ways(shared: ProcessRunner) -> None:
    task = BackgroundTask(runner=shared)
    data = bytes(range(256)) * 200_000
    task.start(jobs.size, data)
    assert task.result(WAIT) == (len(data), data[::-1])


def test_the_arguments_are_those_of_the_start(shared: ProcessRunner) -> None:
    task, value = BackgroundTask(runner=shared), [1]
    task.start(jobs.give, value)
    value.append(2)
    assert task.result(WAIT) == [1]


def test_what_pickle_takes_can_be_called(shared: ProcessRunner) -> None:
    task = BackgroundTask(runner=shared)
    task.start(partial(jobs.add, scale=2), 3)
    assert task.result(WAIT) == 6


@pytest.mark.parametrize("function", [lambda task: None, partial(lambda task: None), threading.Lock().acquire])
def test_a_function_that_cannot_be_sent(shared: ProcessRunner, function: Callable[..., Any]) -> None:
    task = BackgroundTask(runner=shared)
    with pytest.raises(TaskError, match="cannot be sent to another process, which needs a function of a module's top"):
        task.start(function)
    assert task.state.status is Status.IDLE


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, r"^add\(task, /, a, .*\) cannot be called .* start\(\): missing a required argument: 'a'"),
        ((1, 2, threading.Lock()), {}, r"argument 'more\[1\]' cannot be sent"),
        ((1,), {"scale": threading.Lock()}, "argument 'scale' cannot be sent"),
        ((1,), {"key": lambda: None}, "argument 'key' cannot be sent"),
        ((BackgroundTask(),), {}, "argument 'a' cannot be sent .*a live object"),
    ],
)
def test_arguments_that_cannot_be_sent(
    shared: ProcessRunner, args: tuple[Any, ...], kwargs: dict[str, Any], words: str
) -> None:
    task = BackgroundTask(runner=shared)
    with pytest.raises(TypeError, match=words):
        task.start(jobs.add, *args, **kwargs)
    assert task.state.status is Status.IDLE
    with pytest.raises(TypeError, match=words):
        shared.check(jobs.add, args, kwargs)


def test_a_check_without_the_task(shared: ProcessRunner) -> None:
    shared.check(jobs.size, (None, b""), {}, given=0)
    with pytest.raises(TypeError):
        shared.check(jobs.add, (), {"a": 1}, given=2)


def test_a_failure_has_type_text_and_traceback(shared: ProcessRunner, caplog: pytest.LogCaptureFixture) -> None:
    task = BackgroundTask("odd", runner=shared)
    task.start(jobs.raise_odd)
    with pytest.raises(TaskFailed, match="quite odd") as caught:
        task.result(WAIT)
    assert (caught.value.error_type, caught.value.__cause__) == ("Odd", None)
    assert "in raise_odd" in caught.value.traceback
    assert re.search(r"'odd' \(run [0-9a-f]{8}\) failed: Odd: quite odd\n", caplog.text)
    assert "in raise_odd" in caplog.text


@pytest.mark.parametrize(
    ("function", "kind", "words"),
    [
        (jobs.give_lock, "TypeError", "the function returned a lock, which cannot be sent back"),
        (jobs.give_spoilt, "RuntimeError", "the value of the function cannot be loaded here: .*only where it was made"),
        (jobs.wrong, "TypeError", "a plain function"),
        (jobs.interrupt, "KeyboardInterrupt", "KeyboardInterrupt"),
        (jobs.leave, "SystemExit", "3"),
        (jobs.fail, "", "by itself"),
    ],
)
def test_failures_that_harm_no_process(
    runner: ProcessRunner, function: Callable[..., Any], kind: str, words: str
) -> None:
    task = BackgroundTask(runner=runner)
    task.start(jobs.pid)
    pid = task.result(WAIT)
    task.start(function)
    with pytest.raises(TaskFailed, match=words):
        task.result(WAIT)
    assert (task.state.error_type or "", task.state.complete) == (kind, False)
    task.start(jobs.pid)
    assert task.result(WAIT) == pid


def test_a_module_that_is_not_there(tmp_path: Path, runner: ProcessRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    task = BackgroundTask(runner=runner)
    task.start(jobs.pid)  # The process has the path as it was at its start.
    task.wait(WAIT)
    (tmp_path / "late_module.py").write_text("def work(task): pass", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import late_module  # type: ignore[import-not-found]

    task.start(late_module.work)
    with pytest.raises(TaskFailed, match=r"cannot load the function or its arguments: .*late_module"):
        task.result(WAIT)


# What is seen of a run.


def test_progress_is_seen_while_it_runs(shared: ProcessRunner, tmp_path: Path) -> None:
    task, gate = BackgroundTask("report", runner=shared, owner="me"), tmp_path / "gate"
    task.start(jobs.report, str(gate))
    until(lambda: task.state.last_seq == 2, "nothing was reported")
    state = task.state
    assert (state.status, state.progress, state.finished_at) == (Status.RUNNING, 62.5, None)
    assert [(each.name, each.status) for each in state.steps] == [("Read", "done"), ("Add", "running")]
    assert state.message == "2 of 4"
    first, second = task.logs()
    assert (first.seq, first.level, first.text, second.seq) == (1, "debug", "reading", 2)
    assert 0 < first.time <= second.time
    gate.touch()
    assert task.result(WAIT) == "open"
    assert task.state.progress == 100


def test_a_burst_of_lines_arrives_whole(shared: ProcessRunner, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    for kept in (1000, 10, 0):
        task = BackgroundTask(runner=shared, max_logs=kept)
        task.start(jobs.chatter, 300, str(gate))
        until(lambda task=task: task.state.last_seq == 301, "not all lines came")  # type: ignore[misc]
        assert len(task.logs()) == min(kept, 301)
        assert task.state.dropped == max(301 - kept, 0)
        if kept:
            assert [line.seq for line in task.logs()] == list(range(302 - len(task.logs()), 302))
        task.cancel()
        assert task.wait(WAIT)


def test_a_run_that_completes_before_it_returns(shared: ProcessRunner, tmp_path: Path) -> None:
    task, gate = BackgroundTask(runner=shared), tmp_path / "gate"
    task.start(jobs.complete, str(gate))
    assert task.wait(WAIT)
    assert (task.state.status, task.state.message) == (Status.SUCCEEDED, "Enough")
    with pytest.raises(TimeoutError):
        task.result(0.01)
    gate.touch()
    assert task.result(WAIT) == "value"
    assert task.state.logs == ["after it"]


def test_the_task_inside(shared: ProcessRunner) -> None:
    task = BackgroundTask(runner=shared)
    task.start(jobs.nested)
    assert task.result(WAIT) == (True, [1, 2, 3])
    assert task.state.n == 3


def test_a_store_has_what_the_parent_has(shared: ProcessRunner, tmp_path: Path) -> None:
    store, gate = MemoryTaskStore(), tmp_path / "gate"
    task = BackgroundTask("held", runner=shared, store=store, owner="me")
    task.start(jobs.hold, str(gate))
    said(task)
    watcher = BackgroundTask.attach("held", store, "me")
    assert watcher is not None
    until(lambda: watcher.state.n > 0, "the store has no progress")
    assert watcher.cancel()
    assert task.wait(WAIT)
    assert watcher.state.status is Status.CANCELLED


# Stopping.


def test_cancel(shared: ProcessRunner, tmp_path: Path) -> None:
    task, path = BackgroundTask(runner=shared), tmp_path / "tidied"
    task.start(jobs.tidy, str(path))
    said(task)
    assert task.cancel()
    with pytest.raises(TaskCancelled):
        task.result(WAIT)
    assert path.exists(), "its code could not tidy up"
    assert task.state.message == "Cancelled"


def test_a_shield_puts_a_cancel_off(shared: ProcessRunner, tmp_path: Path) -> None:
    task, gate = BackgroundTask(runner=shared), tmp_path / "gate"
    task.start(jobs.shielded, str(gate))
    said(task)
    task.cancel()
    assert not task.wait(0.3)
    gate.touch()
    with pytest.raises(TaskCancelled):
        task.result(WAIT)
    assert Path(f"{gate}.left").exists()


def test_what_is_cancelled_in_the_queue_never_runs(runner: ProcessRunner, tmp_path: Path) -> None:
    first, second = BackgroundTask(runner=runner), BackgroundTask(runner=runner)
    first.start(jobs.hold, str(tmp_path / "gate"))
    second.start(jobs.tidy, str(tmp_path / "ran"))
    said(first)
    assert second.cancel()
    with pytest.raises(TaskCancelled):
        second.result(0)
    (tmp_path / "gate").touch()
    assert first.result(WAIT) == "open"
    assert runner.shutdown(WAIT)
    assert not (tmp_path / "ran").exists()


def test_what_is_logged_in_the_queue_loses_no_line(runner: ProcessRunner, tmp_path: Path) -> None:
    first, second = BackgroundTask(runner=runner), BackgroundTask(runner=runner)
    first.start(jobs.hold, str(tmp_path / "gate"))
    second.start(jobs.chatter, 3, str(tmp_path / "gate"))
    second.log("in the queue")
    (tmp_path / "gate").touch()
    assert second.wait(WAIT)
    assert [line.seq for line in second.logs()] == [1, 2, 3, 4, 5]
    assert second.logs()[0].text == "in the queue"


@pytest.mark.parametrize("remote", [True, False])
def test_a_runner_that_passes_its_jobs_on(runner: ProcessRunner, remote: bool) -> None:
    class Passing(Runner):
        def submit(self, job: Job) -> None:
            runner.submit(job)

        def shutdown(self, timeout: float | None = None) -> bool:
            return runner.shutdown(timeout)

    Passing.remote = remote
    task = BackgroundTask(runner=Passing())
    if not remote:
        with pytest.raises(TaskError, match="set remote = True"):
            task.start(jobs.add, 1)
        return
    task.start(jobs.add, 1)
    assert task.result(WAIT) == 1


def test_a_cancel_before_the_process_is_there(runner: ProcessRunner, tmp_path: Path) -> None:
    task = BackgroundTask(runner=runner)
    task.start(jobs.tidy, str(tmp_path / "ran"))
    assert task.state.status is Status.QUEUED
    assert task.cancel()
    assert task.wait(0), "it is over at once"
    task.start(jobs.add, 1)
    assert task.result(WAIT) == 1
    assert not (tmp_path / "ran").exists()


def test_a_full_queue_says_so(tmp_path: Path) -> None:
    runner, gate = ProcessRunner(workers=1, queue_size=1), tmp_path / "gate"
    tasks = [BackgroundTask(runner=runner) for _ in range(3)]
    for task in tasks[:2]:
        task.start(jobs.hold, str(gate))
    with pytest.raises(QueueFull):
        tasks[2].start(jobs.hold, str(gate))
    gate.touch()
    assert runner.shutdown(WAIT)
    assert [task.state.complete for task in tasks] == [True, True, False]


def test_a_deadline_is_seen_at_once_and_stops_the_code(runner: ProcessRunner, tmp_path: Path) -> None:
    now, path = [1000.0], tmp_path / "tidied"
    task = BackgroundTask(runner=runner, timeout=10, clock=lambda: now[0])
    task.start(jobs.tidy, str(path))
    said(task)
    now[0] += 10
    with pytest.raises(TaskTimeout, match=r"longer than 10 seconds"):
        task.result(0)
    until(path.exists, "its code was not stopped")
    other = BackgroundTask(runner=runner)
    other.start(jobs.add, 1)
    assert other.result(WAIT) == 1


def test_what_does_not_obey_keeps_its_process_until_it_is_killed(runner: ProcessRunner) -> None:
    task, other = BackgroundTask(runner=runner), BackgroundTask(runner=runner)
    task.start(jobs.stubborn)
    pid = said(task)
    assert task.cancel(abandon=True)
    assert task.state.status is Status.CANCELLED
    other.start(jobs.pid)
    assert not other.wait(0.3)
    assert other.state.status is Status.QUEUED
    assert task.cancel(kill_after=0), "its code still runs"
    new = other.result(WAIT)
    assert new != pid
    assert not exists(pid), "there is a zombie"
    assert not task.cancel(kill_after=0)
    other.start(jobs.pid)
    assert other.result(WAIT) == new


def test_a_run_that_is_killed_is_cancelled(runner: ProcessRunner, caplog: pytest.LogCaptureFixture) -> None:
    task = BackgroundTask("stubborn", runner=runner)
    task.start(jobs.stubborn)
    pid = said(task)
    begin = time.monotonic()
    assert task.cancel(kill_after=0.2)
    lives, late = exists(pid) and task.is_running, time.monotonic() > begin + 0.2
    assert lives or late, "it had no time to obey"
    with pytest.raises(TaskCancelled):
        task.result(WAIT)
    assert (task.state.message, task.state.error, task.state.logs) == ("Cancelled", None, [str(pid)])
    assert not exists(pid)
    until(lambda: "was killed" in caplog.text, "nothing was logged")
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"The process of task 'stubborn' \(run [0-9a-f]{8}\) was killed, as it did not stop", line)


def test_a_run_that_stops_is_not_killed(runner: ProcessRunner, tmp_path: Path) -> None:
    task = BackgroundTask(runner=runner)
    task.start(jobs.hold, str(tmp_path / "never"))
    pid = said(task)
    assert task.cancel(kill_after=20)
    with pytest.raises(TaskCancelled):
        task.result(WAIT)
    task.start(jobs.pid)
    assert task.result(WAIT) == pid


@pytest.mark.parametrize("timeout", [10, None])
def test_a_runner_kills_by_itself(timeout: float | None) -> None:
    runner, now = ProcessRunner(workers=1, kill_after=0.1), [1000.0]
    task = BackgroundTask(runner=runner, timeout=timeout, clock=lambda: now[0])
    task.start(jobs.stubborn)
    pid = said(task)
    if timeout is None:
        task.cancel()
    now[0] += 10
    with pytest.raises(TaskTimeout if timeout else TaskCancelled):
        task.result(WAIT)
    until(lambda: not exists(pid), "it was not killed")
    task = BackgroundTask(runner=runner)
    task.start(jobs.add, 1)
    assert task.result(WAIT) == 1
    assert runner.shutdown(WAIT)


def test_a_runner_that_cannot_kill_says_so_first() -> None:
    leave, threads = threading.Event(), ThreadRunner(workers=1)
    for runner in (threads, InlineRunner(), None):
        with pytest.raises(TaskError, match="cannot be killed: that takes a ProcessRunner"):
            BackgroundTask(runner=runner).cancel(kill_after=1)
    task = BackgroundTask(runner=threads)
    task.start(lambda task: leave.wait(WAIT))
    with pytest.raises(TaskError, match="cannot be killed"):
        task.cancel(kill_after=1)
    leave.set()
    assert task.result(WAIT) is True, "nothing was asked to stop"
    assert threads.shutdown(WAIT)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_bad_values_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="kill_after"):
        ProcessRunner(kill_after=seconds)
    with pytest.raises(ValueError, match="kill_after"):
        BackgroundTask(runner=ProcessRunner(1)).cancel(kill_after=seconds)
    with pytest.raises(ValueError, match="workers"):
        ProcessRunner(workers=0)
    assert ProcessRunner().workers >= 1


# Processes that end.


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exit", "has ended with exit code 3"),
        ("segfault", "was ended by SIGSEGV"),
        ("abort", "was ended by SIGABRT"),
        ("kill", "was ended by SIGKILL"),
        ("cpu", "was ended by SIG(XCPU|KILL)"),
    ],
)
def test_a_process_that_ends(runner: ProcessRunner, how: str, words: str) -> None:
    task = BackgroundTask(runner=runner)
    task.start(jobs.die, how)
    with pytest.raises(TaskLost, match=f"lost: its process {words}"):
        task.result(WAIT)
    assert (task.state.status, task.state.error_type) == (Status.FAILED, "TaskLost")
    task.start(jobs.add, 1)
    assert task.result(WAIT) == 1


def test_a_killed_process_harms_no_other_run(tmp_path: Path) -> None:
    runner = ProcessRunner(workers=2)
    tasks, gate = [BackgroundTask(runner=runner) for _ in range(3)], tmp_path / "gate"
    for task in tasks:
        task.start(jobs.hold, str(gate))
    os.kill(said(tasks[0]), signal.SIGKILL)
    with pytest.raises(TaskLost, match="SIGKILL"):
        tasks[0].result(WAIT)
    for task in tasks[1:]:
        said(task)
    gate.touch()
    assert [task.result(WAIT) for task in tasks[1:]] == ["open", "open"]
    assert runner.shutdown(WAIT)


def test_a_process_that_ends_while_it_waits(runner: ProcessRunner) -> None:
    task = BackgroundTask(runner=runner)
    task.start(jobs.pid)
    pid = task.result(WAIT)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not runs(pid), "it was not killed")
    task.start(jobs.pid)
    assert task.result(WAIT) != pid
    assert not exists(pid)


def test_a_process_that_ends_after_complete(runner: ProcessRunner) -> None:
    task = BackgroundTask(runner=runner)
    task.start(jobs.complete_and_die)
    assert task.wait(WAIT)
    with pytest.raises(TaskError, match="not kept"):
        task.result(WAIT)


def test_no_memory_is_a_failure_like_others(runner: ProcessRunner) -> None:
    task = BackgroundTask(runner=runner)
    task.start(jobs.use_too_much_memory)
    with pytest.raises(TaskFailed):
        task.result(WAIT)
    assert task.state.error_type == "MemoryError"


def test_what_a_run_forks_does_not_hide_its_end(runner: ProcessRunner) -> None:
    task = BackgroundTask(runner=runner)
    task.start(jobs.fork_and_die)
    forked, pid = said(task, 1), said(task, 2)
    try:
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(TaskLost):
            task.result(WAIT)
    finally:
        os.kill(forked, signal.SIGKILL)


def test_a_run_that_returns_in_two_processes(runner: ProcessRunner) -> None:
    """The one that was forked ends."""
    task = BackgroundTask(runner=runner)
    task.start(jobs.fork_and_return)
    forked = task.result(WAIT)
    until(lambda: not runs(forked), "it stays")
    task.start(jobs.add, 1)
    assert task.result(WAIT) == 1


def test_a_run_that_closes_the_connection(runner: ProcessRunner) -> None:
    task = BackgroundTask(runner=runner)
    task.start(jobs.close_all)
    with pytest.raises(TaskLost, match="has ended with exit code 0"):
        task.result(WAIT)
    task.start(jobs.add, 1)
    assert task.result(WAIT) == 1


def test_a_cancel_that_comes_late_stops_no_other_run(runner: ProcessRunner, tmp_path: Path) -> None:
    """It was on its way when its run ended, and the process has the next one by now."""
    task, gate = BackgroundTask(runner=runner), tmp_path / "gate"
    task.start(jobs.pid)
    task.result(WAIT)
    token = task._run.token
    task.start(jobs.hold, str(gate))
    said(task)
    (process,) = runner._all
    process.stop(token)
    gate.touch()
    assert task.result(WAIT) == "open"


def test_no_process_can_be_started(runner: ProcessRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    task = BackgroundTask(runner=runner)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr("multiprocessing.spawn._python_exe", b"/nowhere/python")
    task.start(jobs.add, 1)
    with pytest.raises(TaskLost, match=r"no process could be started: .*/nowhere/python"):
        task.result(WAIT)
    assert task.state.to_dict(public=True)["error"] == "The task failed", "it names a path of the server"
    monkeypatch.undo()
    task.start(jobs.add, 1)
    assert task.result(WAIT) == 1


# What a process is.


def test_a_process_is_used_again_and_starts_clean(shared: ProcessRunner) -> None:
    task, pids = BackgroundTask(runner=shared), set()
    for _ in range(10):
        task.start(jobs.pid)
        pids.add(task.result(WAIT))
    assert len(pids) <= 2
    assert os.getpid() not in pids
    task.start(jobs.modules)
    assert "pytest" not in task.result(WAIT)


def test_what_a_module_sets_up_stays(runner: ProcessRunner) -> None:
    """For all runs, not only for the one that had it imported."""
    task = BackgroundTask(runner=runner)
    for _ in range(2):
        task.start(jobs.setting)
        assert task.result(WAIT) == "set by the module"


def test_programs_and_runners_inside(shared: ProcessRunner) -> None:
    task = BackgroundTask(runner=shared)
    task.start(jobs.own_process)
    assert task.result(WAIT).split() == ["default_int_handler"]
    task.start(jobs.own_task)
    assert task.result(WAIT) == 3
    task.start(jobs.read_stdin)
    assert task.result(WAIT) == ""


def test_shutdown_ends_the_processes(tmp_path: Path) -> None:
    runner = ProcessRunner(workers=2)
    tasks, gate = [BackgroundTask(runner=runner) for _ in range(2)], tmp_path / "gate"
    for task in tasks:
        task.start(jobs.hold, str(gate))
    pids = [said(task) for task in tasks]
    gate.touch()
    assert runner.shutdown(WAIT)
    assert not any(map(exists, pids))


def test_shutdown_in_a_hurry_ends_a_process_when_its_run_obeys(tmp_path: Path) -> None:
    runner = ProcessRunner(workers=1)
    task, gate = BackgroundTask(runner=runner), tmp_path / "gate"
    task.start(jobs.shielded, str(gate))
    pid = said(task)
    assert not runner.shutdown(0)
    gate.touch()
    with pytest.raises(TaskCancelled):
        task.result(WAIT)
    until(lambda: not exists(pid), "the process is left over")


def test_an_unused_runner_ends_its_processes() -> None:
    task = BackgroundTask(runner=ProcessRunner(workers=1))
    task.start(jobs.pid)
    pid = task.result(WAIT)
    del task
    gc.collect()
    until(lambda: not exists(pid), "the process is left over")


# Scripts.


def test_functions_of_the_script_itself(tmp_path: Path) -> None:
    out = python(
        tmp_path,
        """
        from silo_tasks import BackgroundTask, ProcessRunner
        print("imported", __name__, sys.argv[1:], flush=True)
        class Thing:
            pass
        def work(task, thing):
            assert type(thing) is Thing
            return thing
        if __name__ == "__main__":
            task = BackgroundTask(runner=ProcessRunner(1))
            thing = Thing()
            thing.value = 5
            for _ in range(2):
                task.start(work, thing)
                print(task.result(30).value, type(task.result()) is Thing)
        """,
    )
    assert out.splitlines() == ["imported __main__ []", "imported __mp_main__ []", "5 True", "5 True"]


def test_a_script_that_starts_a_task_when_it_is_imported(tmp_path: Path) -> None:
    done = subprocess.run(
        script(
            tmp_path,
            """
            import process_jobs
            from silo_tasks import BackgroundTask, ProcessRunner, TaskFailed
            task = BackgroundTask(runner=ProcessRunner(1))
            task.start(process_jobs.add, 1, 2)
            print(task.result(30))
            def work(task):
                pass
            task.start(work)
            try:
                task.result(30)
            except TaskFailed as error:
                print(error)
            """,
        ),
        capture_output=True,
        text=True,
        timeout=WAIT,
    )
    three, words = done.stdout.splitlines()
    assert three == "3", "no script is needed for functions of other modules"
    assert 'Put the statements of the script under: if __name__ == "__main__":' in words


def test_a_class_of_the_script_is_public(tmp_path: Path) -> None:
    """The script has another name in the process than in its parent."""
    code = """
        from silo_tasks import BackgroundTask, ProcessRunner

        class BadFile(Exception):
            pass

        def work(task, public):
            raise (BadFile if public else KeyError)("text")

        if __name__ == "__main__":
            task = BackgroundTask("odd", runner=ProcessRunner(1), public_errors=BadFile)
            for public in (True, False):
                task.start(work, public)
                task.wait()
                print(task.state.to_dict(public=True)["error"])
    """
    done = subprocess.run(script(tmp_path, code), capture_output=True, text=True, timeout=WAIT, check=True)
    assert done.stdout.splitlines() == ["text", "The task failed"]


def test_a_failure_is_logged_once_and_by_the_parent(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        """
        import logging
        import process_jobs
        from silo_tasks import BackgroundTask, ProcessRunner
        logging.basicConfig(format="parent: %(message)s")
        task = BackgroundTask("odd", runner=ProcessRunner(1))
        task.start(process_jobs.raise_odd)
        task.wait()
        """,
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=True)
    lines = re.findall(r"parent: Task 'odd' \(run [0-9a-f]{8}\) failed: Odd: quite odd\n", done.stderr)
    assert done.stderr.count("failed") == len(lines) == 1


@pytest.mark.parametrize("how", ["-c", "-"])
def test_a_function_without_a_file(how: str) -> None:
    code = """
import silo_tasks
def work(task): pass
try:
    silo_tasks.BackgroundTask(runner=silo_tasks.ProcessRunner(1)).start(work)
except silo_tasks.TaskError as error:
    print(error)
"""
    command, given = [sys.executable, how], code
    if how == "-c":
        command, given = [*command, code], ""
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=WAIT, check=True)
    assert "was not defined in a file" in done.stdout
    assert "put it into a module" in done.stdout


@pytest.mark.parametrize(("how", "said"), [("package", "was not defined in a file"), ("package.script", r"\A3\n\Z")])
def test_modules_that_are_started(tmp_path: Path, how: str, said: str) -> None:
    """The `__main__.py` of a package is nothing that another process imports; it is said before anything is started."""
    code = """
import silo_tasks
def work(task):
    return 3
if __name__ == "__main__":
    task = silo_tasks.BackgroundTask(runner=silo_tasks.ProcessRunner(1))
    try:
        task.start(work)
        print(task.result(30))
    except silo_tasks.TaskError as error:
        print(error)
"""
    (tmp_path / "package").mkdir()
    for name in ("__init__", "__main__", "script"):
        (tmp_path / "package" / f"{name}.py").write_text(code, "utf-8")
    command = [sys.executable, "-m", how]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT, check=True)
    assert re.search(said, done.stdout)


def test_multiprocessing_can_be_set_up_afterwards(tmp_path: Path) -> None:
    out = python(
        tmp_path,
        """
        import multiprocessing
        from silo_tasks import BackgroundTask, ProcessRunner
        def add(task, a):
            return a + 1
        if __name__ == "__main__":
            task = BackgroundTask(runner=ProcessRunner(1))
            task.start(add, 1)
            print(task.result(30))
            multiprocessing.set_start_method("spawn")
        """,
    )
    assert out == "2\n"


def test_the_package_imports_nothing_for_processes(tmp_path: Path) -> None:
    out = python(
        tmp_path,
        """
        before = set(sys.modules)
        import silo_tasks
        print([name for name in ("multiprocessing", "subprocess", "socket", "pickle") if name in sys.modules])
        from silo_tasks import ProcessRunner
        import os
        ProcessRunner()
        print("subprocess" in sys.modules, os.listdir(f"/proc/self/task") == [str(os.getpid())])
        """,
    )
    assert out.splitlines() == ["[]", "True True"]


# The end of the parent.


def test_exit_waits_for_runs_and_leaves_no_process(tmp_path: Path) -> None:
    out = python(
        tmp_path,
        """
        import process_jobs
        from silo_tasks import BackgroundTask, ProcessRunner
        runner = ProcessRunner(workers=1)
        tasks = [BackgroundTask(name, runner=runner) for name in "abc"]
        for task in tasks:
            task.on_done(lambda task: print(task.name, task.result(), flush=True))
            task.start(process_jobs.pid)
        """,
    )
    lines = [line.split() for line in out.splitlines()]
    assert [name for name, _ in lines] == ["a", "b", "c"]
    assert not any(exists(int(pid)) for _, pid in lines)


def test_exit_kills_what_takes_too_long(tmp_path: Path) -> None:
    out = python(
        tmp_path,
        """
        import process_jobs, time
        from silo_tasks import BackgroundTask, ProcessRunner
        task = BackgroundTask(runner=ProcessRunner(workers=1, drain_timeout=0.05))
        task.start(process_jobs.stubborn)
        while not task.state.logs:
            time.sleep(0.01)
        task.on_done(lambda task: print(task.state.status.value, flush=True))
        print(*task.state.logs)
        """,
        said=r"Task 'task' \(run [0-9a-f]{8}\) is lost: its process ended before it was over\n",
    )
    pid, status = out.split()
    assert not exists(int(pid))
    assert status == "cancelled"


@pytest.mark.parametrize(
    "function",
    [
        "stubborn",
        "pid",
        pytest.param("compute", marks=pytest.mark.skipif(sys.platform != "linux", reason="the system kills it")),
    ],
)
def test_no_process_outlives_a_parent_that_is_killed(tmp_path: Path, function: str) -> None:
    command = script(
        tmp_path,
        f"""
        import process_jobs, time
        from silo_tasks import BackgroundTask, ProcessRunner
        task = BackgroundTask(runner=ProcessRunner(workers=1))
        task.start(process_jobs.{function})
        while not (task.state.logs or task.is_complete):
            time.sleep(0.01)
        print(*(task.state.logs or [task.result()]), flush=True)
        time.sleep(60)
        """,
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert runs(pid)
        parent.kill()
        parent.wait()
        until(lambda: not runs(pid), "it is an orphan")


def test_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    """It goes to every process of the group; only the parent says something."""
    command = script(
        tmp_path,
        """
        import process_jobs, signal, time
        from silo_tasks import BackgroundTask, ProcessRunner
        signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell's background programs ignore it.
        task = BackgroundTask(runner=ProcessRunner(workers=2, drain_timeout=0.05))
        task.start(process_jobs.hold, "/nowhere/gate")
        while not task.state.logs:
            time.sleep(0.01)
        print(*task.state.logs, flush=True)
        while True:  # a signal that comes just before a long sleep would not end it
            time.sleep(0.05)
        """,
    )
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        try:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            os.killpg(parent.pid, signal.SIGINT)
            _, err = parent.communicate(timeout=WAIT)
        finally:
            parent.kill()
    assert err.count("KeyboardInterrupt") == 1
    until(lambda: not runs(pid), "it is an orphan")


def test_a_forked_child_has_processes_of_its_own(tmp_path: Path) -> None:
    out = python(
        tmp_path,
        """
        import os, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import process_jobs
        from silo_tasks import BackgroundTask, ProcessRunner
        runner = ProcessRunner(workers=2)
        idle, busy = BackgroundTask(runner=runner), BackgroundTask(runner=runner)
        idle.start(process_jobs.pid)
        first = idle.result(30)
        busy.start(process_jobs.hold, sys.argv[0] + ".gate")
        while not busy.state.logs:
            time.sleep(0.01)
        child = os.fork()
        if child == 0:
            idle.start(process_jobs.pid)
            print(busy.state.error, idle.result(30) not in (first, int(busy.state.logs[0])), flush=True)
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(busy.state.status.value)
        idle.start(process_jobs.pid)
        others = first, int(busy.state.logs[0])
        open(sys.argv[0] + ".gate", "w").close()
        print(busy.result(30), idle.result(30) in others or others)
        # A child that lives on keeps no process of a parent that has gone.
        if os.fork() == 0:
            os.close(1)
            os.close(2)
            time.sleep(60)
        print(*{first, others[1], idle.result()}, os.getpid(), flush=True)
        os._exit(0)
        """,
    )
    lines = out.splitlines()
    assert lines[0] == "the process was forked while it ran True"
    assert lines[1] == "running"
    assert lines[2].startswith("open")
    for pid in map(int, lines[3].split()):
        until(partial(lambda pid: not runs(pid), pid), "a process is held by a forked child")


def test_under_gevent(tmp_path: Path) -> None:
    pytest.importorskip("gevent")
    out = python(
        tmp_path,
        """
        import warnings
        warnings.simplefilter("ignore")
        from gevent import monkey
        monkey.patch_all()
        import gevent, logging, os, signal
        logging.disable()
        import process_jobs
        from silo_tasks import BackgroundTask, ProcessRunner, TaskLost, TaskCancelled
        runner = ProcessRunner(workers=2)
        tasks = [BackgroundTask(runner=runner) for _ in range(4)]
        for i, task in enumerate(tasks):
            task.start(process_jobs.add, i, 1)
        print([task.result(30) for task in tasks])
        task = BackgroundTask(runner=runner)
        task.start(process_jobs.hold, sys.argv[0] + ".gate")
        while not (task.state.logs and task.state.n):
            gevent.sleep(0.01)
        pid = int(task.state.logs[0])
        os.kill(pid, signal.SIGSTOP)
        for _ in range(30):  # It says nothing now, and only its own greenlet waits for it.
            gevent.sleep(0.01)
        os.kill(pid, signal.SIGCONT)
        print(task.state.status.value, len(task.state.logs))
        task.cancel()
        print(task.wait(30), task.state.status.value)
        task.start(process_jobs.size, bytes(50_000_000))
        print(task.result(30)[0])
        task.start(process_jobs.stubborn)
        while not task.state.logs:
            gevent.sleep(0.01)
        task.cancel(kill_after=0.1)
        try:
            task.result(30)
        except TaskCancelled:
            print("killed")
        task.start(process_jobs.die, "exit")
        try:
            task.result(30)
        except TaskLost as error:
            print(error)
        print(runner.shutdown(30))
        left = BackgroundTask(runner=ProcessRunner(workers=1, drain_timeout=0.05))
        left.start(process_jobs.stubborn)
        while not left.state.logs:
            gevent.sleep(0.01)
        print(*left.state.logs, flush=True)
        """,
    )
    *lines, pid = out.splitlines()
    assert lines == [
        "[1, 2, 3, 4]",
        "running 1",
        "True cancelled",
        "50000000",
        "killed",
        "lost: its process has ended with exit code 3",
        "True",
    ]
    assert not exists(int(pid))


def test_no_thread_is_left_to_end_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = ProcessRunner(workers=1)
    task = BackgroundTask(runner=runner)
    task.start(jobs.pid)
    pid = task.result(WAIT)
    until(lambda: runner._idle != [], "the process was not given back")

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    from silo_tasks.runners.process_parent import dismiss_later

    with contextlib.ExitStack() as stack:
        stack.enter_context(monkeypatch.context()).setattr(threading.Thread, "start", no_thread)
        dismiss_later(runner._idle)
    assert not exists(pid)
    assert runner.shutdown(WAIT)
