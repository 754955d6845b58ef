from __future__ import annotations

import contextlib
import threading
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from silo_tasks import BackgroundTask, InlineRunner, ThreadRunner, step

WAIT = 30


def test_planned_steps_have_exact_shares() -> None:
    task = BackgroundTask()
    task.plan(("Parse", 1), ("Aggregate", 3))
    assert [s.status for s in task.state.steps] == ["pending", "pending"]
    with task.step("Parse"):
        assert task.state.progress == 0
        assert task.state.message == "Parse"
        task.update(progress=50)
        assert task.state.progress == 12.5
    assert task.state.progress == 25
    with task.step("Aggregate"):
        seen = [task.state.progress for _ in task.track(range(3))]
        assert seen == pytest.approx([25, 50, 75])
    assert task.state.progress == 100
    assert [(s.name, s.status, s.weight) for s in task.state.steps] == [("Parse", "done", 1), ("Aggregate", "done", 3)]


def test_unplanned_steps_take_half_of_the_rest() -> None:
    task, seen = BackgroundTask(), []
    for name in "abc":
        with task.step(name):
            pass
        seen.append(task.state.progress)
    assert seen == [50, 75, 87.5]
    with task.step("d", weight=3):
        pass
    assert task.state.progress == pytest.approx(87.5 + 12.5 * 0.75)


def test_steps_nest() -> None:
    task = BackgroundTask()
    task.plan(("a", 1), ("b", 1))
    with task.step("a"):
        task.plan(("a1", 3), ("a2", 1))
        with task.step("a1"):
            assert [(s.name, s.depth, s.status) for s in task.state.steps] == [
                ("a", 0, "running"),
                ("a1", 1, "running"),
                ("a2", 1, "pending"),
                ("b", 0, "pending"),
            ]
        assert task.state.progress == 37.5
        with step("a2", task=task):
            assert task.state.progress == 37.5
            for _ in task.track([1]):
                pass
        assert task.state.progress == 50
    with task.step("b"):
        assert task.state.progress == 50


def test_a_step_that_was_not_planned_fills_nothing() -> None:
    task = BackgroundTask()
    task.plan(("a", 1), ("b", 1), ("c", 2))
    with task.step("c"):
        pass
    assert task.state.progress == 50
    with task.step("surprise"):
        task.update(progress=100)
    assert task.state.progress == 50
    with task.step("a"):
        pass
    assert task.state.progress == 75


def test_same_name_twice_in_a_plan() -> None:
    task = BackgroundTask()
    task.plan(("load", 1), ("load", 3))
    with task.step("load"):
        pass
    assert task.state.progress == 25
    with task.step("load"):
        pass
    assert task.state.progress == 100


def test_steps_inside_a_loop_share_the_item() -> None:
    task, seen = BackgroundTask(), []
    for _ in task.track([1, 2]):
        for name in ("a", "b"):
            with task.step(name):
                pass
            seen.append(task.state.progress)
    assert seen == [25, 37.5, 75, 87.5]


def test_a_plan_in_a_loop_is_for_one_item() -> None:
    task, seen = BackgroundTask(), []
    for item in task.track([1, 2]):
        if item == 1:
            task.plan(("a", 1), ("b", 1), ("left out", 2))
        for name in ("a", "b"):
            with task.step(name):
                pass
            seen.append(task.state.progress)
    assert seen == [12.5, 25, 75, 87.5]


def test_failed_step_leaves_progress_where_it_was() -> None:
    task = BackgroundTask()
    task.plan(("a", 1), ("b", 1))
    with contextlib.suppress(KeyError), task.step("a"):
        task.update(progress=20)
        raise KeyError
    assert task.state.progress == 10
    assert task.state.steps[0].status == "failed"
    with task.step("b"):
        assert task.state.progress == 50


def test_loop_after_progress_by_hand_fills_what_is_left() -> None:
    task = BackgroundTask()
    task.update(progress=20)
    seen = [task.state.progress for _ in task.track(range(4))]
    assert seen == pytest.approx([20, 40, 60, 80])


def test_advance_and_counts() -> None:
    task = BackgroundTask()
    task.update(total=8, message="{n}/{total} {percent}%")
    task.advance()
    task.advance(3)
    assert (task.state.n, task.state.total, task.state.progress) == (4, 8, 50)
    assert task.state.message == "4/8 50%"
    task.update(n=6)
    assert task.state.progress == 75
    task.advance(-6)
    assert (task.state.n, task.state.progress) == (0, 75)


