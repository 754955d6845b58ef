"""Checks of the arguments of tasks and runners."""

from __future__ import annotations

from numbers import Number

from .runners.base import Runner
from .stores.base import TaskStore


def check_runner(runner: object) -> None:
    """Refuse anything but a runner, such as a class of runners or a name.

    Raises:
        TypeError: It is not a runner, and not None, which stands for the default runner.
    """
    if runner is not None and not isinstance(runner, Runner):
        # An address may hold a password.
        given = "an address" if isinstance(runner, str) and "://" in runner else repr(runner)
        raise TypeError(f"runner must be a silo_tasks.Runner such as ThreadRunner(), not {given}")


def check_store(store: object) -> None:
    """Refuse anything but a task store. The message does not repeat an address, which may hold a password.

    Raises:
        TypeError: It is not a task store.
    """
    if not isinstance(store, TaskStore):
        given = f"the class {store.__name__}" if isinstance(store, type) else f"a {type(store).__name__}"
        raise TypeError(f"store must be a task store such as MemoryTaskStore() or RedisTaskStore(url), not {given}")


def check_number(name: str, number: object, unit: str = "") -> None:
    """Refuse anything but a number.

    Raises:
        TypeError: It is not a number; the message names the argument.
    """
    if type(number) not in (int, float) and not isinstance(number, Number):
        raise TypeError(f"{name} must be a number{unit}, not a {type(number).__name__}")
