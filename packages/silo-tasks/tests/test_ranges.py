"""A duration or a limit that no task, runner or store can keep is refused where it is given."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
from silo_tasks import BackgroundTask, InlineRunner, MemoryTaskStore, ProcessRunner, ThreadRunner
from silo_tasks.console import follow
from silo_tasks.runners.queue import QueueRunner


class Sent(QueueRunner):
    """Sends nothing."""

    def dumps(self, value: Any) -> bytes:
        return repr(value).encode()

    def send(self, message: Any) -> None:
        pass


def followed(interval: float) -> object:
    return follow(BackgroundTask(runner=InlineRunner()), io.StringIO(), interval=interval)


TAKES: dict[str, tuple[Callable[[Any], object], str]] = {
    "timeout": (lambda value: BackgroundTask(timeout=value), "timeout must be positive"),
    "threads": (lambda value: ThreadRunner(value), "workers must be 1 or more"),
    "waiting threads": (lambda value: ThreadRunner(queue_size=value), "queue_size must be 0 or more"),
    "processes": (lambda value: ProcessRunner(value), "workers must be 1 or more"),
    "drain": (lambda value: ThreadRunner(drain_timeout=value), "drain_timeout must be 0 or more"),
    "drain of processes": (lambda value: ProcessRunner(drain_timeout=value), "drain_timeout must be 0 or more"),
    "kill": (lambda value: ProcessRunner(kill_after=value), "kill_after must be 0 or more"),
    "max_wait": (lambda value: Sent(MemoryTaskStore(), max_wait=value), "max_wait must be positive, and not infinite"),
    "max_bytes": (lambda value: Sent(MemoryTaskStore(), max_bytes=value), "max_bytes must be 0 or more"),
    "lease": (lambda value: MemoryTaskStore(lease=value), "lease must be positive"),
    "interval": (followed, "interval must be positive"),
}


@pytest.mark.parametrize(("make", "said"), TAKES.values(), ids=TAKES)
@pytest.mark.parametrize("value", [-1, -math.inf, math.nan], ids=str)
def test_what_is_out_of_range_is_refused(make: Callable[[Any], object], said: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        make(value)


@pytest.mark.parametrize("name", ["timeout", "threads", "processes", "max_wait", "lease", "interval"])
def test_what_must_not_be_zero_is_refused(name: str) -> None:
    make, said = TAKES[name]
    with pytest.raises(ValueError, match=f"^{said}$"):
        make(0)


@pytest.mark.parametrize("name", ["drain", "drain of processes", "max_bytes", "max_wait", "lease", "interval"])
def test_what_is_not_a_number_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"{TAKES[name][1].split()[0]} must be a number( of seconds)?, not a str"):
        TAKES[name][0]("5")


def test_a_number_of_lines_is_not_negative() -> None:
    with pytest.raises(ValueError, match=r"^max_logs must be 0 or more$"):
        BackgroundTask(max_logs=-1)


@pytest.mark.parametrize("number", [2.5, math.inf, math.nan], ids=str)
def test_a_number_of_lines_is_whole(number: float) -> None:
    """A run whose log had 2.5 lines never ended."""
    with pytest.raises(TypeError, match=r"^max_logs must be a whole number, not a float$"):
        BackgroundTask(max_logs=number)  # type: ignore[arg-type]
