"""Checks that runners and task stores fit their interface."""

from __future__ import annotations

from .runners.base import Runner
from .seam import check_seam
from .stores.base import TaskStore

_FITTING: set[type] = set()
"""Classes of runners and stores whose methods were checked, so that making a task stays cheap."""


def check_fitting(runner: object, store: object) -> None:
    """Check the runner and the store of a task; None for either is allowed.

    Raises:
        TypeError: See ``check_runner()`` and ``check_store()``.
    """
    check_runner(runner)
    if store is not None:
        check_store(store)


def check_runner(runner: object) -> None:
    """Check that an argument is a runner, or None for the default one.

    Raises:
        TypeError: The argument is something else, such as a class or a name, or a method of it takes other arguments
            than that of ``Runner``. The message says which.
    """
    if isinstance(runner, str):
        given = "an address" if "://" in runner else repr(runner)  # An address may hold a password.
        raise TypeError(f"runner must be a silo_tasks.Runner such as ThreadRunner(), not {given}")
    if runner is not None:
        _check("runner", runner, Runner, "a silo_tasks.Runner such as ThreadRunner()")


def check_store(store: object) -> None:
    """Check that an argument is a task store.

    Raises:
        TypeError: The argument is something else, or a method of it takes other arguments than that of ``TaskStore``;
            the message says which. It does not repeat the argument: an address may hold a password.
    """
    _check("store", store, TaskStore, "a task store such as MemoryTaskStore() or RedisTaskStore(url)")


def _check(name: str, value: object, seam: type[Runner] | type[TaskStore], what: str) -> None:
    if not isinstance(value, seam):
        given = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
        methods = " and ".join(sorted(seam.__abstractmethods__))
        own = f"one of your own derives from silo_tasks.{seam.__name__} and has the methods {methods}"
        raise TypeError(f"{name} must be {what}, not {given}; {own}")
    if type(value) not in _FITTING:
        check_seam(name, value, seam, f"silo_tasks.{seam.__name__}")
        _FITTING.add(type(value))
