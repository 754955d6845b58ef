from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import accumulate
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from silo_tasks import BackgroundTask, InlineRunner, Status, ThreadRunner, step, track
from silo_tasks.progress import loops

WAIT = 30


def run(work: Callable[[BackgroundTask], Any]) -> tuple[BackgroundTask, Any]:
    task = BackgroundTask(runner=InlineRunner())
    task.start(work)
    return task, task.result()


class OldStyle:
    """Iterable by __getitem__ alone."""

    def __getitem__(self, index: int) -> int:
        if index >= 5:
            raise IndexError
        return index


class Strange(list[int]):
    """A list that iterates over something else."""

    def __iter__(self) -> Iterator[int]:
        return iter([7, 8])


def generate(count: int) -> Iterator[int]:
    for i in range(count):
        yield i * 2


# Items up to the end of each block, with two of the largest.
BLOCKS = list(accumulate((64, 256, 1024, 4096, 16384, 16384)))
assert (loops.SMALLEST, loops.LARGEST) == (64, 16384)

SOURCES: list[tuple[str, Callable[[], Iterable[Any]]]] = [
    ("list", lambda: [3, 1, 2]),
    ("tuple", lambda: (3, 1, 2)),
    ("range", lambda: range(5, 50, 3)),
    ("str", lambda: "aé€😀"),
    ("bytes", lambda: b"abc"),
    ("set", lambda: {1, 2, 3}),
    ("dict", lambda: {"a": 1, "b": 2}),
    ("items", lambda: {"a": 1, "b": 2}.items()),
    ("values", lambda: {"a": 1, "b": 2}.values()),
    ("deque", lambda: deque([1, 2, 3])),
    ("generator", lambda: generate(10)),
    ("map", lambda: map(str, range(4))),
    ("zip", lambda: zip("ab", "cd", strict=True)),
    ("iterator", lambda: iter([1, 2, 3])),
    ("falsy", lambda: [None, 0, "", False, []]),
    ("old style", lambda: cast("Iterable[int]", OldStyle())),
    ("strange list", lambda: Strange([1, 2, 3])),
    ("empty list", list),
    ("empty generator", lambda: generate(0)),
    ("empty set", set),
    *((f"{size} items", partial(generate, size)) for end in BLOCKS for size in (end - 1, end, end + 1)),
]


@pytest.mark.parametrize("make", [make for _, make in SOURCES], ids=[name for name, _ in SOURCES])
def test_yields_the_very_items(make: Callable[[], Iterable[Any]]) -> None:
    task, items = run(lambda task: list(task.track(make())))
    assert items == list(make())
    assert task.state.n == len(items)


@pytest.mark.parametrize("make", [lambda: list(range(10)), lambda: generate(10)], ids=["list", "generator"])
def test_counts_what_is_done(make: Callable[[], Iterable[int]]) -> None:
    def work(task: BackgroundTask) -> list[tuple[int, float]]:
        return [(task.state.n, task.state.progress) for _ in task.track(make(), total=10)]

    task, seen = run(work)
    assert seen == [(i, pytest.approx(i * 10)) for i in range(10)]
    assert (task.state.n, task.state.total, task.state.progress) == (10, 10, 100.0)


def test_counts_across_blocks() -> None:
    size = BLOCKS[-1] + 3
    wanted = {0, 1, size - 1, *(end + i for end in BLOCKS for i in (-1, 0, 1))}

    def work(task: BackgroundTask) -> dict[int, int]:
        return {i: task.state.n for i, _ in enumerate(task.track(generate(size))) if i in wanted}

    task, seen = run(work)
    assert seen == {i: i for i in wanted}
    assert task.state.n == size


@pytest.mark.parametrize("make", [lambda: list(range(10)), lambda: generate(10)], ids=["list", "generator"])
def test_a_loop_goes_on_from_a_count_that_is_set(make: Callable[[], Iterable[int]]) -> None:
    def work(task: BackgroundTask) -> list[int]:
        seen = []
        for i, _ in enumerate(task.track(make())):
            if i == 3:
                task.update(n=50, total=100)
            seen.append(task.state.n)
        return seen

    task, seen = run(work)
    assert seen == [0, 1, 2, *range(50, 57)]
    assert (task.state.n, task.state.total) == (57, 100)


def test_total_of_a_generator_is_unknown() -> None:
    def work(task: BackgroundTask) -> list[tuple[float, int | None]]:
        return [(task.state.progress, task.state.total) for _ in task.track(generate(4))]

    task, seen = run(work)
    assert seen == [(0.0, None)] * 4
    assert task.state.n == 4


