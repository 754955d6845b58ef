"""What processes run in the tests."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NoReturn

from silo_tasks import BackgroundTask, ProcessRunner, current_task, step, track

SETTING = ContextVar("SETTING", default="not set")
SETTING.set("set by the module")  # As one does that sets the precision of decimal numbers.


def setting(task: BackgroundTask) -> str:
    return SETTING.get()


def add(task: BackgroundTask, /, a: int, *more: int, scale: int = 1, **options: object) -> int:
    return (a + sum(more)) * scale


def give(task: BackgroundTask, value: Any) -> Any:
    return value


def pid(task: BackgroundTask) -> int:
    return os.getpid()


def modules(task: BackgroundTask) -> list[str]:
    return list(sys.modules)


def size(task: BackgroundTask, data: bytes) -> tuple[int, bytes]:
    return len(data), data[::-1]


def raise_odd(task: BackgroundTask) -> NoReturn:
    class Odd(Exception):
        def __reduce__(self) -> NoReturn:
            raise TypeError("cannot be pickled")

    raise Odd("quite odd")


def interrupt(task: BackgroundTask) -> NoReturn:
    raise KeyboardInterrupt


def leave(task: BackgroundTask) -> NoReturn:
    sys.exit(3)


def give_lock(task: BackgroundTask) -> object:
    return threading.Lock()


class Spoilt:
    """Can be pickled, and not be loaded where it is not allowed."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _unless_in, (os.getpid(),)


def _unless_in(process: int) -> int:
    if os.getpid() != process:
        raise RuntimeError("only where it was made")
    return process


def give_spoilt(task: BackgroundTask) -> object:
    return Spoilt()


async def nothing() -> None: ...


def wrong(task: BackgroundTask) -> object:
    return nothing()


def hold(task: BackgroundTask, gate: str) -> str:
    """Says its pid, and goes on once there is a file at `gate`."""
    task.log("%d", os.getpid())
    for _ in task.track(itertools.count()):
        if Path(gate).exists():
            return "open"
        time.sleep(0.005)
    raise AssertionError


def report(task: BackgroundTask, gate: str) -> str:
    task.plan(("Read", 1), ("Add", 3))
    with step("Read"):
        task.log("reading", level="debug")
    with step("Add"):
        task.update(total=4, message="{n} of {total}")
        task.advance(2)
        task.update(progress=50)
        task.log("read")
        while not Path(gate).exists():
            time.sleep(0.005)
        return "open"


def chatter(task: BackgroundTask, count: int, gate: str) -> None:
    for i in range(count):
        task.log("line %d", i)
    hold(task, gate)


def stubborn(task: BackgroundTask) -> NoReturn:
    task.log("%d", os.getpid())
    while True:
        time.sleep(0.01)


def compute(task: BackgroundTask) -> None:
    """Never lets another thread of its process run."""
    task.log("%d", os.getpid())
    time.sleep(0.3)  # The line is sent.
    re.fullmatch("(a+)+", "a" * 60 + "b")


def shielded(task: BackgroundTask, gate: str) -> NoReturn:
    with task.shield():
        task.log("%d", os.getpid())
        while not Path(gate).exists():
            task.checkpoint()
            time.sleep(0.005)
        Path(f"{gate}.left").touch()
    while True:  # The cancel may be on its way.
        task.checkpoint()
        time.sleep(0.005)


def tidy(task: BackgroundTask, path: str) -> None:
    try:
        hold(task, f"{path}.never")
    finally:
        Path(path).touch()


def complete(task: BackgroundTask, gate: str) -> str:
    task.complete("Enough")
    task.log("after it")
    while not Path(gate).exists():
        time.sleep(0.005)
    return "value"


def complete_and_die(task: BackgroundTask) -> None:
    task.complete()
    time.sleep(0.3)
    os._exit(4)


def fail(task: BackgroundTask) -> None:
    task.fail("by itself")


def nested(task: BackgroundTask) -> tuple[bool, list[int]]:
    def library() -> Iterator[int]:
        assert current_task() is task
        yield from track([1, 2, 3])

    return task.is_running, list(library())


def die(task: BackgroundTask, how: str) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if how == "exit":
        os._exit(3)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "cpu":
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
        while True:
            pass


def use_too_much_memory(task: BackgroundTask) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (2**30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return len(bytearray(2**31))


def fork_and_die(task: BackgroundTask) -> None:
    """Leaves a process behind that has all that this one had open."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    task.log("%d", child)
    task.log("%d", os.getpid())
    time.sleep(60)


def fork_and_return(task: BackgroundTask) -> int:
    """Returns in both processes."""
    return os.fork()


def close_all(task: BackgroundTask) -> str:
    """As programs do that become daemons."""
    os.closerange(3, 1024)
    return "closed"


def own_process(task: BackgroundTask) -> str:
    return subprocess.run(
        [sys.executable, "-c", "import signal, sys; print(signal.getsignal(signal.SIGINT).__name__, sys.stdin.read())"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def own_task(task: BackgroundTask) -> int:
    inner = BackgroundTask("inner", runner=ProcessRunner(1))
    inner.start(add, 1, 2)
    return int(inner.result(30))


def read_stdin(task: BackgroundTask) -> str:
    return sys.stdin.read()


class TaskTimeout(Exception):
    """Named as one of silo-tasks is."""


def raise_namesake(task: BackgroundTask) -> None:
    raise TaskTimeout("postgres://admin:secret@db")
