from __future__ import annotations

import gc
import json
import logging
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from silo_tasks import MAX_LINE, BackgroundTask, InlineRunner, LogLine, ThreadRunner

WAIT = 30


def test_lines_have_numbers_times_and_levels() -> None:
    task = BackgroundTask(clock=lambda: 5.0)
    task.log("one")
    task.log("two %d of %s", 2, "three", level="warning")
    assert task.logs() == [LogLine(1, 5.0, "info", "one"), LogLine(2, 5.0, "warning", "two 2 of three")]
    assert [line.seq for line in task.logs(since=1)] == [2]
    assert task.logs(since=2) == task.logs(since=99) == []
    assert [line.seq for line in task.logs(since=-5)] == [1, 2]


@pytest.mark.parametrize("size", [0, 1, 2, 10])
def test_the_newest_lines_are_kept(size: int) -> None:
    task = BackgroundTask(max_logs=size)
    for i in range(1, 36):
        task.log(str(i))
        kept = [str(j) for j in range(max(1, i - size + 1), i + 1)] if size else []
        state = task.state
        assert state.logs == kept
        assert [line.text for line in task.logs()] == kept
        assert (state.last_seq, state.dropped) == (i, i - len(kept))


def test_a_snapshot_does_not_change() -> None:
    task = BackgroundTask(max_logs=3)
    for i in range(5):
        task.log(str(i))
    state = task.state
    for i in range(5, 50):
        task.log(str(i))
    assert state.to_dict()["logs"] == ["2", "3", "4"]
    assert state.logs == ["2", "3", "4"]
    assert state.to_dict(max_logs=2)["logs"] == ["3", "4"]
    assert (state.last_seq, state.dropped) == (5, 2)


def test_taking_a_state_copies_no_lines() -> None:
    task = BackgroundTask(max_logs=100_000)
    for _ in range(100_000):
        task.log("x")
    state = task.state
    assert not isinstance(vars(state)["logs"], list)
    assert len(state.to_dict()["logs"]) == 50
    assert not isinstance(vars(state)["logs"], list)
    assert len(state.logs) == 100_000


def test_long_lines_are_cut() -> None:
    task = BackgroundTask()
    task.log("x" * 5000)
    task.log("%s", "y" * 5000)
    assert [line.text for line in task.logs()] == ["x" * MAX_LINE + "…", "y" * MAX_LINE + "…"]


def test_percent_without_arguments_is_a_percent() -> None:
    task = BackgroundTask()
    task.log("100% done %s")
    assert task.state.logs == ["100% done %s"]


def test_arguments_that_do_not_fit_are_harmless() -> None:
    task = BackgroundTask()
    task.log("%d", "x")
    task.log("no place", 1)
    task.log("%s %s", object)
    assert all("arguments do not fit" in line for line in task.state.logs)
    json.dumps(task.state.to_dict())


def test_formatting_is_lazy_for_plain_values_and_at_once_for_objects() -> None:
    task, live = BackgroundTask(), [1]
    task.log("%s", live)
    live.append(2)
    assert task.state.logs == ["[1]"]
    task.log("%(a)s", {"a": 1})
    assert task.state.logs[-1] == "1"


def test_values_that_are_not_text_are_logged() -> None:
    task = BackgroundTask()
    task.log(5)  # type: ignore[arg-type]
    assert task.state.logs == ["5"]


def test_lines_of_many_threads_are_all_there(runner: ThreadRunner) -> None:
    task = BackgroundTask(max_logs=10_000)

    def write() -> None:
        for i in range(1000):
            task.log("%d", i)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seqs = [line.seq for line in task.logs()]
        assert seqs == list(range(1, len(seqs) + 1))
    assert [line.seq for line in task.logs()] == list(range(1, 4001))