def test_progress_by_hand_is_clamped_and_may_go_back() -> None:
    task = BackgroundTask()
    for value, seen in ((150, 100), (-10, 0), (30, 30), (20, 20), (float("nan"), 20), (True, 1), (float("inf"), 100)):
        task.update(progress=value)
        assert task.state.progress == seen
    task.update(progress=5)
    assert (task.state.progress, task.state.to_dict()["progress"]) == (5.0, 5.0)


def test_progress_by_hand_goes_back_to_what_the_steps_before_have_reached() -> None:
    task = BackgroundTask()
    task.plan(("a", 1), ("b", 1))
    with task.step("a"):
        task.update(progress=80)
        assert task.state.progress == 40
        task.update(progress=-1)
        assert task.state.progress == 0
    with task.step("b"):
        for value, seen in ((60, 80), (20, 60), (-5, 50)):
            task.update(progress=value)
            assert task.state.progress == seen


def test_progress_by_hand_takes_nothing_back_from_a_loop() -> None:
    task, seen = BackgroundTask(), []
    for item in task.track(range(4)):
        task.update(progress=90 if item == 1 else 10)
        seen.append(task.state.progress)
    assert seen == [10, 90, 50, 75]
    task.update(progress=0)
    assert task.state.progress == 100


def test_a_loop_keeps_the_place_where_it_began() -> None:
    task = BackgroundTask()
    task.update(progress=50)
    for _ in task.track(range(2)):
        task.update(progress=0)
        assert task.state.progress >= 50
    assert task.state.progress == 100


def test_a_step_that_ends_early_keeps_what_was_seen() -> None:
    """That holds also if a loop inside it, which has not come as far, is left open."""
    task = BackgroundTask()
    task.plan(("a", 1), ("b", 1))
    with contextlib.suppress(KeyError), task.step("a"):
        loop = task.track(range(10))
        next(loop)
        task.update(progress=80)
        assert task.state.progress == 40
        raise KeyError
    assert task.state.progress == 40


@pytest.mark.parametrize(
    ("number", "seen"), [(Decimal("12.5"), 12.5), (Fraction(51, 4), 12.75), (13, 13), (True, 1), (10**400, 100)]
)
@pytest.mark.parametrize("runs", [1, 2])
def test_progress_may_be_any_number(number: Any, seen: float, runs: int) -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> float:
        task.update(progress=number)
        return task.state.progress

    for _ in range(runs):
        task.start(work)
        assert task.result() == seen


@pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan")])
def test_bad_weights(weight: float) -> None:
    task = BackgroundTask()
    with pytest.raises(ValueError), task.step("x", weight=weight):
        pass
    with pytest.raises(ValueError):
        task.plan(("x", weight))
    with pytest.raises(ValueError):
        task.plan()


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "}",
        "{}",
        "{0}",
        "{n.__class__}",
        "{n!r}",
        "{n:>99999999}",
        "{task}",
        "{n[0]}",
        "%s",
        "{{n",
        "{total.__init__}",
    ],
)
def test_hostile_messages_are_left_alone(message: str) -> None:
    task = BackgroundTask()
    task.update(message=message)
    assert task.state.message == message


def test_unknown_numbers_in_a_message() -> None:
    task = BackgroundTask()
    task.update(message="{n} {total} {percent} {rate} {eta}")
    assert task.state.message == "0 ? 0 ? ?"


def test_no_time_is_left_of_a_run_that_succeeded() -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        task.update(message="{n}/{total}, {eta} left")
        for _ in task.track("ab"):
            pass

    task.start(work)
    assert task.state.message == "2/2, 0:00 left"
    assert task.state.eta is None


def test_many_steps_are_bounded() -> None:
    task = BackgroundTask()
    for i in range(300):
        with task.step(str(i)):
            pass
    assert len(task.state.steps) == 100
    assert task.state.steps[-1].name == "299"
    assert task.state.progress <= 100


def names(task: BackgroundTask) -> list[str]:
    return ["  " * step.depth + step.name for step in task.state.steps]


