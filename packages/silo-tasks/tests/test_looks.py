"""Readers of a task share what has not changed, see one moment, and cannot change what the next reader sees."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from silo_tasks import BackgroundTask, InlineRunner, TaskState, ThreadRunner
from silo_tasks.log.lines import LogLine, LogRing, LogView, view_of
from silo_tasks.progress.scopes import Progress, Scope

WAIT = 30
LOGGER = logging.getLogger("silo.looks")


def report(task: BackgroundTask) -> None:
    """Report something of every kind."""
    task.plan(("Read", 1), ("Write", 3))
    with task.step("Read"):
        for _ in task.track(range(3)):
            task.log("line %d", task.state.n)
        with task.logging("silo.looks", level="info"):
            LOGGER.warning("private")
    task.update(message="{percent} % done")


@contextmanager
def at_work(work: Callable[[BackgroundTask], object]) -> Iterator[BackgroundTask]:
    """Yield a task whose run has called ``work`` and has not returned yet."""
    runner, ready, leave = ThreadRunner(workers=1), threading.Event(), threading.Event()
    task = BackgroundTask("looks", runner=runner)

    def run(task: BackgroundTask) -> None:
        work(task)
        ready.set()
        leave.wait(WAIT)

    task.start(run)
    assert ready.wait(WAIT)
    yield task
    leave.set()
    assert runner.shutdown(WAIT)


@contextmanager
def finished(work: Callable[[BackgroundTask], object]) -> Iterator[BackgroundTask]:
    """Yield a task whose run has called ``work`` and is over."""
    task = BackgroundTask("looks", runner=InlineRunner())
    task.start(work)
    yield task


def spoil(value: Any) -> None:
    """Change whatever can be changed in the plain values."""
    if isinstance(value, dict):
        for each in value.values():
            spoil(each)
        value.clear()
    elif isinstance(value, list):
        for each in value:
            spoil(each)
        value.append("spoiled")


@pytest.mark.parametrize("made", [at_work, finished])
def test_a_change_that_a_caller_makes_to_a_state_reaches_no_other_caller(made: Any) -> None:
    with made(report) as task:
        first, public = task.state.to_dict(), task.state.to_dict(public=True)
        assert (len(first["logs"]), len(public["logs"]), len(first["steps"])) == (4, 3, 2)
        kept, moving = copy.deepcopy((first, public)), {"elapsed", "rate", "eta"}
        spoil(first)
        spoil(public)
        state = task.state
        state.message, state.status = "spoiled", TaskState().status
        assert state.to_dict()["message"] == "spoiled"
        for each in (state.logs, state.steps, state.private_logs):
            spoil(each)
        now = task.state.to_dict(), task.state.to_dict(public=True)
        for before, after in zip(kept, now, strict=True):
            assert {**before, **dict.fromkeys(moving)} == {**after, **dict.fromkeys(moving)}


@pytest.mark.parametrize("made", [at_work, finished])
def test_a_state_can_be_copied_and_pickled(made: Any) -> None:
    with made(report) as task:
        state = task.state
        for other in (copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
            assert other == state
            assert other.to_dict(public=True) == state.to_dict(public=True)


@pytest.mark.parametrize("made", [at_work, finished])
def test_the_dict_of_a_state_has_nothing_that_a_caller_has_added(made: Any) -> None:
    with made(report) as task:
        state: Any = task.state
        plain, public = state.to_dict(), state.to_dict(public=True)
        state.user = object()
        assert (state.to_dict(), state.to_dict(public=True)) == (plain, public)


def test_each_caller_gets_as_many_lines_as_it_asks_for() -> None:
    def work(task: BackgroundTask) -> None:
        for i in range(100):
            task.log(str(i))

    with finished(work) as task:
        state = task.state
        for count in (50, 2, 0, 1000, 50, -1):
            lines = list(map(str, range(100)))[-count:] if count > 0 else []
            assert state.to_dict(max_logs=count)["logs"] == lines
            assert task.state.to_dict(max_logs=count, public=True)["logs"] == lines


def test_a_look_at_a_loop_does_not_wait_for_its_lock() -> None:
    def count(task: BackgroundTask) -> None:
        loop = task.track(iter(range(10)))
        task.log("begun")
        next(loop), next(loop)
        loops.append(loop)

    loops: list[Iterator[int]] = []
    with at_work(count) as task:
        assert task.state.n == 1
        seen: list[tuple[int, list[str]]] = []
        looking = threading.Thread(target=lambda: seen.append((task.state.n, task.state.logs)), daemon=True)
        with task._run.lock:
            next(loops[0])
            looking.start()
            looking.join(WAIT)
            assert seen == [(2, ["begun"])]


def test_a_look_waits_for_a_report_of_several_things() -> None:
    with at_work(report) as task:
        seen: list[str] = []
        looking = threading.Thread(target=lambda: seen.append(task.state.message), daemon=True)
        with task._run.lock:
            task.update(message="new")
            looking.start()
        looking.join(WAIT)
        assert seen == ["new"]


@pytest.mark.parametrize(
    "tell",
    [lambda task: task.log("Item 2"), lambda task: task.update(message="Item 2")],
    ids=["log", "update"],
)
def test_a_report_during_a_look_makes_it_look_again(
    monkeypatch: pytest.MonkeyPatch, tell: Callable[[BackgroundTask], None]
) -> None:
    task, view = BackgroundTask(), LogRing.view
    loop = task.track(range(4))
    next(loop)
    task.log("Item 1")
    task.update(message="Item 1")
    assert task.state.n == 0
    reports = [tell]

    def view_before(ring: LogRing) -> LogView:
        found = view(ring)
        if reports:
            reports.pop()(task)
            next(loop)
        return found

    monkeypatch.setattr(LogRing, "view", view_before)
    state = task.state
    assert (state.n, "Item 2" in (state.message, *state.logs)) == (1, True)


@pytest.mark.usefixtures("many_switches")
def test_each_look_is_of_one_moment() -> None:
    over = threading.Event()
    wrong: list[Any] = []

    def work(task: BackgroundTask) -> None:
        for turn in range(30):
            with task.step(f"Step {turn}"):
                for _ in task.track(range(20)):
                    task.log("a line")
                    task.update(message="{n} of {total} in " + f"Step {turn}")

    def watch() -> None:
        progress, last = 0.0, 0
        while not over.is_set():
            state = task.state
            running = [step.name for step in state.steps if step.status == "running"]
            if running:
                told = state.message == running[0] or state.message.endswith(f" in {running[0]}")
                turn = int(running[0].split()[1])
                # One line an item: the one of the current item may be written already.
                lined = turn * 20 + state.n <= state.last_seq <= turn * 20 + state.n + 1 or state.n in (0, 20)
                if not (told and lined):
                    wrong.append(state)
            if not (progress <= state.progress and last <= state.last_seq == len(state.logs)):
                wrong.append((progress, last, state))
            progress, last = state.progress, state.last_seq

    runner = ThreadRunner(workers=1)
    task = BackgroundTask("looks", runner=runner)
    watchers = [threading.Thread(target=watch, daemon=True) for _ in range(4)]
    task.start(work)
    for watcher in watchers:
        watcher.start()
    assert task.wait(WAIT)
    over.set()
    for watcher in watchers:
        watcher.join(WAIT)
    assert wrong == []
    assert (task.state.progress, task.state.last_seq) == (100, 600)
    assert runner.shutdown(WAIT)


@pytest.mark.usefixtures("many_switches")
def test_lines_of_a_look_are_without_gaps_though_old_ones_are_dropped() -> None:
    over = threading.Event()
    wrong: list[Any] = []

    def work(task: BackgroundTask) -> None:
        for i in range(3000):
            task.log("%d", i + 1)

    def watch() -> None:
        while not over.is_set():
            state = task.state
            logs = state.to_dict()["logs"]
            if logs != [str(i) for i in range(max(1, state.last_seq - 9), state.last_seq + 1)]:
                wrong.append((state.last_seq, logs))
            if state.dropped != max(0, state.last_seq - 10):
                wrong.append((state.last_seq, state.dropped))

    runner = ThreadRunner(workers=1)
    task = BackgroundTask("looks", runner=runner, max_logs=10)
    watchers = [threading.Thread(target=watch, daemon=True) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    task.start(work)
    assert task.wait(WAIT)
    over.set()
    for watcher in watchers:
        watcher.join(WAIT)
    assert wrong == []
    assert runner.shutdown(WAIT)


def test_a_new_total_during_a_look_does_not_raise_the_progress_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    task, value = BackgroundTask(), Scope.value
    task.update(n=100, total=1000)
    assert task.state.progress == 10
    reports = [lambda: task.update(n=0, total=50)]

    def value_after(scope: Scope, done: int) -> float:
        if reports:
            reports.pop()()
        return value(scope, done)

    monkeypatch.setattr(Scope, "value", value_after)
    state = task.state
    assert (state.n, state.total, state.progress) == (0, 50, 10)
    assert task.state.progress == 10


@pytest.mark.parametrize("end", [False, True], ids=["message", "end"])
def test_a_look_in_the_middle_of_a_report_is_not_kept(monkeypatch: pytest.MonkeyPatch, end: bool) -> None:
    """As that of a signal handler, or of code that a garbage collection calls."""
    looks: list[TaskState] = []

    def cut(text: str) -> str:
        looks.append(task.state)
        return text

    monkeypatch.setattr("silo_tasks.run.run.cut", cut)

    def work(task: BackgroundTask) -> None:
        task.update(message="new")
        assert task.state.message == "new"
        if end:
            task.fail("went wrong")

    task = BackgroundTask("looks", runner=InlineRunner())
    task.start(work)
    assert looks[0].message == "Running"
    assert task.state.message == ("Failed: went wrong" if end else "new")


def test_a_look_at_lines_of_another_process_counts_the_private_ones_that_it_does_not_have() -> None:
    class Watched(LogRing):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "last_seq" and value:
                looks.append(self.view().private)

    looks: list[int] = []
    log = Watched(5, threading.RLock())
    log.follow(LogView([LogLine(2, 0.0, "info", "a line")], 0, 1, 1, 2, private=1))
    assert looks[-1] == log.view().private == 1


def test_lines_after_a_number_have_greater_numbers_also_if_some_are_missing() -> None:
    lines = [LogLine(seq, 0.0, "info", "a line") for seq in (1, 2, 5)]
    view = LogView(lines, 0, 3, 1, 5, private=0)
    assert [line.seq for line in view.since(2)] == [5]


def test_only_private_lines_count_as_private() -> None:
    log = LogRing(5, threading.RLock())
    counts = [log.view().private]
    for public in (True, False, True):
        log.append(0.0, "info", "a line", public=public)
        counts.append(log.view().private)
    assert counts == [0, 0, 1, 1]


def test_a_record_without_a_log_has_dropped_no_lines() -> None:
    view = view_of({})
    assert (view.all(), view.dropped, view.last_seq) == ([], 0, 0)


def test_a_loop_that_is_collected_during_a_look_is_closed_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    task = BackgroundTask()
    outer, inner = task.track(range(4)), [task.track(range(9))]
    next(outer)
    next(inner[0])
    counted = Progress.counted

    def collects(progress: Progress) -> Any:
        scope = counted(progress)
        inner.clear()
        return scope

    monkeypatch.setattr(Progress, "counted", collects)
    _ = task.state
    assert task.state.total == 4


def test_looks_keep_no_data_of_a_finished_loop() -> None:
    class Row:
        pass

    def work(task: BackgroundTask) -> None:
        row = Row()
        gone.append(weakref.ref(row))
        for _ in task.track(iter([row])):
            kept.append(task.state)

    gone: list[weakref.ref[Row]] = []
    kept: list[TaskState] = []
    with finished(work) as task:
        kept += [task.state, task.state]
        gc.collect()
        assert gone[0]() is None


def test_a_line_after_the_end_shows() -> None:
    with finished(report) as task:
        assert task.state.last_seq == 4
        task.log("late")
        assert task.state.logs[-1] == task.state.to_dict()["logs"][-1] == "late"


def test_a_new_run_shows_at_once() -> None:
    with finished(report) as task:
        assert task.state.run == 1
        task.start(report)
        assert (task.state.run, task.state.last_seq) == (2, 8)
        task.reset()
        assert (task.state.status, task.state.message, task.state.steps) == ("idle", "", [])
