"""What workers run in the tests."""

from __future__ import annotations

import itertools
import os
import signal
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from silo_tasks import BackgroundTask, MemoryTaskStore, current_task, track
from silo_tasks.runners.message import Message
from silo_tasks.stores.redis import RedisTaskStore

SETTING = ContextVar("SETTING", default="not set")
SETTING.set("set by the module")  # As one does that sets the precision of decimal numbers.


def setting(task: BackgroundTask) -> str:
    return SETTING.get()


def add(task: BackgroundTask, a: int, b: int = 0) -> int:
    task.log("adding %d and %d", a, b)
    return a + b


def give(task: BackgroundTask, value: Any, *rest: Any, **named: Any) -> list[Any]:
    return [value, list(rest), named]


def give_set(task: BackgroundTask) -> set[int]:
    return {1}


def hold(task: BackgroundTask, gate: str) -> str:
    """Says how far it is, and goes on once there is a file at `gate`."""
    task.update(progress=40, message="holding")
    task.log("first line", level="warning")
    for _ in track(range(2)):
        while not Path(gate).exists():
            task.checkpoint()
            time.sleep(0.01)
    return "went on"


def endless(task: BackgroundTask) -> None:
    for _ in task.track(itertools.count()):
        time.sleep(0.01)


def deaf(task: BackgroundTask, gate: str) -> None:
    """Reports nothing, so that no cancel can stop it."""
    while not Path(gate).exists():
        time.sleep(0.01)


def note(task: BackgroundTask, path: str) -> None:
    with Path(path).open("a") as file:
        file.write("ran\n")


def fail(task: BackgroundTask, text: str) -> None:
    raise ValueError(text)


def leave(task: BackgroundTask) -> None:
    raise SystemExit("leaving")


def die(task: BackgroundTask) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def show_itself(task: BackgroundTask) -> list[Any]:
    here = current_task()
    return [os.getpid(), here is task]


def with_store(task: BackgroundTask) -> None:
    """Its store cannot be opened."""


def _no_store(message: Message) -> MemoryTaskStore:
    raise LookupError("there is no such store")


with_store.open_store = _no_store  # type: ignore[attr-defined]


def hold_with_store(task: BackgroundTask, gate: str) -> str:
    """Its store is at `ENGINE_STORE`; which processes open it is noted beside the gate."""
    return hold(task, gate)


def _own_store(message: Message) -> RedisTaskStore:
    with Path(f"{message.args[0]}.opened").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return RedisTaskStore(os.environ["ENGINE_STORE"])


hold_with_store.open_store = _own_store  # type: ignore[attr-defined]