def test_wrong_total_stays_within_100() -> None:
    def work(task: BackgroundTask) -> list[float]:
        return [task.state.progress for _ in task.track(generate(6), total=3)]

    _, seen = run(work)
    assert seen == pytest.approx([0, 100 / 3, 200 / 3, 100, 100, 100])


def test_not_iterable_raises_at_the_call() -> None:
    with pytest.raises(TypeError):
        BackgroundTask().track(5)  # type: ignore[arg-type]


def test_a_lying_length_is_harmless() -> None:
    class Lying:
        def __len__(self) -> int:
            raise OSError("no")

        def __iter__(self) -> Iterator[int]:
            return iter([1])

    assert run(lambda task: list(task.track(Lying())))[1] == [1]


def test_a_range_too_long_for_len() -> None:
    def work(task: BackgroundTask) -> int:
        for i in task.track(range(1 << 70), total=100):
            if i == 2:
                return task.state.n
        raise AssertionError

    assert run(work)[1] == 2


@pytest.mark.parametrize("after", [0, 2])
def test_error_of_the_generator_comes_through(after: int) -> None:
    def broken() -> Iterator[int]:
        yield from range(after)
        raise OSError("disk")

    def work(task: BackgroundTask) -> int:
        with pytest.raises(OSError, match="disk"):
            list(task.track(broken(), total=4))
        return task.state.n

    assert run(work)[1] == after


def test_break_ends_the_loop() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.set()

    def work(task: BackgroundTask) -> tuple[int, int | None]:
        for i in task.track(source(), total=10):
            if i == 4:
                break
        assert closed.is_set()
        for _ in task.track([1, 2]):
            pass
        return task.state.n, task.state.total

    assert run(work)[1] == (2, 2)


def test_items_taken_by_next() -> None:
    def work(task: BackgroundTask) -> list[int]:
        items = task.track([1, 2, 3, 4])
        first = next(items)
        rest = [i + next(items, 0) for i in items]
        assert next(items, None) is None
        return [first, *rest]

    task, got = run(work)
    assert got == [1, 5, 4]
    assert task.state.n == 4


def test_list_grows_and_shrinks() -> None:
    def grow(task: BackgroundTask) -> list[int]:
        work = [3]
        for i in task.track(work):
            if i:
                work.append(i - 1)
        return work

    task, got = run(grow)
    assert got == [3, 2, 1, 0]
    assert (task.state.n, task.state.total, task.state.progress) == (4, 4, 100.0)

    def shrink(task: BackgroundTask) -> list[int]:
        data, seen = [1, 2, 3, 4], []
        for i in task.track(data):
            seen.append(i)
            data.pop()
            assert 0 <= task.state.progress <= 100
        return seen

    assert run(shrink)[1] == [1, 2]


def test_changing_set_raises_as_usual() -> None:
    def work(task: BackgroundTask) -> None:
        data = {1, 2}
        items = task.track(data)
        next(items)
        data.add(5)
        with pytest.raises(RuntimeError):
            next(items)

    run(work)


def test_inner_loop_fills_the_share_of_an_item() -> None:
    def work(task: BackgroundTask) -> list[float]:
        seen = []
        for _ in task.track([1, 2]):
            for _ in task.track(generate(4), total=4):
                seen.append(task.state.progress)
        return seen

    _, seen = run(work)
    assert seen == pytest.approx([0, 12.5, 25, 37.5, 50, 62.5, 75, 87.5])


def test_loops_side_by_side_move_the_progress() -> None:
    def watch(task: BackgroundTask, pairs: Iterable[Any]) -> list[float]:
        return [task.state.progress for i, _ in enumerate(pairs) if i in (50, 99)]

    data = list(range(100))
    assert run(lambda task: watch(task, zip(task.track(data), task.track(data), strict=True)))[1] == [50, 99]

    def pipeline(task: BackgroundTask) -> list[float]:
        doubled = (i * 2 for i in task.track(data))
        return watch(task, task.track(doubled, total=100))

    assert run(pipeline)[1] == pytest.approx([50, 99])


class Index:
    """A number of another library, with nothing but `__index__()`."""

    def __index__(self) -> int:
        return 3


@pytest.mark.parametrize(
    ("total", "shown"),
    [(float("inf"), None), (float("nan"), None), (Index(), 3), (3.5, 3), (-3, 1), (10**5000, 2**63 - 1)],
    ids=["inf", "nan", "index", "fraction", "negative", "huge"],
)
def test_any_total_is_valid_json(total: Any, shown: int | None) -> None:
    def work(task: BackgroundTask) -> list[Any]:
        seen = []
        for _ in task.track(generate(2), total=total):
            record = json.loads(json.dumps(task.state.to_dict(), allow_nan=False))
            assert 0 <= record["progress"] <= 100
            seen.append(record["total"])
        return seen

    assert run(work)[1][1] == shown


