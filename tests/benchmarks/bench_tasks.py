"""Measures silo-tasks against tqdm, rich.progress and ThreadPoolExecutor.

Run with ``uv run python tests/benchmarks/bench_tasks.py``. The compared actions alternate; figures are medians, those
with two numbers in brackets medians of ratios with the middle half of them.
"""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from pairs import interleaved, ratio, rounds, row, warm
from rich.console import Console
from rich.progress import track as rich_track
from silo_tasks import BackgroundTask, InlineRunner, MemoryTaskStore, ThreadRunner
from silo_tasks.run.latch import Latch
from tqdm import tqdm

ITEMS = 500_000
CALLS = 200_000
STARTS = 2_000
MANY = 50_000
WATCHERS = 100
LOOKS = 4
"""How often a watcher reads the state in each second, like one that sends it to a browser."""

CLOCKS = (("CPU", time.process_time), ("wall", time.perf_counter))
"""CPU is that of all threads."""

DATA = list(range(ITEMS))


def generated() -> Iterator[int]:
    """A typical generator, which does a little work for each item."""
    for number in DATA:
        yield number + 0


def in_task(work: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run ``work(task, *args)`` as the target of a task, and return its result."""
    runner = ThreadRunner(workers=1)
    task = BackgroundTask("bench", runner=runner, **options)
    task.start(work, *args)
    try:
        return task.result()
    finally:
        runner.shutdown()


def nothing(task: object) -> None:
    """A target with nothing to do."""


def exhaust(iterable: Iterable[object]) -> None:
    """A loop with an empty body."""
    for _ in iterable:
        pass


def bench_loops() -> None:
    """Measure what ``track``, tqdm and rich add to each item of a loop."""
    for kind, make, goal in (("list", lambda: DATA, 25), ("generator", generated, 60)):
        bare, ours, bar, rich = in_task(loops, make)
        ours, bar, rich = ((each - bare) / ITEMS * 1e9 for each in (ours, bar, rich))
        row(f"track({kind}), each item over the bare loop", f"{ours:.1f} ns", f"{goal} ns")
        row(f"  tqdm({kind}) / track({kind})", f"{bar / ours:.1f}x ({bar:.0f} ns)", "8x")
        row(f"  rich.progress.track({kind}) / track({kind})", f"{rich / ours:.1f}x ({rich:.0f} ns)", "-")


def loops(task: BackgroundTask, make: Callable[[], Iterable[int]]) -> list[float]:
    """Return the seconds of a loop: bare, tracked, under tqdm and under rich, which draw to a buffer."""
    console = Console(file=io.StringIO(), force_terminal=True)
    return interleaved(
        lambda: exhaust(make()),
        lambda: exhaust(task.track(make(), total=ITEMS)),
        lambda: exhaust(tqdm(make(), total=ITEMS, file=io.StringIO())),
        lambda: exhaust(rich_track(make(), total=ITEMS, console=console)),
    )


def bench_watchers(repeats: int = 15) -> None:
    """Measure how watchers slow down a hot loop: threads that read the state as a dict.

    CPU is that of the loop's thread only, wall also what the loop waits while watchers run. The same threads that only
    wake up as often, or add some numbers then, show which part of that is not the look. Between two loops, all threads
    come to rest.
    """
    awake, adding, looking, over = (threading.Event() for _ in range(4))
    numbers = range(40_000_000)

    def watch(task: BackgroundTask) -> None:
        dice = random.Random()
        while awake.wait() and not over.wait(dice.uniform(0, 2 / LOOKS)):
            if looking.is_set():
                task.state.to_dict()
            elif adding.is_set():
                sum(number for number in range(100))  # takes about as long as a look

    def loop(task: BackgroundTask) -> dict[str, list[tuple[float, float]]]:
        def measured(events: tuple[threading.Event, ...]) -> tuple[float, float]:
            for event in events:
                event.set()
            time.sleep(2 / LOOKS)
            cpu, wall = time.thread_time(), time.perf_counter()
            exhaust(task.track(numbers))
            taken = time.thread_time() - cpu, time.perf_counter() - wall
            for event in events:
                event.clear()
            time.sleep(3 / LOOKS)
            return taken

        cases = {"alone": (), "waking": (awake,), "adding": (adding, awake), "looking": (looking, awake)}
        times: dict[str, list[tuple[float, float]]] = {case: [] for case in cases}
        for turn in range(repeats):
            for case, events in list(cases.items()) if turn % 2 else reversed(cases.items()):
                times[case].append(measured(events))
        return times

    def watched(task: BackgroundTask) -> dict[str, list[tuple[float, float]]]:
        threads = [threading.Thread(target=watch, args=(task,)) for _ in range(WATCHERS)]
        for thread in threads:
            thread.start()
        try:
            return loop(task)
        finally:
            over.set()
            awake.set()
            for thread in threads:
                thread.join()

    times = in_task(watched)
    for which, clock in enumerate(("CPU", "wall")):
        alone, waking, added, watching = ([turn[which] for turn in each] for each in times.values())
        case = f"hot loop of track, {clock}, {WATCHERS} threads"
        row(f"{case} looking {LOOKS} times a second / alone", ratio(watching, alone), "1.02x")
        row(f"{case} that add 100 numbers as often / alone", ratio(added, alone), "-")
        row(f"{case} that only wake up as often / alone", ratio(waking, alone), "-")


def bench_updates() -> None:
    """Measure ``update(progress=)`` over ``tqdm.update``, each without the loop around it."""
    step = 100 / CALLS

    def bare() -> None:
        for i in range(CALLS):
            i * step

    def theirs() -> None:
        with tqdm(total=CALLS, file=io.StringIO()) as bar:
            update = bar.update
            for i in range(CALLS):
                i * step
                update(1)

    def loop(task: BackgroundTask) -> list[float]:
        def ours() -> None:
            update = task.update
            with task.step("Each call moves the progress"):
                for i in range(CALLS):
                    update(progress=i * step)

        return interleaved(bare, ours, theirs)

    around, ours, bar = in_task(loop)
    ours, bar = ((each - around) / CALLS * 1e9 for each in (ours, bar))
    row("update(progress=) / tqdm.update(1)", f"{ours / bar:.2f}x ({ours:.0f} / {bar:.0f} ns)", "0.5x")


def bench_starts() -> None:
    """Measure single tasks, from the start to the end."""
    runner, pool = ThreadRunner(workers=4), ThreadPoolExecutor(4)
    task = BackgroundTask("bench", runner=runner)

    def ours() -> None:
        for _ in range(STARTS):
            task.start(nothing)
            task.wait()

    def theirs() -> None:
        for _ in range(STARTS):
            pool.submit(nothing, None).result()

    for name, clock in CLOCKS:
        mine, executor = warm(ours, theirs, repeats=31, clock=clock)
        row(
            f"start to finished, {name} / ThreadPoolExecutor.submit to result",
            ratio(mine, executor, STARTS / 1e6),
            "1.05x",
        )
    runner.shutdown()
    pool.shutdown()


def bench_latches() -> None:
    """Measure the two latches of a run against two futures, and against a whole run."""
    runner = InlineRunner()
    task = BackgroundTask("bench", runner=runner)

    def run() -> None:
        for _ in range(STARTS):
            task.start(nothing)
            task.result()

    def ours() -> None:
        for _ in range(STARTS):
            done, returned = Latch(), Latch()
            done.set()
            returned.set()
            done.wait()
            returned.wait()

    def futures() -> None:
        for _ in range(STARTS):
            done: Future[None] = Future()
            returned: Future[None] = Future()
            done.set_result(None)
            returned.set_result(None)
            done.result()
            returned.result()

    whole, latches, theirs = interleaved(run, ours, futures, repeats=31)
    row(
        "two latches of a run / two concurrent.futures.Future",
        f"{latches / theirs:.2f}x ({latches / STARTS * 1e6:.1f} / {theirs / STARTS * 1e6:.1f} us)",
        "-",
    )
    row("  a run in the caller's thread with futures / with latches", f"{1 + (theirs - latches) / whole:.2f}x", "-")


def bench_many() -> None:
    """Measure many tasks in a pool, from the start of the first to the end of the last."""
    runner, pool = ThreadRunner(workers=4, queue_size=MANY), ThreadPoolExecutor(4)
    made = [BackgroundTask("bench", runner=runner) for _ in range(MANY)]

    def through(tasks: list[BackgroundTask]) -> None:
        for task in tasks:
            task.start(nothing)
        for task in tasks:
            task.wait()

    def ours() -> None:
        through(made)

    def ours_new() -> None:
        for _ in range(10):
            through([BackgroundTask("bench", runner=runner) for _ in range(MANY // 10)])

    def theirs() -> None:
        wait([pool.submit(nothing, None) for _ in range(MANY)])

    for name, clock in CLOCKS:
        mine, new, executor = warm(ours, ours_new, theirs, repeats=7, clock=clock)
        row(f"{MANY:,} tasks with nothing to do, {name} / ThreadPoolExecutor", ratio(mine, executor, 1, "s"), "1.05x")
        row("  the same, and the tasks are made as well", ratio(new, executor, 1, "s"), "1.1x")
    runner.shutdown()
    pool.shutdown()


class CountingStore(MemoryTaskStore):
    """A task store that counts its writes."""

    writes = 0

    def change(self, *args: Any) -> bool:
        self.writes += 1
        return super().change(*args)


def bench_writes() -> None:
    """Count how often the record of a fast loop is written."""
    store, items = CountingStore(), 10_000_000

    def loop(task: BackgroundTask) -> None:
        step = 100 / items
        for i in task.track(iter(range(items))):
            task.update(progress=i * step)

    begin = time.perf_counter()
    in_task(loop, store=store)
    seconds = time.perf_counter() - begin
    row(
        f"store writes of a loop of {items:,} items that reports each",
        f"{store.writes / seconds:.1f} a second ({store.writes} in {seconds:.1f} s)",
        "6 a second",
    )


class Line:
    """A line of a log that is as simple as possible."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def bench_state() -> None:
    """Measure reading the state of a task that has logged, alone and as a dict, beside copying its last 50 lines."""
    for lines, kept in ((10, 1_000), (100_000, 1_000), (100_000, 100_000)):
        for when, (copied, taken, made, public) in watching(lines, kept).items():
            case = f"{when}, {lines:,} lines logged, max_logs={kept:,}"
            row(f".state, {case} / copying 50 lines", ratio(taken, copied, 1_000 / 1e6), "3x")
            row(f".state.to_dict(), {case} / the same", ratio(made, copied, 1_000 / 1e6), "4x")
            row(f".state.to_dict(public=True), {case} / the same", ratio(public, copied, 1_000 / 1e6), "-")


def watching(lines: int, max_logs: int) -> dict[str, list[list[float]]]:
    """Return the seconds of 1,000 copies and of 1,000 looks of each kind, while the task runs and when it is over."""
    runner = ThreadRunner(workers=1)
    task = BackgroundTask("bench", runner=runner, max_logs=max_logs)
    ready, leave = threading.Event(), threading.Event()
    log = [Line(f"line {i}") for i in range(max(lines, 50))]

    def work(task: BackgroundTask) -> None:
        for _ in task.track(range(1)):
            for i in range(lines):
                task.log("line %d", i)
            task.update(message="Row {n}/{total}")
            ready.set()
            leave.wait()

    looks: list[Callable[[], object]] = [
        lambda: [line.text for line in log[-50:]],
        lambda: task.state,
        lambda: task.state.to_dict(),
        lambda: task.state.to_dict(public=True),
    ]
    actions = [rounds(look, 1_000) for look in looks]
    task.start(work)
    ready.wait()
    running = warm(*actions, repeats=21, clock=time.thread_time)
    leave.set()
    task.wait()
    over = warm(*actions, repeats=21, clock=time.thread_time)
    runner.shutdown()
    return {"running": running, "over": over}


def bench_threads() -> None:
    """Count the threads that 1,000 concurrent tasks need."""
    runner = ThreadRunner(workers=32)
    seen: set[int] = set()

    def work(task: BackgroundTask) -> None:
        seen.add(threading.get_ident())
        time.sleep(0.001)

    tasks = [BackgroundTask("bench", runner=runner) for _ in range(1_000)]
    for task in tasks:
        task.start(work)
    for task in tasks:
        task.wait()
    runner.shutdown()
    row("threads of 1,000 tasks at once", str(len(seen)), str(runner.workers))


CASES: tuple[Callable[[], None], ...] = (
    bench_loops,
    bench_watchers,
    bench_updates,
    bench_starts,
    bench_latches,
    bench_many,
    bench_writes,
    # Put rows of tasks that run in other processes here.
    bench_state,
    bench_threads,
)


if __name__ == "__main__":
    for case in CASES:
        case()
