"""Times alternating actions, so that a change in the speed of the machine affects all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence


def turns(
    *actions: Callable[[], object], repeats: int = 15, clock: Callable[[], float] = time.process_time
) -> list[list[float]]:
    """Return the seconds of each turn of each action, in CPU time or by another clock. The actions alternate."""
    times: list[list[float]] = [[] for _ in actions]
    gc.collect()
    gc.disable()
    try:
        for turn in range(repeats):
            order = list(enumerate(actions))
            for number, action in order if turn % 2 else reversed(order):
                start = clock()
                action()
                times[number].append(clock() - start)
    finally:
        gc.enable()
    return times


def interleaved(
    *actions: Callable[[], object], repeats: int = 15, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Return the median seconds of each action, in CPU time or by another clock. The actions alternate."""
    return [statistics.median(each) for each in turns(*actions, repeats=repeats, clock=clock)]


def warm(
    *actions: Callable[[], object], repeats: int = 15, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Return the seconds of each turn like ``turns``, after one run of each action. By default in wall time."""
    for action in actions:
        action()
    return turns(*actions, repeats=repeats, clock=clock)


def rounds(action: Callable[[], object], count: int) -> Callable[[], None]:
    """Return a function that calls an action several times."""

    def run() -> None:
        for _ in range(count):
            action()

    return run


def ratio(ours: Sequence[float], floor: Sequence[float], unit: float = 0, name: str = "us") -> str:
    """Return the median of the ratios of two lists of turns, with the middle half of them.

    Args:
        ours: Seconds of each turn.
        floor: Seconds of each turn of what it is compared with.
        unit: Divides the median seconds of both, which are shown too; 0 shows none.
        name: What they are then, such as ``us``.
    """
    each = [mine / theirs for mine, theirs in zip(ours, floor, strict=True)]
    low, median, high = statistics.quantiles(each, n=4, method="inclusive")
    text = f"{median:.2f}x ({low:.2f} to {high:.2f})"
    if unit:
        text += f" {statistics.median(ours) / unit:.3g} / {statistics.median(floor) / unit:.3g} {name}"
    return text


def row(case: str, measured: str, goal: str) -> None:
    """Print one line of the table."""
    print(f"{case:<68} {measured:>24}   goal {goal}", flush=True)
