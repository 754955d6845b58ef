from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest
from silo_tasks import BackgroundTask, InlineRunner, QueueFull, Runner, Status, ThreadRunner, default_runner
from silo_tasks.testing import LocalRunnerContract, PlainRun

pytestmark = pytest.mark.slow

WAIT = 30


class TestThreadRunner(LocalRunnerContract):
    def make_runner(self) -> Runner:
        return ThreadRunner(workers=3)


class TestOneThread(LocalRunnerContract):
    def make_runner(self) -> Runner:
        return ThreadRunner(workers=1)


class TestInlineRunner(LocalRunnerContract):
    def make_runner(self) -> Runner:
        return InlineRunner()


def python(code: str, *, timeout: float = 60) -> str:
    """Run a program in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError):
        ThreadRunner(workers=0)
    with pytest.raises(ValueError):
        ThreadRunner(queue_size=-1)


def test_a_thousand_tasks_use_no_more_threads_than_allowed() -> None:
    runner, together = ThreadRunner(workers=8), threading.Barrier(8)
    before = threading.active_count()
    seen: set[int] = set()

    def work(task: BackgroundTask) -> None:
        seen.add(threading.get_ident())
        if len(seen) < 8:
            together.wait(WAIT)

    tasks = [BackgroundTask(runner=runner) for _ in range(1000)]
    for task in tasks:
        task.start(work)
        assert threading.active_count() - before <= 8
        if len(seen) == 8:
            together.abort()
    together.abort()
    for task in tasks:
        assert task.wait(WAIT)
    assert len(seen) <= 8
    assert runner.shutdown(WAIT)


def test_one_thread_is_enough_for_tasks_in_turn() -> None:
    runner = ThreadRunner(workers=8)
    for _ in range(20):
        ready = threading.Event()
        job = PlainRun(ready.set)
        runner.submit(job.job())
        assert ready.wait(WAIT)
    assert 1 <= runner._threads <= 8
    assert runner.shutdown(WAIT)


def test_a_full_queue_says_so() -> None:
    runner, leave, entered = ThreadRunner(workers=1, queue_size=2), threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        leave.wait(WAIT)

    jobs = [PlainRun(block), PlainRun(lambda: None), PlainRun(lambda: None)]
    for job in jobs:
        runner.submit(job.job())
    refused = PlainRun(lambda: None)
    with pytest.raises(QueueFull):
        runner.submit(refused.job())
    leave.set()
    assert runner.shutdown(WAIT)
    assert [job.executed for job in jobs] == [1, 1, 1]
    assert refused.executed == 0


def test_shutdown_cancels_what_is_left() -> None:
    runner, leave = ThreadRunner(workers=1), threading.Event()
    running, queued = PlainRun(lambda: leave.wait(WAIT)), PlainRun(lambda: None)
    runner.submit(running.job())
    runner.submit(queued.job())
    assert not runner.shutdown(0)
    assert running.cancelled
    assert queued.cancelled
    leave.set()
    assert runner.join(WAIT)


def test_a_callback_may_shut_its_runner_down() -> None:
    runner, together = ThreadRunner(workers=2), threading.Barrier(2)
    ended: list[bool] = []
    first, second = BackgroundTask(runner=runner), BackgroundTask(runner=runner)
    first.on_done(lambda task: ended.append(runner.shutdown(WAIT) and not second.is_running))
    for task in (first, second):
        task.start(lambda task: together.wait(WAIT))
    assert first.wait(WAIT)
    assert runner.join(WAIT)
    assert ended == [True]


def test_waiting_for_a_very_long_time() -> None:
    for timeout in (math.inf, 1e12):
        runner, entered, leave = ThreadRunner(workers=1), threading.Event(), threading.Event()

        def work(entered: threading.Event = entered, leave: threading.Event = leave) -> None:
            entered.set()
            leave.wait(WAIT)

        runner.submit(PlainRun(work).job())
        assert entered.wait(WAIT)
        threading.Timer(0.01, leave.set).start()
        assert runner.shutdown(timeout)


@pytest.mark.usefixtures("many_switches")
def test_threads_that_take_rest_and_start_together_lose_no_job() -> None:
    for _ in range(50):
        runner = ThreadRunner(workers=3)
        jobs = [PlainRun(lambda: None) for _ in range(600)]

        def submit(share: list[PlainRun], runner: ThreadRunner = runner) -> None:
            for job in share:
                runner.submit(job.job())

        threads = [threading.Thread(target=submit, args=(jobs[i::2],)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert runner.shutdown(WAIT)
        assert [job.executed for job in jobs] == [1] * 600
        assert not any(job.cancelled for job in jobs)


@pytest.mark.usefixtures("many_switches")
def test_a_shutdown_among_busy_threads_executes_or_cancels_each_job() -> None:
    for _ in range(20):
        runner = ThreadRunner(workers=3)
        jobs = [PlainRun(lambda: None) for _ in range(600)]
        for job in jobs:
            runner.submit(job.job())
        runner.shutdown(0)
        assert runner.join(WAIT)
        assert all(job.executed or job.cancelled for job in jobs)
        assert max(job.executed for job in jobs) == 1
        assert runner._threads == 0


def test_a_job_that_raises_out_of_its_runner_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    runner = ThreadRunner(workers=1)

    def bad() -> None:
        raise SystemExit

    runner.submit(PlainRun(bad).job())
    job = PlainRun(lambda: None)
    runner.submit(job.job())
    assert job.done.wait(WAIT)
    assert runner.shutdown(WAIT)
    assert "A job raised out of its runner" in caplog.text


def test_a_keyboard_interrupt_in_a_thread_is_logged_as_any_failure(caplog: pytest.LogCaptureFixture) -> None:
    def work(task: BackgroundTask) -> None:
        raise KeyboardInterrupt

    runner = ThreadRunner(workers=1)
    task = BackgroundTask("task", runner=runner)
    task.start(work)
    assert task.wait(WAIT)
    task.start(lambda task: None)
    assert task.result(WAIT) is None
    assert runner.shutdown(WAIT)
    [logged] = [each.getMessage() for each in caplog.records]
    assert logged.endswith("failed: KeyboardInterrupt")


def test_a_keyboard_interrupt_in_a_callback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def interrupt(task: BackgroundTask) -> None:
        raise KeyboardInterrupt

    runner, leave = ThreadRunner(workers=1), threading.Event()
    task = BackgroundTask("task", runner=runner)
    task.start(lambda task: leave.wait(WAIT))
    task.on_done(interrupt)
    leave.set()
    assert runner.shutdown(WAIT)
    [logged] = caplog.records
    assert logged.getMessage() == "A callback of task 'task' was interrupted"
    assert logged.exc_info


def test_an_idle_thread_keeps_nothing_of_its_last_job() -> None:
    runner = ThreadRunner(workers=1)
    job = PlainRun(lambda: None)
    gone = threading.Event()
    finalizer = weakref.finalize(job, gone.set)
    runner.submit(job.job())
    assert job.done.wait(WAIT)
    del job
    assert gone.wait(WAIT)
    assert not finalizer.alive
    assert runner.shutdown(WAIT)


def test_the_shared_runner_is_one_and_lazy() -> None:
    out = python(
        """
        import threading, silo_tasks
        task = silo_tasks.BackgroundTask()
        print(threading.active_count())
        task.start(lambda task: None)
        task.wait()
        print(threading.active_count(), silo_tasks.default_runner() is silo_tasks.default_runner())
        """
    )
    assert out.split() == ["1", "2", "True"]
    assert default_runner().workers == 32


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    out = python(
        """
        import os, sys, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from silo_tasks import BackgroundTask
        leave = threading.Event()
        old, new, timed = BackgroundTask("old"), BackgroundTask("new"), BackgroundTask("timed", timeout=0.05)
        old.start(lambda task: leave.wait())
        new.start(lambda task: None)
        new.wait()
        timed.start(lambda task: None)
        timed.wait()
        pid = os.fork()
        if pid == 0:
            new.start(lambda task: "from the child")
            print(new.result(30), old.state.status.value, old.state.error, flush=True)
            old.start(lambda task: "again")
            print(old.result(30), flush=True)
            never = threading.Event()
            timed.start(lambda task: never.wait())
            print(timed.wait(30), timed.state.error_type, flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        print(old.state.status.value)
        leave.set()
        print(old.result(30))
        """
    )
    assert out.splitlines() == [
        "from the child failed the process was forked while it ran",
        "again",
        "True TaskTimeout",
        "running",
        "True",
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_waits_for_no_lock_of_its_parent() -> None:
    """Another thread holds the locks of all these when the process forks."""
    out = python(
        """
        import os, signal, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from silo_tasks import BackgroundTask, InlineRunner, MemoryTaskStore
        store, leave, begun = MemoryTaskStore(), threading.Event(), threading.Semaphore(0)
        def work(task):
            begun.release()
            leave.wait()
        idle, over, running, inline, completed = tasks = [
            BackgroundTask(name, store=store, runner=InlineRunner() if name == "inline" else None)
            for name in ("idle", "over", "running", "inline", "completed")
        ]
        def complete(task):
            task.complete()
            work(task)
        over.start(lambda task: "value")
        over.wait()
        running.start(work)
        completed.start(complete)
        threading.Thread(target=inline.start, args=(work,), daemon=True).start()
        for _ in range(3):
            begun.acquire()
        class Parent(BackgroundTask):
            __hash__ = None
        odd = Parent()
        held, forked = threading.Event(), threading.Event()
        def hold():
            with store._lock:
                for task in [*tasks, odd]:
                    task._lock.acquire()
                    task._run.lock.acquire()
                held.set()
                forked.wait()
                for task in [*tasks, odd]:
                    task._lock.release()
                    task._run.lock.release()
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            print(*[task.state.status.value for task in tasks], odd.state.running)
            print(over.result(), completed.result(), store.read("", "over")[1]["status"])
            for task in [*tasks, odd]:
                task.log("line")
                for _ in task.track("ab"):
                    pass
                task.start(lambda task: "again")
            print(*[task.result(20) for task in tasks], flush=True)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        forked.set()
        holder.join()
        leave.set()
        assert status == 0, status
        """
    )
    assert out.splitlines() == [
        "idle succeeded failed failed succeeded False",
        "value None succeeded",
        "again again again again again",
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_task_that_forks_goes_on_in_the_child() -> None:
    out = python(
        """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from silo_tasks import BackgroundTask
        def work(task):
            pid = os.fork()
            if pid == 0:
                task.update(progress=5)
                os._exit(7 if task.state.status.value == "running" else 1)
            return os.waitpid(pid, 0)[1] >> 8
        task = BackgroundTask()
        task.start(work)
        print(task.result(30))
        """
    )
    assert out.split() == ["7"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_the_callbacks_of_a_run_that_was_forked_are_its_parents() -> None:
    out = python(
        """
        import os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from silo_tasks import BackgroundTask, ThreadRunner
        runner, leave = ThreadRunner(), threading.Event()
        parent = os.getpid()
        task = BackgroundTask(runner=runner)
        task.on_done(lambda task: os.write(1, b"parent\\n" if os.getpid() == parent else b"child\\n"))
        task.start(lambda task: leave.wait())
        pid = os.fork()
        if pid == 0:
            print(task.state.status.value, flush=True)
            task.start(lambda task: None)
            task.result(30)
            print(runner.shutdown(30), flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        leave.set()
        runner.shutdown(30)
        """
    )
    assert out.splitlines() == ["failed", "True", "parent"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_what_is_queued_at_a_fork_runs_in_the_parent_alone() -> None:
    out = python(
        """
        import os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from silo_tasks import BackgroundTask, ThreadRunner
        runner, leave, begun = ThreadRunner(workers=1), threading.Event(), threading.Event()
        def first(task):
            begun.set()
            leave.wait()
        def note(task):
            os.write(1, f"{task.name} in the {'parent' if os.getpid() == parent else 'child'}\\n".encode())
        parent = os.getpid()
        running, a, b = [BackgroundTask(name, runner=runner) for name in ("running", "a", "b")]
        running.start(first)
        begun.wait()
        a.start(note)
        b.start(note)
        pid = os.fork()
        if pid == 0:
            print(running.state.status.value, a.state.status.value, a.state.error, flush=True)
            a.start(note)
            a.result(30)
            print(runner.shutdown(30), b.state.status.value, flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        leave.set()
        b.result(30)
        print(runner.shutdown(30))
        """
    )
    assert out.splitlines() == [
        "failed failed the process was forked while it ran",
        "a in the child",
        "True failed",
        "a in the parent",
        "b in the parent",
        "True",
    ]


def test_exit_waits_for_running_and_queued_tasks() -> None:
    out = python(
        """
        import time
        from silo_tasks import BackgroundTask, ThreadRunner
        runner = ThreadRunner(workers=1)
        def work(task, name):
            time.sleep(0.05)
            print(name, flush=True)
        tasks = [BackgroundTask(name, runner=runner) for name in "abc"]
        for task in tasks:
            task.start(work, task.name)
        """
    )
    assert out.split() == ["a", "b", "c"]


def test_exit_cancels_what_takes_too_long_and_never_hangs() -> None:
    out = python(
        """
        import threading, itertools
        from silo_tasks import BackgroundTask, ThreadRunner
        runner = ThreadRunner(workers=2, drain_timeout=0.05)
        nap = threading.Event()
        entered = threading.Event()
        def cooperative(task):
            try:
                for _ in task.track(itertools.count()):
                    nap.wait(0.001)
            finally:
                print("cancelled", flush=True)
        def stubborn(task):
            entered.set()
            threading.Event().wait()
        for work in (cooperative, stubborn, stubborn):
            BackgroundTask(runner=runner).start(work)
        entered.wait()
        """
    )
    assert out.split() == ["cancelled"]


HANDLER = """
import logging
class Handler(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), flush=True)
    def close(self):
        print("closed", flush=True)
        super().close()
logger = logging.getLogger("of the program")
logger.addHandler(Handler())
"""
IMPORT = "import silo_tasks, threading"
START = """
begun = threading.Event()
def work(task):
    begun.set()
    try:
        for _ in task.track(iter(int, 1)):
            pass
    finally:
        logger.error("cancelled at exit")
silo_tasks.BackgroundTask().start(work)
silo_tasks.default_runner().drain_timeout = 0
"""


@pytest.mark.parametrize("parts", [(HANDLER, IMPORT, START), (IMPORT, HANDLER, START), (IMPORT, START, HANDLER)])
def test_handlers_of_logging_are_closed_once_all_tasks_have_ended(parts: tuple[str, ...]) -> None:
    """The logging module closes them at exit. What tasks log until then must reach them."""
    out = python("\n".join([*parts, "begun.wait()"]))

    assert out.splitlines() == ["cancelled at exit", "closed"]


def test_functions_at_exit_are_called_after_tasks_if_they_were_registered_before_the_first_one() -> None:
    out = python(
        """
        import atexit, itertools, threading
        from silo_tasks import BackgroundTask
        begun, leave = threading.Event(), threading.Event()
        def work(task):
            begun.set()
            leave.wait()
            print("task", flush=True)
        atexit.register(print, "registered before", flush=True)
        BackgroundTask().start(work)
        atexit.register(lambda: (print("registered after", flush=True), leave.set()))
        begun.wait()
        """
    )

    assert out.splitlines() == ["registered after", "task", "registered before"]


def test_exit_does_not_wait_for_callbacks_of_cancelled_jobs() -> None:
    begin = time.monotonic()
    out = python(
        """
        import itertools, threading
        from silo_tasks import BackgroundTask, ThreadRunner
        runner = ThreadRunner(workers=1, drain_timeout=0.05)
        nap, begun = threading.Event(), threading.Event()
        def work(task):
            begun.set()
            for _ in task.track(itertools.count()):
                nap.wait(0.001)
        def slow(task):
            print(task.name, task.state.status.value, flush=True)
            nap.wait(30)
        tasks = [BackgroundTask(name, runner=runner) for name in ("running", "queued")]
        for task in tasks:
            task.start(work)
        begun.wait()
        tasks[1].on_done(slow)
        """
    )
    assert out == "queued cancelled\n"
    assert time.monotonic() - begin < 15


def test_a_deadline_that_comes_at_exit_calls_back() -> None:
    out = python(
        """
        import threading
        from silo_tasks import BackgroundTask, MemoryTaskStore
        begun, store = threading.Event(), MemoryTaskStore()
        def work(task):
            begun.set()
            threading.Event().wait(2)
            print(store.read("", "slow")[1]["status"], flush=True)
        task = BackgroundTask("slow", timeout=0.3, store=store)
        task.on_done(lambda task: print(task.state.status.value, flush=True))
        task.start(work)
        begun.wait()
        """
    )
    assert out.split() == ["failed", "failed"]


def test_no_thread_for_the_callbacks_of_a_run_that_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    task = BackgroundTask(runner=InlineRunner())
    called: list[BackgroundTask] = []

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    def work(task: BackgroundTask) -> None:
        task.on_done(called.append)
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        task.cancel(abandon=True)

    task.start(work)
    assert called == [task]


def test_an_unused_runner_ends_its_threads() -> None:
    before = set(threading.enumerate())
    for _ in range(5):
        task = BackgroundTask(runner=ThreadRunner(workers=2))
        task.start(lambda task: None)
        assert task.wait(WAIT)
    del task
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT)
        assert not thread.is_alive()


def test_a_runner_that_was_shut_down_ends_its_threads() -> None:
    before = set(threading.enumerate())
    runner, together = ThreadRunner(workers=3), threading.Barrier(3)
    for _ in range(3):
        runner.submit(PlainRun(lambda: together.wait(WAIT)).job())
    threads = set(threading.enumerate()) - before
    while len(runner._idle) < 3:
        # Threads that wait for nothing now, and would wait for ever.
        time.sleep(0)
    assert runner.shutdown(WAIT)
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()


def test_jobs_of_a_runner_that_was_dropped_are_executed() -> None:
    done = threading.Semaphore(0)

    def work() -> None:
        gc.collect()
        done.release()

    for _ in range(5):
        runner = ThreadRunner(workers=1)
        for _ in range(3):
            runner.submit(PlainRun(work).job())
        del runner
    for _ in range(15):
        assert done.acquire(timeout=WAIT)


def test_under_gevent() -> None:
    pytest.importorskip("gevent")
    out = python(
        """
        import warnings
        warnings.simplefilter("ignore")
        from gevent import monkey
        monkey.patch_all()
        import gevent, threading, time
        from silo_tasks import BackgroundTask, ThreadRunner, current_task, track
        runner = ThreadRunner(workers=4)
        names = []
        def work(task, count):
            for i in track(range(count)):
                time.sleep(0.001)
                names.append(current_task().name)
            return count
        tasks = [BackgroundTask(str(i), runner=runner) for i in range(8)]
        for i, task in enumerate(tasks):
            task.start(work, i)
        print([task.result(30) for task in tasks])
        print([names.count(str(i)) for i in range(8)])
        slow = BackgroundTask(timeout=0.05, runner=runner)
        slow.start(lambda task: time.sleep(0.3))
        print(slow.wait(30), slow.state.error_type)
        stopped = BackgroundTask(runner=runner)
        stopped.start(work, 10**6)
        time.sleep(0.01)
        stopped.cancel()
        print(stopped.wait(30), stopped.state.status.value)
        print(runner.shutdown(30))
        """
    )
    assert out.splitlines() == [
        "[0, 1, 2, 3, 4, 5, 6, 7]",
        "[0, 1, 2, 3, 4, 5, 6, 7]",
        "True TaskTimeout",
        "True cancelled",
        "True",
    ]


def test_imported_before_gevent_patches() -> None:
    """As by Gunicorn with a preloaded application."""
    pytest.importorskip("gevent")
    out = python(
        """
        import warnings
        warnings.simplefilter("ignore")
        from silo_tasks import BackgroundTask, MemoryTaskStore, track
        store = MemoryTaskStore()
        tasks = [BackgroundTask(str(i), timeout=30, store=store) for i in range(4)]
        from gevent import monkey
        monkey.patch_all()
        import time
        def work(task, count):
            for i in track(range(count)):
                time.sleep(0.001)
            return count
        for i, task in enumerate(tasks):
            task.start(work, i)
        print([task.result(30) for task in tasks])
        slow = BackgroundTask(timeout=0.05)
        slow.start(lambda task: time.sleep(0.3))
        print(slow.wait(30), slow.state.error_type)
        tasks[0].start(lambda task: (time.sleep(0.05), print("drained", flush=True)))
        """
    )
    assert out.splitlines() == ["[0, 1, 2, 3]", "True TaskTimeout", "drained"]


def test_exit_under_gevent_waits_and_then_cancels() -> None:
    pytest.importorskip("gevent")
    out = python(
        """
        import warnings
        warnings.simplefilter("ignore")
        from gevent import monkey
        monkey.patch_all()
        import sys, threading, time
        from silo_tasks import BackgroundTask, ThreadRunner
        patient = ThreadRunner(workers=1, drain_timeout=30)
        hasty = ThreadRunner(workers=2, drain_timeout=0)
        def work(task):
            time.sleep(0.05)
            print(task.name, flush=True)
        def endless(task):
            for _ in task.track(iter(int, 1)):
                time.sleep(0.001)
        def stubborn(task):
            begun.set()
            threading.Event().wait()
        for name in "abc":
            BackgroundTask(name, runner=patient).start(work)
        begun = threading.Event()
        tasks = [BackgroundTask(target.__name__, runner=hasty) for target in (endless, stubborn, endless)]
        for task, target in zip(tasks, (endless, stubborn, endless)):
            task.on_done(lambda task: print(task.name, task.state.status.value, flush=True))
            task.start(target)
        begun.wait()
        """
    )
    lines = out.splitlines()
    assert [line for line in lines if line in ("a", "b", "c")] == ["a", "b", "c"]
    assert [line for line in lines if " " in line] == ["endless cancelled", "endless cancelled"]


def test_testing_and_package_need_no_pytest() -> None:
    out = python("import sys, silo_tasks.testing, silo_tasks.console; print('pytest' in sys.modules)")
    assert out.split() == ["False"]


def test_status_of_a_task_in_a_closed_runner() -> None:
    runner = ThreadRunner(workers=1)
    assert runner.shutdown(WAIT)
    task = BackgroundTask(runner=runner)
    with pytest.raises(Exception, match="shut down"):
        task.start(lambda task: None)
    assert task.state.status is Status.IDLE
