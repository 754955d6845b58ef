"""Checks of numbers, and of the arguments of tasks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .importing import importing
from .run.public_errors import PublicErrors, names_of
from .run.settings import Settings

if TYPE_CHECKING:
    from .runners.base import Runner
    from .stores.base import TaskStore


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
    if runner is not None or store is not None:
        (_check_fitting or _import_check_fitting())(runner, store)
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

_check_fitting: Callable[[object, object], None] | None = None
"""``check_fitting()``, once a task has a runner or a store."""


def _import_check_fitting() -> Callable[[object, object], None]:
    """Import the checks of runners and stores. Most tasks have neither."""
    global _check_fitting
    with importing:
        from .fitting import check_fitting

    _check_fitting = check_fitting
    return check_fitting


def _name_of(name: object) -> str:
    if callable(name):
        called = getattr(name, "__name__", type(name).__name__)
        raise TypeError(f"a task is made with its name: BackgroundTask({called!r}), then start({called}, ...)")
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not a {type(name).__name__}")
    return str(name)
