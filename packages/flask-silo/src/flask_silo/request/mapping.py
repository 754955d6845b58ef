"""The mapping interface of a request's session, for ``flask.g.silo``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, MutableMapping
from typing import Any

from silo_store import Session

LATE_CHANGE = "the response has started, so this change would not be saved with it: change state in silo.edit()"


class StateMapping(MutableMapping[str, Any]):
    """Namespace names to their state, loaded when they are first asked for.

    Attributes:
        closed: Whether the response is on its way.
    """

    __slots__ = ("closed",)

    closed: bool

    @abstractmethod
    def load(self) -> Session:
        """Return the session. Before ``whole()``, iterating it yields only namespaces that were asked for by name."""

    @abstractmethod
    def whole(self) -> Session:
        """Return the session with all of its namespaces."""

    def refuse_late_change(self) -> None:
        """Refuse a change that would not be saved.

        Raises:
            RuntimeError: The response has started.
        """
        if self.closed:
            raise RuntimeError(LATE_CHANGE)

    def __getitem__(self, namespace: str) -> Any:
        return self.load()[namespace]

    # Not the mixin's methods: they take a factory's KeyError for a missing namespace.
    def __contains__(self, namespace: object) -> bool:
        return namespace in self.load()

    def get(self, namespace: str, default: Any = None) -> Any:
        """Return the state of a namespace, or the default if the namespace is not registered."""
        return self.load().get(namespace, default)

    def __setitem__(self, namespace: str, state: Any) -> None:
        self.refuse_late_change()
        self.load()[namespace] = state

    def __delitem__(self, namespace: str) -> None:
        raise TypeError("a namespace cannot be deleted: give it fresh state, or reset the session")

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole())

    def __len__(self) -> int:
        return len(self.whole())
