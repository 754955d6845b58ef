"""Checks of what is given to run as a task, and the errors for anything else."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from types import CoroutineType
from typing import Any

from ..runners.base import Runner
from ..stores.base import TaskStore

_LAZY: dict[str, tuple[Callable[[object], bool], str]] = {
    "a coroutine function": (inspect.iscoroutinefunction, "asyncio.run({})"),
    "an async generator function": (inspect.isasyncgenfunction, "asyncio.run() of a coroutine that goes through {}"),
    "a generator function": (inspect.isgeneratorfunction, "list({})"),
}
"""Functions whose call executes nothing: how to recognise each kind, and what to return instead."""


def check_target(target: object, where: str = "start()") -> None:
    """Refuse what cannot be run as a task.

    Args:
        target: What is to be run.
        where: What it was given to, for the message.

    Raises:
        TypeError: It is not a function, or a call of it executes nothing: `async def`, or one with `yield`.
    """
    if isinstance(target, CoroutineType):
        # It would warn that nothing has awaited it.
        target.close()
    if not callable(target):
        kind = type(target).__name__
        if where == "start()":
            instead = "start(work, rows) instead of start(work(rows))"
            raise TypeError(f"{where} takes a function and its arguments, not a {kind}: {instead}")
        raise TypeError(f"{where} takes a function, not a {kind}")
    while isinstance(target, functools.partial):
        target = target.func
    called = (target, inspect.getattr_static(type(target), "__call__", None))
    for kind, (is_one, instead) in _LAZY.items():
        if any(map(is_one, called)):
            name = name_of(target)
            raise TypeError(
                f"{where} takes a plain function, and {name!r} is {kind}: give it one that returns "
                f"{instead.format(f'{name}(...)')}"
            )


def check_runner(runner: object) -> None:
    """Refuse anything but a runner, such as a class of runners or a name.

    Raises:
        TypeError: It is not a runner, and not None, which stands for the default runner.
    """
    if runner is not None and not isinstance(runner, Runner):
        # An address may have a password in it.
        given = "an address" if isinstance(runner, str) and "://" in runner else repr(runner)
        raise TypeError(f"runner must be a silo_tasks.Runner such as ThreadRunner(), not {given}")


def check_store(store: object) -> None:
    """Refuse anything but a task store. The message does not repeat an address: there may be a password in it.

    Raises:
        TypeError: It is not a task store.
    """
    if not isinstance(store, TaskStore):
        given = f"the class {store.__name__}" if isinstance(store, type) else f"a {type(store).__name__}"
        raise TypeError(f"store must be a task store such as MemoryTaskStore() or RedisTaskStore(url), not {given}")


def _has(thing: object, *names: str) -> bool:
    # Tasks are made in every request that starts one, and a protocol takes many times as long to look.
    return not isinstance(thing, type) and all(hasattr(thing, name) for name in names)


def check_number(name: str, number: object, unit: str = "") -> None:
    """Refuse anything but a number.

    Raises:
        TypeError: It is not a number; the message names the argument.
    """
    if type(number) not in (int, float) and not isinstance(number, Number):
        raise TypeError(f"{name} must be a number{unit}, not a {type(number).__name__}")


def name_of(function: Any) -> str:
    """The name of a function; for a callable object, the name of its class."""
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def call_of(function: Callable[..., Any]) -> str:
    """A function with its parameters, such as "work(task, rows)"; "work(...)" if it has no signature."""
    try:
        names = [
            each.replace(annotation=inspect.Parameter.empty) for each in inspect.signature(function).parameters.values()
        ]
    except ValueError:
        return f"{name_of(function)}(...)"
    return f"{name_of(function)}{inspect.Signature(names)}"


def explained(
    error: BaseException, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> BaseException:
    """The error that a run fails with: as it is, or with the function and its parameters if the call itself failed.

    Args:
        error: What was raised in the frame that called the function, or below it.
        function: The function.
        args: All of its positional arguments, the task first.
        kwargs: Its keyword arguments.
    """
    traceback = error.__traceback__
    if isinstance(error, TypeError) and traceback is not None and traceback.tb_next is None:
        try:
            inspect.signature(function).bind(*args, **kwargs)
        except ValueError:  # Some builtin functions have no signature.
            pass
        except TypeError:
            return TypeError(explain_call(function, error)).with_traceback(traceback)
    return error


def explain_call(function: Callable[..., Any], error: TypeError, given: int = 1) -> str:
    """Say why a function cannot be called with what `start()` was given.

    Args:
        function: The function.
        error: What Python says of it.
        given: How many arguments are put before those of `start()`: 1, the task.
    """
    first = "the task and what start() was given" if given else "what start() was given"
    return f"{call_of(function)} cannot be called with {first}: {error}"
