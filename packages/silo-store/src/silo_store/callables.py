"""Checks the functions that an application registers, when it registers them."""

from __future__ import annotations

import inspect
from types import CoroutineType
from typing import Annotated, Any, get_origin

_SHORT = 60
"""Characters up to which an error shows a value as it is."""


def check_factory(namespace: str, factory: Any) -> None:
    """Check that a factory can make the first state of a namespace.

    Raises:
        TypeError: The factory is not callable, is a type that cannot be instantiated, needs arguments or is async; or
            the name is not a str. The message shows what to register instead.
    """
    if not isinstance(namespace, str):
        raise TypeError(f"give the name of the namespace first, and then its factory: {_shown(namespace)} is not a str")
    what = f"namespace {namespace!r} needs a factory, which makes the first state of each session"
    if _is_abstract(factory):
        raise TypeError(f"{what}, and {factory} makes none: register({namespace!r}, <a function>, type={factory})")
    if not callable(factory):
        raise TypeError(f"{what}, not {_shown(factory)}: register({namespace!r}, {_as_factory(factory)})")
    if _is_async(factory):
        raise TypeError(f"{what}: {_name(factory)} is async and returns a coroutine; give a plain function")
    misfit = _misfit(factory, 0)
    if misfit is not None:
        example = f"register({namespace!r}, lambda: {_name(factory)}(...))"
        raise TypeError(
            f"{what} without arguments: {_name(factory)} cannot be called that way ({misfit}). Give {example}"
        )


def check_callback(use: str, function: Any, parameters: str = "") -> None:
    """Check that a function can serve as a callback.

    Args:
        use: The name of the hook or parameter that takes the function, such as ``on_expire``, for the message.
        function: The function.
        parameters: The arguments that it will get, such as ``sid, uid``.

    Raises:
        TypeError: The function is not callable, does not take these arguments or is async.
    """
    what = f"{use} takes a function that is called as function({parameters})"
    if not callable(function):
        raise TypeError(f"{what}, not {_shown(function)}")
    if _is_async(function):
        raise TypeError(f"{what}: {_name(function)} is async and would never run; give a plain function")
    misfit = _misfit(function, len(parameters.split(", ")) if parameters else 0)
    if misfit is not None:
        raise TypeError(f"{what}: {_name(function)} cannot be called that way ({misfit})")


def check_change(change: Any) -> None:
    """Check that a change of state is a function, not the new state.

    Raises:
        TypeError: The change cannot be called. The message has its class only: state is private.
    """
    if not callable(change):
        raise TypeError(
            f"update takes a function that is called as function(state), not a {type(change).__name__}: for new state, "
            "give a function that returns it, such as lambda _: {...}"
        )


def refuse_coroutine(change: Any, result: Any) -> None:
    """Check that the result of a change is state, not the coroutine of an async function.

    Raises:
        TypeError: The result is a coroutine.
    """
    if type(result) is CoroutineType:
        result.close()
        raise TypeError(f"{_name(change)} is async and returns a coroutine, not state; give update() a plain function")


def _is_abstract(factory: Any) -> bool:
    """Return whether this is a type that cannot be instantiated, such as a union or an abstract class."""
    origin = get_origin(factory)
    if origin is None or isinstance(origin, type):
        return inspect.isabstract(origin or factory) or (origin is not None and not callable(factory))
    return origin is not Annotated


def _is_async(function: Any) -> bool:
    call = getattr(type(function), "__call__", None)  # noqa: B004 - the object may be callable
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in (function, call))


def _misfit(function: Any, count: int) -> str | None:
    """Return why a function cannot take ``count`` arguments; None if it can, or if it has no signature to check."""
    try:
        signature = inspect.signature(function)
    except (AttributeError, NameError, TypeError, ValueError):  # some builtins; an annotation that cannot be evaluated
        return None
    try:
        signature.bind(*[None] * count)
    except TypeError as error:
        return str(error)
    return None


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or _shown(function))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHORT else f"a {type(value).__name__}"


def _as_factory(value: Any) -> str:
    """Return the text of a factory for a value: in full for short plain data."""
    text = repr(value)
    is_plain = value is None or isinstance(value, (bool, int, float, str, bytes, dict, list, tuple, set))
    return f"lambda: {text if is_plain and len(text) <= _SHORT else type(value).__name__ + '(...)'}"