def test_only_this_tasks_records_are_captured(runner: ThreadRunner) -> None:
    logger = logging.getLogger("silo.test.capture")
    logger.setLevel(logging.INFO)
    together = threading.Barrier(3)

    def work(task: BackgroundTask) -> None:
        with task.logging("silo.test"):
            together.wait(WAIT)
            logger.info("from %s", task.name)
            logger.debug("below the logger's level")
            together.wait(WAIT)
        logger.info("after")

    tasks = [BackgroundTask(name, runner=runner) for name in ("a", "b")]
    for task in tasks:
        task.start(work)
    together.wait(WAIT)
    logger.info("from outside")
    together.wait(WAIT)
    for task in tasks:
        assert task.result(WAIT) is None
        assert [(line.level, line.text) for line in task.logs()] == [("info", f"from {task.name}")]
    assert logging.getLogger("silo.test").handlers == []


def test_capture_of_all_loggers_from_a_level_on() -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        with task.logging(level=logging.ERROR):
            logging.getLogger("silo.one").error("yes")
            logging.getLogger("silo.two").warning("no")

    task.start(work)
    assert task.state.logs == ["yes"]


@pytest.mark.parametrize("level", ["warning", "WARNING", "Warning", logging.WARNING])
def test_a_capture_takes_the_name_of_a_level_in_any_case(level: int | str) -> None:
    task = BackgroundTask(runner=InlineRunner())
    logger = logging.getLogger("silo_tasks_test.levels")

    def work(task: BackgroundTask) -> None:
        with task.logging(logger.name, level=level):
            logger.error("taken")
            logger.info("left")

    task.start(work)
    task.result(WAIT)
    assert task.state.logs == ["taken"]


def test_a_capture_takes_a_level_of_the_applications_own() -> None:
    logging.addLevelName(35, "notice")
    task, logger = BackgroundTask(runner=InlineRunner()), logging.getLogger("silo_tasks_test.own_level")

    def work(task: BackgroundTask) -> None:
        with task.logging(logger.name, level="notice"):
            logger.log(35, "taken")
            logger.warning("left")

    task.start(work)
    task.result(WAIT)
    assert task.state.logs == ["taken"]


@pytest.mark.parametrize(
    ("level", "error", "words"),
    [
        ("loud", ValueError, "level 'loud' is unknown: give .* 'info'"),
        (None, TypeError, "not a NoneType"),
        (2.5, TypeError, "not a float"),
    ],
)
def test_an_unknown_level_is_refused_with_a_hint(level: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words), BackgroundTask().logging("silo_tasks_test", level=level):
        pass


@pytest.mark.parametrize(
    ("level", "word"), [("INFO", "info"), (logging.ERROR, "error"), ("Loud", "Loud"), ("debug", "debug")]
)
def test_a_line_has_the_name_of_its_level(level: int | str, word: str) -> None:
    task = BackgroundTask()
    task.log("line", level=level)
    assert task.logs()[0].level == word


UNCONFIGURED = """
import logging
from silo_tasks import BackgroundTask, InlineRunner

logger, task, other = logging.getLogger("app.part"), BackgroundTask(runner=InlineRunner()), BackgroundTask()


def work(task):
    with task.logging("app"), task.logging("app", level="error"), other.logging():
        logger.warning("seen once")
        logger.info("below")
    with other.logging("app"):
        logger.error("of another run")
    logging.getLogger("app").addHandler(logging.NullHandler())
    with task.logging("app"):
        logger.warning("handled")


task.start(work)
task.result()
assert task.state.logs == ["seen once", "handled"], task.state.logs
"""


def test_a_warning_that_nothing_else_handles_is_printed() -> None:
    """As without a capture: once, and only if no handler takes it."""
    # In a process of its own, as pytest listens to every logger.
    done = subprocess.run([sys.executable, "-c", UNCONFIGURED], capture_output=True, text=True, timeout=WAIT)
    assert (done.returncode, done.stderr) == (0, "seen once\nof another run\n")


def test_a_record_that_passes_two_loggers_is_copied_once() -> None:
    task = BackgroundTask(runner=InlineRunner())
    db, apart = logging.getLogger("silo.twice.app.db"), logging.getLogger("silo.twice.app.apart")
    apart.propagate = False

    def work(task: BackgroundTask) -> None:
        with task.logging("silo.twice.app.db", "silo.twice.app", "silo.twice.app.apart", "silo.twice.app"):
            db.error("once")
            apart.error("apart")
        db.error("after")

    task.start(work)
    assert task.state.logs == ["once", "apart"]


