"""The time left, by the rate and the total of the running work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from silo_tasks import BackgroundTask, InlineRunner, MemoryTaskStore, TaskState
from silo_tasks.console import line
from silo_tasks.status import Status


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def states(work: Callable[[BackgroundTask, Clock], Iterator[object]]) -> list[tuple[float, TaskState]]:
    """Return the state at each yield of some work, with the time that the rest really takes."""
    clock = Clock()
    task = BackgroundTask(runner=InlineRunner(), clock=clock)
    seen: list[tuple[float, TaskState]] = []

    def look(task: BackgroundTask) -> None:
        for _ in work(task, clock):
            seen.append((clock.now, task.state))

    task.start(look)
    task.result()
    return [(clock.now - at, state) for at, state in seen]


def loop(task: BackgroundTask, clock: Clock, items: Iterable[Any], seconds: float) -> Iterator[None]:
    for _ in task.track(items):
        yield
        clock.now += seconds


def test_later_steps_of_a_plan_take_as_long_as_the_running_one_by_their_weights() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        task.plan(("Read", 1), ("Sum", 6), ("Write", 3))
        for name, seconds in (("Read", 0.1), ("Sum", 0.6), ("Write", 0.3)):
            with task.step(name):
                yield from loop(task, clock, range(100), seconds)

    told = [(real, state.eta) for real, state in states(work) if state.eta is not None]
    assert len(told) >= 290
    for real, eta in told:
        assert eta == pytest.approx(real, rel=0.01)


@pytest.mark.slow
def test_a_running_step_is_not_measured_by_a_fast_one_before() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        task.plan(("Parse", 1), ("Aggregate", 3))
        with task.step("Parse"):
            yield from loop(task, clock, range(10), 0.01)
        with task.step("Aggregate"):
            yield from loop(task, clock, range(50_000), 1 / 9000)

    for real, state in states(work)[20::100]:
        assert state.eta == pytest.approx(real, rel=0.01)
        assert state.rate is not None
        left, rate = line(state).split(" left")[0].split(" ")[-1], re.findall(r"([\d.]+)/s", line(state))[0]
        minutes, seconds = left.split(":")
        assert 60 * int(minutes) + int(seconds) == pytest.approx((50_000 - state.n) / float(rate), abs=1)


def test_a_step_that_has_just_begun_has_no_rate_yet() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        task.plan(("a", 1), ("b", 1))
        with task.step("a"):
            yield from loop(task, clock, range(10), 1)
            yield
        yield
        with task.step("b"):
            yield
            for _ in task.track(range(10)):
                yield
                clock.now += 1

    found = [state.eta for _, state in states(work)]
    assert found[1:10] == pytest.approx([19, 18, 17, 16, 15, 14, 13, 12, 11])
    # At the end of the loop, between the steps, before the loop, and at its first item.
    assert found[10:14] == [None, None, None, None]
    assert found[14:] == pytest.approx([9, 8, 7, 6, 5, 4, 3, 2, 1])


def test_a_step_that_reports_nothing_leaves_the_time_unknown() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        task.plan(("a", 1), ("b", 1), ("c", 1))
        for name in "abc":
            with task.step(name):
                for _ in range(5):
                    clock.now += 1
                    yield

    assert {state.eta for _, state in states(work)} == {None}


def test_steps_without_a_plan_leave_the_time_unknown() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        with task.step("a"):
            yield from loop(task, clock, range(10), 1)
        with task.step("b"):
            yield from loop(task, clock, range(1000), 1)

    found = states(work)
    assert {state.eta for _, state in found} == {None}
    assert found[50][1].rate == pytest.approx(1, rel=0.1)


def test_steps_without_a_plan_inside_an_item_are_measured_by_the_items() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        for _ in task.track(range(10)):
            with task.step("a"):
                yield from loop(task, clock, range(5), 1)
            with task.step("b"):
                yield from loop(task, clock, range(5), 1)

    found = states(work)
    assert {state.eta for _, state in found[:10]} == {None}
    for real, state in found[10::10]:
        assert state.eta == pytest.approx(real)


@pytest.mark.parametrize("kind", [list, iter], ids=["list", "iterator"])
def test_a_loop_in_a_loop(kind: Callable[[Any], Iterable[int]]) -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        for _ in task.track(kind(range(10)), total=10):
            yield from loop(task, clock, kind([1] * 20), 1) if kind is list else counted(task, clock)

    def counted(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        for _ in task.track(iter(range(20)), total=20):
            yield
            clock.now += 1

    for real, state in states(work):
        # At the first item of an inner loop nothing tells how long it takes.
        assert state.eta == (None if state.n == 0 and real > 180 else pytest.approx(real, abs=21))
        assert state.total == 20


def test_a_plan_for_each_item_of_a_loop() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        for _ in task.track(range(5)):
            task.plan(("a", 1), ("b", 3))
            with task.step("a"):
                yield from loop(task, clock, range(10), 1)
            with task.step("b"):
                yield from loop(task, clock, range(30), 1)

    for real, state in states(work)[1:40]:
        assert state.eta == (None if state.n == 0 else pytest.approx(real))


def test_loops_side_by_side_are_not_counted_twice() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        for _ in zip(task.track(range(100)), task.track(range(100)), strict=True):
            yield
            clock.now += 1

    for real, state in states(work)[1:]:
        assert state.eta == pytest.approx(real)


def test_a_loop_of_unknown_length_with_a_percent_by_hand() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        for i, _ in enumerate(task.track(x for x in "x" * 100)):
            clock.now += 1
            task.update(progress=i + 1)
            yield

    for real, state in states(work)[:-1]:
        assert state.eta == pytest.approx(real)
        assert state.total is None


def test_a_loop_of_unknown_length_inside_a_plan() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        task.plan(("a", 1), ("b", 1))
        with task.step("a"):
            yield from loop(task, clock, range(10), 1)
        with task.step("b"):
            yield from loop(task, clock, (x for x in "x" * 10), 1)

    assert {state.eta for _, state in states(work)[10:]} == {None}


def test_a_loop_of_unknown_length_around_one_of_known_length_leaves_the_time_unknown() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        for _ in task.track(n for n in range(2)):
            yield from loop(task, clock, range(10), 1.0)

    seen = states(work)
    assert len(seen) == 20
    assert {state.eta for _, state in seen} == {None}


def test_counts_past_their_total_leave_the_time_unknown() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        task.update(total=4)
        for _ in range(5):
            clock.now += 1
            task.advance()
            yield

    assert [state.eta for _, state in states(work)] == [3, 2, 1, None, None]


def test_a_loop_beside_the_steps_of_a_plan() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        task.plan(("a", 1), ("b", 1))
        with task.step("a"):
            pass
        yield from loop(task, clock, range(10), 1)

    assert {state.eta for _, state in states(work)} == {None}


def test_a_step_that_is_not_in_the_plan() -> None:
    def work(task: BackgroundTask, clock: Clock) -> Iterator[None]:
        task.plan(("a", 1))
        with task.step("other"):
            yield from loop(task, clock, range(10), 1)

    assert {state.eta for _, state in states(work)} == {None}


def test_watchers_of_a_store_read_the_same_time() -> None:
    clock, store = Clock(), MemoryTaskStore()
    task = BackgroundTask("a", runner=InlineRunner(), clock=clock, store=store)
    here, there = [], []

    def work(task: BackgroundTask) -> None:
        task.plan(("a", 1), ("b", 3))
        with task.step("a"):
            for i in task.track(range(10)):
                clock.now += 1
                if i == 5:
                    here.append(task.state)
                    there.append(TaskState.from_dict(task.state.to_dict()))

    task.start(work)
    assert here[0].eta == there[0].eta == pytest.approx(36, abs=8)
    assert line(here[0]) == line(there[0])


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["advance", "loop", "step", "plan", "hand", "look"]), st.integers(0, 50), st.floats(0, 9)
    ),
    max_size=30,
)


@given(MOVES)
@example([("loop", 10, 1.0), ("advance", 2, 0.0)])
def test_a_line_never_contradicts_itself(moves: list[tuple[str, int, float]]) -> None:
    clock = Clock()
    task = BackgroundTask(runner=InlineRunner(), clock=clock)

    def look(task: BackgroundTask) -> None:
        state = task.state
        if state.eta is not None and state.rate and state.total is not None:
            # From total, count and rate, a reader can compute how long that takes at least.
            assert state.eta >= (state.total - state.n) / state.rate * (1 - 1e-9)

    def work(task: BackgroundTask, left: list[tuple[str, int, float]]) -> None:
        for i, (kind, n, seconds) in enumerate(left):
            clock.now += seconds
            if kind == "advance":
                task.update(total=30)
                task.advance(n)
            elif kind == "hand":
                task.update(progress=n * 2)
            elif kind == "plan":
                task.plan(("x", 1), ("y", n + 1), ("z", seconds + 1))
            elif kind == "step":
                with task.step("xyz?"[n % 4]):
                    work(task, left[i + 1 :])
                return
            elif kind == "loop":
                for _ in task.track(range(n)) if n % 5 else task.track(iter(range(n))):
                    clock.now += seconds
                    look(task)
                    if left[i + 1 :]:
                        work(task, left[i + 1 :])
                        left = []
            look(task)

    task.start(work, moves)
    task.result()


def test_a_loop_after_a_full_bar_has_no_percentage_that_contradicts_its_count() -> None:
    state = TaskState(running=True, status=Status.RUNNING, progress=100, n=34, total=100, rate=47.9, eta=1.4, elapsed=1)
    text = line(state)
    assert "100%" not in text
    assert text.endswith("34/100 47.9/s 0:01 left")
    assert "100%" in line(replace(state, n=100, eta=None))
