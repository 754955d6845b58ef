"""Checks the function of a run, and explains why a call of it fails."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import CoroutineType, FunctionType
from typing import Any

_LAZY_FLAGS = 0x20 | 0x80 | 0x100 | 0x200
"""Flags of functions whose call executes no code: ``CO_GENERATOR``, ``CO_COROUTINE``, ``CO_ITERABLE_COROUTINE`` and
``CO_ASYNC_GENERATOR`` of ``inspect``, which takes milliseconds to import. Most targets do not need that."""


def check_target(target: object, where: str = "start()") -> None:
    """Check that a function can be run as a task.

    Args:
        target: The function to run.
        where: The function to which it was passed, for the message.

    Raises:
        TypeError: The target is not a function, or calling it executes no code: an ``async def``, or one with
            ``yield``.
    """
    if type(target) is FunctionType and not target.__code__.co_flags & _LAZY_FLAGS and not target.__dict__:
        # The most frequent kind: a plain function, which nothing marks as a coroutine function.
        return
    if isinstance(target, CoroutineType):
        # Otherwise it would warn that it was never awaited.
        target.close()
    if not callable(target):
        kind = type(target).__name__
        if where == "start()":
            instead = "start(work, rows) instead of start(work(rows))"
            raise TypeError(f"{where} takes a function and its arguments, not a {kind}: {instead}")
        raise TypeError(f"{where} takes a function, not a {kind}")
    while isinstance(target, functools.partial):
        target = target.func
    import inspect

    called: tuple[object, ...] = (target,)
    if not isinstance(target, FunctionType):
        called += (inspect.getattr_static(type(target), "__call__", None),)
    kinds = (
        ("a coroutine function", inspect.iscoroutinefunction, "asyncio.run({})"),
        (
            "an async generator function",
            inspect.isasyncgenfunction,
            "asyncio.run() of a coroutine that goes through {}",
        ),
        ("a generator function", inspect.isgeneratorfunction, "list({})"),
    )
    for kind, is_one, instead in kinds:
        if any(map(is_one, called)):
            name = name_of(target)
            raise TypeError(
                f"{where} takes a plain function, and {name!r} is {kind}: give it one that returns "
                f"{instead.format(f'{name}(...)')}"
            )


def name_of(function: Any) -> str:
    """Return the name of a function, or the name of the class of a callable object."""
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def call_of(function: Callable[..., Any]) -> str:
    """Return a function with its parameters, as in "work(task, rows)"; "work(...)" if it has no signature."""
    import inspect

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
    """Return the error with which a run fails. If the call itself failed, its text shows the function's parameters.

    Args:
        error: The error that was raised by the call, or by the code of the function.
        function: The function.
        args: All positional arguments, the task first.
        kwargs: Keyword arguments.
    """
    traceback = error.__traceback__
    if isinstance(error, TypeError) and traceback is not None and traceback.tb_next is None:
        import inspect

        try:
            inspect.signature(function).bind(*args, **kwargs)
        except ValueError:  # some builtin functions have no signature
            pass
        except TypeError:
            return TypeError(explain_call(function, error)).with_traceback(traceback)
    return error


def explain_call(function: Callable[..., Any], error: TypeError, given: int = 1) -> str:
    """Return why a function cannot be called with the arguments of ``start()``.

    Args:
        function: The function.
        error: The error that Python raised.
        given: Number of arguments before those of ``start()``: 1, the task.
    """
    if not given:
        return f"{call_of(function)} cannot be called with the arguments of start(): {error}"
    return (
        f"{call_of(function)} cannot be called with the task and the arguments of start(): {error}. The first "
        "parameter is the task"
    )
