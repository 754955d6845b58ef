"""Watchers see valid JSON and sensible numbers, whatever a task reports."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from silo_tasks import MAX_LINE, BackgroundTask, InlineRunner, StepState, TaskState, ThreadRunner

WAIT = 30
MOST = 2**63 - 1


def look(task: BackgroundTask) -> dict[str, Any]:
    """Return the state as a watcher gets it, after a check of each number."""
    record: dict[str, Any] = json.loads(json.dumps(task.state.to_dict(), allow_nan=False).encode())
    assert 0 <= record["progress"] <= 100
    assert type(record["progress"]) is float
    assert 0 <= record["n"] <= MOST
    assert record["total"] is None or record["n"] <= record["total"] <= MOST
    for name in ("rate", "eta"):
        assert record[name] is None or record[name] >= 0
    assert record["elapsed"] >= 0
    assert TaskState.from_dict(record).to_dict() == record
    return record


class Number(float):
    """A float of another library."""


class Whole:
    """A number that only knows its whole value."""

    def __int__(self) -> int:
        return 4


NUMBERS: list[Any] = [
    *(float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1e308, -1e308, 5e-324, 2.5, 33.3),
    *(0, 1, 3, -1, -7, 10**4, 2**63, MOST, -(2**63), 10**400, -(10**400), 10**4000, True, False),
    *(Decimal("3.7"), Decimal("Infinity"), Decimal("1e30"), Fraction(7, 2), Number(3.3), Number("nan")),
]
COUNTS = [*NUMBERS, Decimal("NaN"), Whole(), "7", "x", "nan", b"5"]
KINDS = ["progress", "n", "total", "both", "advance", "list", "iterator", "break", "step", "plan", "tick", "back"]

NODES: Any = st.recursive(
    st.tuples(st.sampled_from(KINDS), st.sampled_from(COUNTS), st.just([])),
    lambda nodes: st.tuples(st.sampled_from(KINDS), st.sampled_from(COUNTS), st.lists(nodes, max_size=4)),
    max_leaves=15,
)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.lists(NODES, max_size=5))
def test_any_reports(nodes: Any) -> None:
    now, seen = [1000.0], [0.0]
    task = BackgroundTask(runner=InlineRunner(), clock=lambda: now[0])

    def each(inner: Any) -> None:
        for node in inner:
            do(*node)

    def do(kind: str, number: Any, inner: Any) -> None:
        now[0] += 0.25
        if kind == "progress" and number in NUMBERS and not isinstance(number, Decimal):
            task.update(progress=number)
        elif kind == "both":
            task.update(n=number, total=number)
        elif kind in ("n", "total"):
            task.update(n=number) if kind == "n" else task.update(total=number)
        elif kind == "advance":
            task.advance(number)
        elif kind == "tick":
            now[0] += 60
        elif kind == "back":
            now[0] -= 30
        elif kind == "step":
            with task.step("step"):
                each(inner)
        elif kind == "plan":
            task.plan(("one", 1), ("two", 2))
            with task.step("one"):
                each(inner)
        else:
            items: Any = [1, 2, 3] if kind == "list" else iter([1, 2, 3])
            for item in task.track(items, total=number):
                each(inner)
                if kind == "break" and item == 2:
                    break
        record = look(task)
        # Only progress that is given by hand goes back.
        assert record["progress"] >= seen[-1] or kind == "progress"
        seen.append(record["progress"])

    def work(task: BackgroundTask) -> None:
        task.update(message="{n} {total} {percent} {rate} {eta}")
        each(nodes)

    task.start(work)
    task.result()
    assert look(task)["progress"] == 100


def test_percent_as_a_decimal() -> None:
    task = BackgroundTask()
    for percent, shown in (("3.7", 3.7), ("1e30", 100), ("-Infinity", 0)):
        task.update(progress=Decimal(percent))  # type: ignore[arg-type]
        assert look(task)["progress"] == shown


def test_counts_that_add_up_to_too_much() -> None:
    task = BackgroundTask()
    for _ in range(5):
        task.advance(10**30)
    assert look(task)["n"] == MOST
    task = BackgroundTask()
    task.update(n=-5, total=3, message="{n}/{total}")
    assert (look(task)["n"], task.state.message) == (0, "0/3")
    task.advance(6)
    assert (look(task)["n"], task.state.message) == (1, "1/3")


def sized(length: Any, *, hint: bool) -> Any:
    """Three items whose length hint is `length`, or raises it."""

    def size(self: object) -> Any:
        if isinstance(length, Exception):
            raise length
        return length

    methods = {"__length_hint__" if hint else "__len__": size, "__iter__": lambda self: iter([1, 2, 3])}
    return type("Sized", (), methods)()


@pytest.mark.parametrize("hint", [False, True], ids=["len", "hint"])
@pytest.mark.parametrize(
    ("length", "total"),
    [
        (3, 3),
        (0, 0),
        (1, 1),
        (1000, 1000),
        (MOST, MOST),
        (-1, None),
        (2**70, None),
        (2.5, None),
        ("3", None),
        (None, None),
        (NotImplemented, None),
        (True, 1),
        *((error, None) for error in (TypeError("no"), OSError("no"), AttributeError("no"), OverflowError("no"))),
    ],
    ids=repr,
)
def test_a_loop_goes_on_with_any_length(length: Any, total: int | None, hint: bool) -> None:
    task = BackgroundTask(runner=InlineRunner())
    seen: list[tuple[int, int | None]] = []

    def work(task: BackgroundTask) -> list[int]:
        items = []
        for item in task.track(sized(length, hint=hint)):
            items.append(item)
            record = look(task)
            seen.append((record["n"], record["total"]))
        return items

    task.start(work)
    assert task.result() == [1, 2, 3]
    assert seen == [(n, None if total is None else max(n, total)) for n in range(3)]
    assert (look(task)["n"], look(task)["total"]) == (3, None if total is None else max(3, total))


def test_a_total_that_changes() -> None:
    task = BackgroundTask(runner=InlineRunner())
    seen: list[tuple[int, int | None, float]] = []

    def work(task: BackgroundTask) -> None:
        for i in task.track(i for i in range(8)):
            if i in (1, 3, 5, 7):
                task.update(total={1: 4, 3: 8, 5: 0, 7: 16}[i])
            record = look(task)
            seen.append((record["n"], record["total"], record["progress"]))

    task.start(work)
    task.result()
    # Progress waits where it was until the new total has caught up.
    assert seen == [(0, None, 0), (1, 4, 25), (2, 4, 50), (3, 8, 50), (4, 8, 50), (5, 5, 50), (6, 6, 50), (7, 16, 50)]


@pytest.mark.slow
@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["next", "close", "drop"])), max_size=60))
def test_loops_that_are_left_in_any_order(steps: list[tuple[int, str]]) -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        loops: dict[int, tuple[Iterator[int], Iterator[int]]] = {}
        percent = 0.0
        for which, what in steps:
            if which not in loops:
                items = list(range(5)) if which % 2 else iter(range(5))
                loops[which] = task.track(items, total=5), iter(range(5))
            tracked, plain = loops[which]
            if what == "next":
                assert next(tracked, None) == next(plain, None)
            elif what == "close":
                loops[which] = iter(()), iter(())
            else:
                del loops[which]
            del tracked
            record = look(task)
            assert record["progress"] >= percent
            percent = record["progress"]
        loops.clear()
        assert task._run.stop._probes == []
        for _ in task.track("ab"):
            pass
        record = look(task)
        assert (record["n"], record["total"]) == (2, 2)

    task.start(work)
    task.result()


def test_loops_and_steps_of_many_threads(runner: ThreadRunner) -> None:
    task = BackgroundTask(runner=runner)
    errors: list[BaseException] = []

    def each(name: str) -> None:
        try:
            for i in range(30):
                with task.step(f"{name}{i}"):
                    assert list(task.track(iter(range(5)))) == list(range(5))
                    with task.step("inner"):
                        for _ in task.track([1, 2, 3]):
                            task.advance()
                            task.log("%s %d", name, i)
        except BaseException as error:
            errors.append(error)

    def work(task: BackgroundTask) -> None:
        threads = [threading.Thread(target=each, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        percent = 0.0
        while any(thread.is_alive() for thread in threads):
            record = look(task)
            assert record["progress"] >= percent
            percent = record["progress"]

    task.start(work)
    task.result(WAIT)
    assert errors == []
    assert [line.seq for line in task.logs()] == list(range(1, 361))
    assert {step.status for step in task.state.steps} == {"done"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    st.lists(
        st.tuples(
            st.floats(-1e3, 1e6) | st.sampled_from([0.0, 1e-9, 0.5, 1.0]),
            st.integers(0, 30),
            st.booleans(),
        ),
        max_size=80,
    )
)
def test_rate_and_eta_at_any_pace(moves: list[tuple[float, int, bool]]) -> None:
    clock = Clock()
    task = BackgroundTask(runner=InlineRunner(), clock=clock)

    def work(task: BackgroundTask) -> None:
        task.update(total=1000)
        for seconds, count, watched in moves:
            clock.now += seconds
            task.advance(count)
            if watched:
                look(task)

    task.start(work)
    task.result()


@settings(max_examples=50)
@given(st.lists(st.floats(0.01, 30), min_size=1, max_size=40), st.booleans())
def test_the_rate_of_a_stalled_loop_falls(paces: list[float], watched: bool) -> None:
    clock = Clock()
    task = BackgroundTask(runner=InlineRunner(), clock=clock)

    def work(task: BackgroundTask) -> None:
        for i in task.track(range(len(paces) + 5)):
            if i < len(paces):
                clock.now += paces[i]
                if watched:
                    look(task)
                continue
            before = look(task)
            for _ in range(5):
                clock.now += 120
                after = look(task)
                assert after["rate"] < before["rate"]
                assert after["eta"] > before["eta"]
                before = after
            return

    task.start(work)
    task.result()


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_a_clock_that_stands_or_goes_back_gives_no_rate(seconds: float) -> None:
    clock = Clock()
    task = BackgroundTask(runner=InlineRunner(), clock=clock)

    def work(task: BackgroundTask) -> None:
        for _ in task.track(range(10)):
            clock.now += seconds
            record = look(task)
            assert (record["rate"], record["eta"], record["elapsed"]) == (0.0, None, 0.0)

    task.start(work)
    task.result()


@contextmanager
def nothing_logged() -> Iterator[None]:
    """Keep log records out of pytest's reports: pytest-xdist cannot send one with half a surrogate pair."""
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@given(st.text() | st.text("a\ud800\udcff") | st.text("{}ntoalperctgi!:.[]0 "))
def test_any_text(text: str) -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        task.update(message=text)
        task.log(text)
        task.log("%s", text, level=text)
        task.log(text, 1, text)
        with task.step(text):
            assert len(look(task)["steps"][0]["name"]) == len(text)
        raise ValueError(text)

    with nothing_logged():
        task.start(work)
    record = look(task)
    assert record["error"]
    # A store writes it as UTF-8.
    assert task._run.failure is not None
    json.dumps([record, task.logs(), task._run.failure.traceback], ensure_ascii=False).encode()
    assert [len(line.level) for line in task.logs()][1] == len(text)


def test_long_levels_are_cut() -> None:
    task = BackgroundTask()
    task.log("a", level="x" * 10**5)
    assert len(task.logs()[0].level) == MAX_LINE + 1


def test_states_that_hold_steps_are_equal_to_what_they_were() -> None:
    state = TaskState(steps=[StepState("a", "done", 0, 1.0, 1.0, 2.0)])
    assert TaskState.from_dict(json.loads(json.dumps(state.to_dict()))) == state


def test_a_negative_count_shows_none() -> None:
    task = BackgroundTask()
    task.update(n=-5, total=10)
    assert (task.state.n, task.state.progress) == (0, 0.0)


def test_the_counts_of_the_last_loop_stay_after_its_step() -> None:
    def work(task: BackgroundTask) -> TaskState:
        with task.step("read"):
            for _ in task.track(range(3)):
                pass
        return task.state

    task = BackgroundTask(runner=InlineRunner())
    task.start(work)
    state = task.result()
    assert (state.n, state.total) == (3, 3)
