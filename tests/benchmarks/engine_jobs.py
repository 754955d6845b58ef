"""The functions that workers of the benchmarks run."""

from __future__ import annotations

import itertools
import time
from typing import Any


def bare(a: int, b: int) -> int:
    return a + b


def add(task: Any, a: int, b: int) -> int:
    return a + b


def endless(task: Any) -> None:
    for _ in task.track(itertools.count()):
        time.sleep(0.001)
