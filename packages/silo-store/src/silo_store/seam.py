"""Checks that an object has what its interface names, before anything calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def check_seam(use: str, value: object, seam: type, page: str) -> None:
    """Check that an object has every attribute and method of an interface, and that its methods can be called.

    Args:
        use: The parameter that takes the object, for the message.
        value: The object.
        seam: The interface. All its public names are needed. A method inherited from a ``Protocol`` does not count: it
            does nothing.
        page: Where the interface is described, for the message.

    Raises:
        TypeError: The object is a class, or lacks a name, or has a method that takes other arguments. The message lists
            all of these. It does not repeat the object.
    """
    if isinstance(value, type):
        raise TypeError(f"{use} takes an object, not a class: give {value.__name__}(...)")
    lacking, misfits, is_protocol = [], [], vars(seam).get("_is_protocol")
    for name in dict.fromkeys((*seam.__annotations__, *vars(seam))):
        if name.startswith("_"):
            continue
        stub, found = vars(seam).get(name), getattr(value, name, seam)
        is_inherited = stub is not None and getattr(found, "__func__", None) is stub
        if found is seam or (is_inherited and is_protocol):
            lacking.append(name)
        elif callable(stub) and not is_inherited:
            misfits += _misfits(name, stub, found)
    if lacking:
        misfits.insert(0, f"it has no {', '.join(lacking)}")
    if misfits:
        kind = type(value).__name__
        raise TypeError(
            f"{use} must be a {seam.__name__}, but this {kind} does not fit: {'; '.join(misfits)}. See {page}"
        )


def _misfits(name: str, stub: Callable[..., Any], method: Any) -> list[str]:
    """Return why a method cannot be called as its interface says; an empty list if it can."""
    # Takes milliseconds to import, and many programs have no object of another kind than ours to check.
    from inspect import Parameter, Signature, iscoroutinefunction, signature

    if not callable(method):
        return [f"its {name} is not a method"]
    if iscoroutinefunction(method):
        return [f"its {name} is async"]
    _, *parameters = (each.replace(annotation=Parameter.empty) for each in signature(stub).parameters.values())
    try:
        given = signature(method)
    except (TypeError, ValueError):  # some builtins
        return []
    for needed in (parameters, [each for each in parameters if each.default is Parameter.empty]):
        keywords = {each.name: None for each in needed if each.kind is Parameter.KEYWORD_ONLY}
        try:
            given.bind(*needed[: len(needed) - len(keywords)], **keywords)
        except TypeError as error:
            return [f"its {name} must take {Signature(parameters)}, and cannot ({error})"]
    return []
