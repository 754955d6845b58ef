"""Times alternating actions, so that a change in the speed of the machine affects all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable


def interleaved(
    *actions: Callable[[], object], repeats: int = 15, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Return the median seconds of each action, in CPU time or by another clock. The actions alternate."""
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
    return [statistics.median(each) for each in times]


def row(case: str, measured: str, reach: str) -> None:
    """Print one line of the table."""
    print(f"{case:<68} {measured:>24}   reach {reach}")