@pytest.mark.parametrize(
    "number",
    [float("inf"), float("-inf"), float("nan"), 10**5000, -(10**400), 1e300, Index()],
    ids=["inf", "minus inf", "nan", "huge", "minus huge", "large", "index"],
)
def test_no_number_breaks_the_job_or_its_watchers(number: Any) -> None:
    now = [0.0]
    task = BackgroundTask(runner=InlineRunner(), clock=lambda: now[0])

    def work(task: BackgroundTask) -> None:
        for report in ({"n": number}, {"total": number}, {"n": number, "total": 1}):
            task.update(**report)
            task.advance(number)
            for _ in task.track([1]):
                task.update(message="{n} {total} {rate} {eta}", **report)
                now[0] += 1
                json.dumps(task.state.to_dict(), allow_nan=False)
        if not isinstance(number, Index):
            task.update(progress=number)
        json.dumps(task.state.to_dict(), allow_nan=False)

    task.start(work)
    task.result()


def test_anything_but_a_number_is_refused() -> None:
    with pytest.raises(TypeError):
        BackgroundTask().update(n=[])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        BackgroundTask().track([], total=[])  # type: ignore[arg-type]


def test_almost_no_progress_has_no_time_left() -> None:
    now = [0.0]

    def work(task: BackgroundTask) -> tuple[str, float | None]:
        task.update(progress=1e-308, message="{eta}")
        now[0] = 10.0
        return task.state.message, task.state.eta

    task = BackgroundTask(runner=InlineRunner(), clock=lambda: now[0])
    task.start(work)
    assert task.result() == ("?", None)


def test_only_a_finished_run_shows_100() -> None:
    def work(task: BackgroundTask) -> tuple[float, str]:
        task.update(progress=99.97, message="{percent}")
        return task.state.to_dict()["progress"], task.state.message

    assert run(work)[1] == (99.9, "99")


def test_message_belongs_to_its_loop() -> None:
    def work(task: BackgroundTask) -> list[str]:
        seen = []
        for _ in task.track("abc"):
            task.update(message="File {n} of {total}")
            for _ in track(generate(5)):
                seen.append(task.state.message)
        return seen

    assert run(work)[1] == [f"File {i} of 3" for i in range(3) for _ in range(5)]


