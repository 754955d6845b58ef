"""Measure silo-tasks against its targets: `uv run python tests/benchmarks/bench_tasks.py`.

Each figure is the best of several rounds, and the things compared take turns within a round, so that a busy machine
slows both. Ratios and differences are taken within one run.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from silo_tasks import BackgroundTask, ThreadRunner
from tqdm import tqdm

ITEMS = 500_000
CALLS = 200_000
STARTS = 2_000
ROUNDS = 7


def best(cases: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """Least seconds of each case; the cases take turns."""
    times = dict.fromkeys(cases, float("inf"))
    for _ in range(rounds):
        for name, case in cases.items():
            times[name] = min(times[name], case())
    return times


def loop(make: Callable[[], Iterable[int]]) -> float:
    """Seconds for each item of a loop with an empty body."""
    iterable = make()
    begin = time.perf_counter()
    for _ in iterable:
        pass
    return (time.perf_counter() - begin) / ITEMS


def plain_numbers() -> Iterator[int]:
    """The usual generator: a little work for each item."""
    for number in DATA:
        yield number + 0


DATA = list(range(ITEMS))


def in_task(work: Callable[[BackgroundTask], float]) -> float:
    """Run `work` inside a task, as a target runs."""
    task = BackgroundTask("bench", runner=ThreadRunner(workers=1))
    task.start(work)
    seconds = task.result()
    assert isinstance(seconds, float)
    return seconds


def loops() -> dict[str, float]:
    """Seconds for each item, bare, tracked and under tqdm."""
    sink = io.StringIO()

    def measure(task: BackgroundTask, make: Callable[[], Iterable[int]], how: str) -> float:
        if how == "track":
            return loop(lambda: task.track(make(), total=ITEMS))
        if how == "tqdm":
            return loop(lambda: tqdm(make(), total=ITEMS, file=sink))
        return loop(make)

    cases: dict[str, Callable[[], float]] = {}
    for kind, make in (("list", lambda: DATA), ("generator", plain_numbers)):
        for how in ("bare", "track", "tqdm"):
            cases[f"{kind} {how}"] = partial(in_task, partial(measure, make=make, how=how))
    return best(cases)


def updates() -> dict[str, float]:
    """Seconds for each call of update."""

    def ours(task: BackgroundTask) -> float:
        update, step = task.update, 100 / CALLS
        begin = time.perf_counter()
        for i in range(CALLS):
            update(progress=i * step)
        return (time.perf_counter() - begin) / CALLS

    def theirs(task: BackgroundTask) -> float:
        step = 100 / CALLS
        with tqdm(total=CALLS, file=io.StringIO()) as bar:
            update = bar.update
            begin = time.perf_counter()
            for i in range(CALLS):
                i * step
                update(1)
            return (time.perf_counter() - begin) / CALLS

    return best({"silo": partial(in_task, ours), "tqdm": partial(in_task, theirs)})


def starts() -> dict[str, float]:
    """Seconds from start to finished, one after the other."""
    runner = ThreadRunner(workers=4)
    pool = ThreadPoolExecutor(4)
    tasks = [BackgroundTask("bench", runner=runner) for _ in range(STARTS)]

    def ours() -> float:
        begin = time.perf_counter()
        for task in tasks:
            task.start(nothing)
            task.wait()
        return (time.perf_counter() - begin) / STARTS

    def theirs() -> float:
        begin = time.perf_counter()
        for _ in range(STARTS):
            pool.submit(nothing, None).result()
        return (time.perf_counter() - begin) / STARTS

    times = best({"silo": ours, "executor": theirs})
    runner.shutdown()
    pool.shutdown()
    return times


def nothing(task: object) -> None:
    """A target with nothing to do."""


def watching(lines: int, max_logs: int = 1000) -> dict[str, float]:
    """Seconds to take the state of a task that has logged, and to make it a dict."""
    task = BackgroundTask("bench", runner=ThreadRunner(workers=1), max_logs=max_logs)
    ready, leave = threading.Event(), threading.Event()

    def work(task: BackgroundTask) -> None:
        for _ in task.track(range(3)):
            for i in range(lines):
                task.log("line %d", i)
            task.update(message="Row {n}/{total}")
            ready.set()
            leave.wait()

    task.start(work)
    ready.wait()
    times = best({"state": lambda: each(lambda: task.state), "to_dict": dicts(task)}, 3)
    leave.set()
    task.wait()
    return times


def dicts(task: BackgroundTask) -> Callable[[], float]:
    """Measure `to_dict()` of one state."""
    state = task.state
    return lambda: each(state.to_dict)


def each(call: Callable[[], object], count: int = 2_000) -> float:
    """Seconds for each call."""
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begin) / count


def threads_used() -> tuple[int, int]:
    """Threads that 1,000 tasks at once need, and how many they may have."""
    runner = ThreadRunner(workers=32)
    seen: set[int] = set()
    before = threading.active_count()
    tasks = [BackgroundTask(str(i), runner=runner) for i in range(1_000)]
    for task in tasks:
        task.start(note_thread, seen)
    most = threading.active_count() - before
    for task in tasks:
        task.wait()
    runner.shutdown()
    return max(most, len(seen)), runner.workers


def note_thread(task: object, seen: set[int]) -> None:
    """A target that takes a moment."""
    seen.add(threading.get_ident())
    time.sleep(0.001)


def row(what: str, figure: str, target: str) -> None:
    """Print one line of the table."""
    print(f"{what:<58} {figure:>12} {target:>12}")


def main() -> None:
    """Measure all and print the table."""
    row("", "measured", "target")
    times = starts()
    row("start to finished / executor submit to finished", f"{times['silo'] / times['executor']:.2f}x", "1.2x")
    row("  silo, executor", f"{times['silo'] * 1e6:.1f}, {times['executor'] * 1e6:.1f} us", "")
    times = loops()
    for kind, target in (("list", 25), ("generator", 60)):
        bare = times[f"{kind} bare"]
        track, bar = times[f"{kind} track"] - bare, times[f"{kind} tqdm"] - bare
        row(f"track({kind}) over the bare loop, each item", f"{track * 1e9:.1f} ns", f"{target} ns")
        row(f"  tqdm over the bare loop / track({kind})", f"{bar / track:.1f}x", "8x")
        row("  tqdm over the bare loop, each item", f"{bar * 1e9:.1f} ns", "")
    times = updates()
    row("update(progress=) / tqdm.update", f"{times['silo'] / times['tqdm']:.2f}x", "1x")
    row("  silo, tqdm", f"{times['silo'] * 1e9:.0f}, {times['tqdm'] * 1e9:.0f} ns", "")
    for lines, kept in ((10, 1_000), (100_000, 1_000), (100_000, 100_000)):
        times = watching(lines, kept)
        row(f".state, {lines:,} lines logged, max_logs={kept:,}", f"{times['state'] * 1e6:.2f} us", "5 us")
        row(f".to_dict(), {lines:,} lines logged, max_logs={kept:,}", f"{times['to_dict'] * 1e6:.2f} us", "10 us")
    used, allowed = threads_used()
    row("threads of 1,000 tasks at once", str(used), str(allowed))


if __name__ == "__main__":
    main()
