"""Attributes that are made late: when they are first read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Maker(Protocol):
    """An object with such attributes."""

    @property
    def making(self) -> AbstractContextManager[Any]:
        """A reentrant lock, because one attribute may need another. It is held while one is made."""


class made_once(Generic[T]):  # noqa: N801 - named as ``property`` is
    """A property that is computed when it is first read, and once, even if several threads read it at that moment.

    ``functools.cached_property`` computes it in each of these threads.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, owner: Maker, kind: type) -> T:
        with owner.making:
            made = vars(owner)  # from now on, a reader finds the value there
            if self._name not in made:
                made[self._name] = self._make(owner)
            value: T = made[self._name]
            return value