def test_loops_of_threads_do_not_break_each_other(runner: ThreadRunner) -> None:
    def work(task: BackgroundTask) -> int:
        sums: list[int] = []
        threads = [threading.Thread(target=lambda: sums.append(sum(task.track(range(5000))))) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert 0 <= task.state.progress <= 100
        return sum(sums)

    task = BackgroundTask(runner=runner)
    task.start(work)
    assert task.result(WAIT) == 4 * sum(range(5000))


def same(item: int) -> int:
    return item


@pytest.mark.usefixtures("many_switches")
@pytest.mark.parametrize("make", [list, iter, partial(map, same)], ids=["list", "iterator", "python"])
def test_threads_may_share_a_loop(make: Callable[[Iterable[int]], Iterable[Any]]) -> None:
    """Each item goes to one thread, as with the iterator of a list."""
    count, numbers = 1000, range(1000)
    for _ in range(40):
        task = BackgroundTask(runner=InlineRunner())
        taken: list[Any] = []
        errors: list[BaseException] = []

        def take(items: Iterator[Any], taken: list[Any] = taken, errors: list[BaseException] = errors) -> None:
            try:
                taken.extend(items)
            except BaseException as error:
                errors.append(error)

        def work(task: BackgroundTask, take: Callable[[Iterator[Any]], None] = take) -> None:
            items = task.track(make(numbers), total=count)
            threads = [threading.Thread(target=take, args=(items,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        task.start(work)
        task.result()
        assert errors == []
        assert sorted(map(int, taken)) == list(numbers)
        # Each thread may have asked in vain for one more.
        assert count <= task.state.n <= count + 2 * 4
        assert task._run.stop._probes == []


def test_module_functions_outside_a_task() -> None:
    assert list(track([1, 2])) == [1, 2]
    with step("nothing"):
        pass
    task = BackgroundTask()
    assert list(track(generate(3), task=task)) == [0, 2, 4]
    assert task.state.n == 3


def stop_at(task: BackgroundTask, items: Iterable[int], at: int) -> list[int]:
    seen = []
    for i in task.track(items):
        seen.append(i)
        if len(seen) == at:
            task.cancel()
    return seen


@pytest.mark.parametrize("at", [1, 7])
@pytest.mark.parametrize(
    "make",
    [
        lambda: list(range(100)),
        lambda: tuple(range(100)),
        lambda: range(100),
        lambda: bytes(range(100)),
        lambda: generate(100),
        lambda: set(range(100)),
        lambda: dict.fromkeys(range(100)),
    ],
    ids=["list", "tuple", "range", "bytes", "generator", "set", "dict"],
)
def test_cancel_ends_the_loop_at_the_next_item(make: Callable[[], Iterable[int]], at: int) -> None:
    taken: list[int] = []

    def work(task: BackgroundTask) -> None:
        for i in task.track(make()):
            taken.append(i)
            if len(taken) == at:
                task.cancel()

    task = BackgroundTask(runner=InlineRunner())
    task.start(work)
    assert task.state.status is Status.CANCELLED
    assert len(taken) == at
    assert task.state.n in (at - 1, at)


def test_cancel_takes_no_item_from_the_source() -> None:
    source = generate(10)
    task = BackgroundTask(runner=InlineRunner())
    task.start(lambda task: stop_at(task, source, 3))
    assert next(source) == 6


@pytest.mark.parametrize("at", [*BLOCKS, BLOCKS[-1] + 1])
def test_cancel_at_the_end_of_a_block(at: int) -> None:
    task = BackgroundTask(runner=InlineRunner())
    source = generate(2 * BLOCKS[-1])
    task.start(lambda task: stop_at(task, source, at))
    assert task.state.status is Status.CANCELLED
    assert next(source) == 2 * at


def test_cancel_ends_a_list_that_grows_for_ever() -> None:
    seen: list[int] = []

    def work(task: BackgroundTask) -> None:
        data = [0]
        for i in task.track(data):
            seen.append(i)
            if i == 3:
                task.cancel()
            data.append(i + 1)

    task = BackgroundTask(runner=InlineRunner())
    task.start(work)
    assert task.state.status is Status.CANCELLED
    assert seen == [0, 1, 2, 3]


def test_cancel_ends_all_loops_that_are_open() -> None:
    seen: list[tuple[int, int]] = []

    def work(task: BackgroundTask) -> None:
        for i in task.track([1, 2, 3]):
            try:
                for j in task.track(generate(3)):
                    seen.append((i, j))
                    task.cancel()
            except BaseException:
                pass

    task = BackgroundTask(runner=InlineRunner())
    task.start(work)
    assert task.state.status is Status.CANCELLED
    assert seen == [(1, 0)]


def test_a_loop_that_was_stopped_before_its_first_block_yields_nothing() -> None:
    probe = loops.BlockProbe(iter([1]))
    probe.stop()
    items = probe.following()
    assert items is not None
    assert list(items) == []
    assert (probe.done, probe.stopped) == (0, True)


def test_watching_never_disturbs_the_loop(runner: ThreadRunner) -> None:
    count = 200_000
    task = BackgroundTask(runner=runner)
    task.start(lambda task: sum(task.track(generate(count), total=count)))
    last = -1.0
    while task.is_running:
        state = task.state
        assert last <= state.progress <= 100
        assert 0 <= state.n <= count
        last = state.progress
    assert task.result() == sum(generate(count))


Op = tuple[str, int]


@given(
    st.recursive(
        st.one_of(
            st.tuples(st.just("update"), st.integers(-10, 120)),
            st.tuples(st.just("advance"), st.integers(-3, 5)),
            st.tuples(st.just("total"), st.integers(-2, 10)),
        ),
        lambda ops: st.one_of(
            st.tuples(
                st.sampled_from(["list", "generator", "break", "step", "plan", "fail"]), st.lists(ops, max_size=4)
            )
        ),
        max_leaves=20,
    )
)
def test_only_a_percent_by_hand_goes_back(tree: Any) -> None:
    seen: list[float] = [0.0]

    def do(task: BackgroundTask, node: Any) -> None:
        kind, arg = node
        if kind == "update":
            task.update(progress=arg)
        elif kind == "advance":
            task.advance(arg)
        elif kind == "total":
            task.update(total=arg)
        elif kind == "step":
            with task.step("s"):
                each(task, arg)
        elif kind == "fail":
            with contextlib.suppress(KeyError), task.step("s"):
                each(task, arg)
                raise KeyError
        elif kind == "plan":
            task.plan(("a", 1), ("b", 3))
            with task.step("b"):
                each(task, arg)
        else:
            for _ in task.track([1, 2, 3] if kind == "list" else generate(3), total=3):
                each(task, arg)
                if kind == "break":
                    break
        percent = task.state.progress
        assert percent >= seen[-1] or kind == "update"
        seen.append(percent)

    def each(task: BackgroundTask, nodes: Any) -> None:
        for node in nodes:
            do(task, node)

    task, _ = run(lambda task: do(task, tree))
    assert all(0 <= percent <= 100 for percent in seen)
    assert task.state.progress == 100.0