def test_nested_captures_copy_a_record_once() -> None:
    inner, outer = BackgroundTask("inner", runner=InlineRunner()), BackgroundTask("outer", runner=InlineRunner())
    logger = logging.getLogger("silo.nested.db")

    def work(task: BackgroundTask) -> None:
        with task.logging("silo.nested", level=logging.ERROR), task.logging(), task.logging("silo.nested.db"):
            if task is outer:
                inner.start(work)
            logger.warning("once")
            logger.error("again")

    outer.start(work)
    assert inner.state.logs == ["once", "again"]
    # The code of the inner task is code of the outer one.
    assert outer.state.logs == ["once", "again", "once", "again"]


@pytest.mark.parametrize(
    "line",
    [
        lambda text: ("%s", text),
        lambda text: ("%s", text.encode()),
        lambda text: (text + "%d", 1),
        lambda text: ("%s" * 1000, *[text[:200]] * 1000),
        lambda text: ("%d", 1 << 8 * len(text)),
    ],
    ids=["text", "bytes", "format", "many", "number"],
)
def test_the_log_keeps_no_long_arguments(line: Callable[[str], tuple[Any, ...]]) -> None:
    task = BackgroundTask()
    task.log("short %d", 1)
    tracemalloc.start()
    try:
        for i in range(20):
            task.log(*line(chr(65 + i) * 100_000))
        assert tracemalloc.get_traced_memory()[0] < 300_000
    finally:
        tracemalloc.stop()
    assert all(len(text) <= MAX_LINE + 1 for text in task.state.logs)


def chatty(task: BackgroundTask, lines: int, text: str) -> None:
    for i in range(lines):
        task.log(f"{i} {text}")


@pytest.mark.parametrize("complete", [False, True], ids=["returned", "goes on after complete"])
@pytest.mark.parametrize("char", ["x", "ü", "…", "😀"])
def test_the_log_of_a_finished_run_fits_its_budget(char: str, complete: bool) -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        if complete:
            task.complete()
        chatty(task, 1999, char * 3000)

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        task.start(work)
        assert task.wait(WAIT)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 1_500_000 < taken < 2_500_000
    state = task.state
    assert sum(map(sys.getsizeof, state.logs)) < 2_200_000
    assert state.logs[-1].startswith("1998 ")
    assert state.dropped == 1999 - len(state.logs)
    assert [line.seq for line in task.logs()] == list(range(state.dropped + 1, 2000))


def test_plain_lines_of_full_length_all_fit() -> None:
    task = BackgroundTask(runner=InlineRunner())
    task.start(chatty, 1500, "x" * (MAX_LINE - 10))
    assert (len(task.state.logs), task.state.dropped) == (1000, 500)


def test_the_budget_counts_lines_as_they_are_read() -> None:
    """Formatting a line later must not make the log exceed its budget."""
    task = BackgroundTask(runner=InlineRunner())
    part = "€" * 200

    def work(task: BackgroundTask) -> None:
        for i in range(1000):
            task.log("%d %s%s%s%s%s%s%s%s%s", i, *[part] * 9)

    task.start(work)
    lines = task.state.logs
    assert 0 < len(lines) < 1000
    assert sum(map(sys.getsizeof, lines)) < 2_200_000


@pytest.mark.parametrize("size", [1, 3])
def test_a_short_log_keeps_long_lines(size: int) -> None:
    task = BackgroundTask(max_logs=size, runner=InlineRunner())
    task.start(chatty, 10, "😀" * 3000)
    assert len(task.state.logs) == size


def test_a_running_task_keeps_no_more_than_twice_its_budget(runner: ThreadRunner) -> None:
    task, written, leave = BackgroundTask(runner=runner), threading.Event(), threading.Event()

    def work(task: BackgroundTask) -> None:
        chatty(task, 1999, "😀" * 3000)
        written.set()
        assert leave.wait(WAIT)

    task.start(work)
    assert written.wait(WAIT)
    assert sum(map(sys.getsizeof, task.state.logs)) < 4_500_000
    leave.set()
    assert task.wait(WAIT)