def test_steps_follow_the_step_around_them() -> None:
    task = BackgroundTask()
    task.plan(("a", 1), ("b", 1))
    with task.step("a"):
        task.plan(("a1", 1), ("left out", 1))
        with task.step("a1"), task.step("a1x"):
            pass
        with task.step("a2"):
            pass
        assert names(task) == ["a", "  a1", "    a1x", "  a2", "  left out", "b"]
    with task.step("c"), task.step("left out"):
        assert names(task) == ["a", "  a1", "    a1x", "  a2", "  left out", "c", "  left out", "b"]
    with task.step("b"):
        pass
    assert names(task) == ["a", "  a1", "    a1x", "  a2", "  left out", "c", "  left out", "b"]
    assert [step.name for step in task.state.steps if step.status == "pending"] == ["left out"]


def test_of_a_long_plan_the_open_step_is_kept() -> None:
    task = BackgroundTask()
    with task.step("around"):
        task.plan(*((str(i), 1) for i in range(150)))
        for i in range(150):
            with task.step(str(i)):
                steps = task.state.steps
                assert len(steps) == 100
                assert [step.name for step in steps if step.status == "running"] == ["around", str(i)]
        assert [step.name for step in task.state.steps] == ["around", *map(str, range(51, 150))]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_rate_falls_and_eta_grows_when_the_loop_stalls() -> None:
    clock = Clock()
    task = BackgroundTask(runner=InlineRunner(), clock=clock)
    seen: dict[str, tuple[float | None, float | None]] = {}

    def look(what: str) -> None:
        state = task.state
        seen[what] = (state.rate, state.eta)

    def work(task: BackgroundTask) -> None:
        for i in task.track(range(100)):
            if i == 0:
                look("begin")
            if i == 50:
                look("steady")
                clock.now += 60
                look("stalled")
                clock.now += 600
                look("stalled for long")
            clock.now += 1
            task.state  # noqa: B018 - a watcher reads once a second

    task.start(work)
    assert seen["begin"] == (0.0, None)
    assert seen["steady"] == pytest.approx((1.0, 50.0), rel=0.15)
    rate, eta = seen["stalled"]
    assert rate is not None
    assert eta is not None
    assert 0 < rate < 0.25
    assert eta > 200
    later, longer = seen["stalled for long"]
    assert later is not None
    assert longer is not None
    assert later < rate / 5
    assert longer > eta * 5
    assert (task.state.rate, task.state.eta, task.state.elapsed) == (None, None, 760.0)


def test_rate_of_a_slow_loop_does_not_flicker() -> None:
    clock = Clock()
    task = BackgroundTask(runner=InlineRunner(), clock=clock)
    rates: list[float | None] = []

    def work(task: BackgroundTask) -> None:
        for i in task.track(range(30)):
            for _ in range(60):
                clock.now += 1
                rate = task.state.rate
                if i > 15:
                    rates.append(rate)

    task.start(work)
    assert rates == pytest.approx([1 / 60] * len(rates), rel=0.15)


def test_rate_follows_a_change_of_pace() -> None:
    clock = Clock()
    task = BackgroundTask(runner=InlineRunner(), clock=clock)

    def work(task: BackgroundTask) -> tuple[float | None, float | None]:
        for i in task.track(range(200)):
            clock.now += 10 if i < 100 else 1
            state = task.state
            if i == 150:
                return state.rate, state.eta
        raise AssertionError

    task.start(work)
    rate, eta = task.result()
    assert rate == pytest.approx(1.0, rel=0.2)
    assert eta == pytest.approx(50, rel=0.2)


def test_a_clock_that_goes_back_is_harmless(runner: ThreadRunner) -> None:
    clock = Clock()
    task = BackgroundTask(runner=InlineRunner(), clock=clock)

    def work(task: BackgroundTask) -> None:
        for i in task.track(range(10)):
            clock.now -= 5
            state = task.state
            assert state.elapsed == 0.0
            assert (state.rate or 0) >= 0, i

    task.start(work)
    assert task.state.error is None


def test_a_step_that_is_open_at_the_end_of_its_run_has_ended_with_it(runner: ThreadRunner) -> None:
    task, leave = BackgroundTask("job", runner=runner), threading.Event()

    def slow(task: BackgroundTask) -> None:
        with task.step("outer"), task.step("inner"):
            task.fail("no")
            leave.wait(WAIT)

    task.start(slow)
    assert task.wait(WAIT)
    assert [(step.status, step.finished_at) for step in task.state.steps] == [("failed", task.state.finished_at)] * 2
    leave.set()

    def early(task: BackgroundTask) -> None:
        with task.step("only"):
            task.complete()

    task.start(early)
    assert task.wait(WAIT)
    assert [step.status for step in task.state.steps] == ["done"]
