"""Decides which errors of a run clients may read."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from ..errors import TaskLost, TaskTimeout

PublicErrors: TypeAlias = type[BaseException] | Collection[type[BaseException]]
"""A class of exceptions, or several."""


def names_of(given: PublicErrors) -> frozenset[str]:
    """Return the names of the classes, by which a worker recognises them without importing them.

    Raises:
        TypeError: A value is not a class of exceptions; the message names it.
    """
    if given == ():
        return frozenset()
    # A str is a collection too.
    classes = tuple(given) if isinstance(given, Collection) and not isinstance(given, (type, str)) else (given,)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"public_errors takes exception classes, not {each!r}")
    return frozenset(map(_name, classes))


def is_public(error: BaseException | str, names: frozenset[str]) -> bool:
    """Return whether clients may read an error: it was written for them, or ``names`` has its class."""
    if not isinstance(error, BaseException) or (isinstance(error, (TaskTimeout, TaskLost)) and error.public):
        return True
    return not names.isdisjoint(map(_name, type(error).__mro__))


def _name(kind: type) -> str:
    # In a child process, the script of its parent has another name.
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}:{kind.__qualname__}"
