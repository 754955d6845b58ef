"""A namespace whose state has a type for type checkers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from .ext import Silo

T = TypeVar("T")


class Namespace(Generic[T]):
    """A registered namespace: ``cart.state`` is ``silo.state("cart")``, ``cart.edit()`` is ``silo.edit("cart")``.

    Attributes:
        name: The name of the namespace.
    """

    def __init__(self, silo: Silo, name: str) -> None:
        self.name = name
        self._silo = silo

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def state(self) -> T:
        """The state of this namespace in the session of the running request or task; see ``Silo.state()``.

        Assigning to it works as an ``edit()``: the new state is saved with a request that writes, otherwise at once.
        After the response has started, assigning raises ``RuntimeError``: use ``edit()`` in what a response streams.
        """
        state: T = self._silo.state(self.name)
        return state

    @state.setter
    def state(self, new: T) -> None:
        request = self._silo.current.find_request()
        if request is not None:
            request.refuse_late_change()
        with self._silo.edit(lazy=True) as session:
            session[self.name] = new

    def edit(self, *, sid: str | None = None) -> AbstractContextManager[T]:
        """Change the state with the session's write lock; see ``Silo.edit()``."""
        return self._silo.edit(self.name, sid=sid)

    def update(self, change: Callable[[T], T | None], *, sid: str | None = None) -> T:
        """Call ``change(state)`` in an ``edit()``. Its return value, unless None, becomes the new state.

        Returns:
            The new state.

        Raises:
            TypeError: ``change`` is async, or not a function.
            Exception: What ``edit()`` raises.
        """
        with self._silo.edit(sid=sid, lazy=True) as session:
            state: T = session.apply(self.name, change)
            return state
