"""Checks of the arguments of tasks and runners."""

from __future__ import annotations

import time
from collections.abc import Callable

from .run.public_errors import PublicErrors, names_of
from .run.settings import Settings
from .runners.base import Runner
from .seam import check_seam
from .stores.base import TaskStore

_FITTING: set[type] = set()
"""Classes of runners and stores whose methods were checked, so that making a task stays cheap."""


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


def check_number(name: str, number: object, unit: str = "") -> None:
    """Check that an argument is a number.

    Raises:
        TypeError: The argument is something else. The message gives its name.
    """
    if type(number) in (int, float):
        return
    from numbers import Number

    if not isinstance(number, Number):
        raise TypeError(f"{name} must be a number{unit}, not a {type(number).__name__}")


def check_whole(name: str, number: object) -> None:
    """Check that an argument is a whole number.

    Raises:
        TypeError: The argument is something else. The message gives its name.
    """
    if type(number) is int:
        return
    from numbers import Integral

    if not isinstance(number, Integral):
        raise TypeError(f"{name} must be a whole number, not a {type(number).__name__}")


def settings_of(
    name: str,
    timeout: float | None,
    max_logs: int,
    runner: Runner | None,
    store: TaskStore | None,
    owner: str,
    clock: Callable[[], float],
    public_errors: PublicErrors,
) -> Settings:
    """Return the settings of a task that is made with these arguments; see ``BackgroundTask``.

    Raises:
        ValueError: ``timeout`` is not positive, or ``max_logs`` is negative.
        TypeError: An argument is of the wrong kind; the message says what to give.
    """
    if type(name) is not str:
        name = _name_of(name)
    check_runner(runner)
    if store is not None:
        check_store(store)
    if timeout is not None:
        check_number("timeout", timeout, " of seconds")
    check_whole("max_logs", max_logs)
    if not callable(clock):
        raise TypeError(f"clock must be a function such as time.time, not a {type(clock).__name__}")
    if timeout is not None and not timeout > 0:
        raise ValueError("timeout must be positive")
    if max_logs < 0:
        raise ValueError("max_logs must be 0 or more")
    if store is None and runner is not None:
        store = runner.store
    mono = time.monotonic if clock is time.time else clock
    # A Decimal, or an integer too large for a float, cannot be added to a time.
    seconds = None if timeout is None else float(timeout)
    names = names_of(public_errors) if public_errors != () else _NO_NAMES
    return Settings(name, str(owner), seconds, max_logs, store, clock, mono, names, repr(name))


_NO_NAMES: frozenset[str] = frozenset()


def _name_of(name: object) -> str:
    if callable(name):
        called = getattr(name, "__name__", type(name).__name__)
        raise TypeError(f"a task is made with its name: BackgroundTask({called!r}), then start({called}, ...)")
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not a {type(name).__name__}")
    return str(name)
