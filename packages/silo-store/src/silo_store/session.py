"""A session as callers see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .callables import check_change, refuse_coroutine
from .errors import NamespaceError
from .record import Record

META = "_meta"
"""A key that sessions of release 0.1 had beside their namespaces; a namespace cannot have this name."""


class Session(Record):
    """A session as callers see it: the state of each namespace, by name.

    Attributes:
        sid: The id that the client presents.
        uid: This life of the session. A reset, destroyed or expired session comes back under another ``uid``.
        created: When this life began, in seconds since the epoch.
        active: When the session was last used, in seconds since the epoch.
        origin: The record as it was read or written last; None if the backend keeps live objects.

    ``session["_meta"]`` is a dict of ``created_at``, ``last_active`` and ``sid``, as in release 0.1. It is made at each
    access: ``in`` and ``get`` find it, iteration does not yield it.
    """

    __slots__ = ("origin",)

    def __init__(self, sid: str, uid: str, created: float, active: float, origin: Record | None = None) -> None:
        super().__init__(sid, uid, created, active)
        self.origin: Record | None = origin

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key == META

    def get(self, key: str, default: Any = None) -> Any:
        """Return what ``session[key]`` finds, or the default."""
        return self[key] if key in self else default  # noqa: SIM401 - this is `get`

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return what ``session[key]`` finds. If it finds nothing, the default becomes the namespace's state."""
        return self[key] if key in self else super().setdefault(key, default)

    def apply(self, namespace: str, change: Callable[[Any], Any]) -> Any:
        """Call ``change(state)`` with the state of a namespace. A result other than None becomes the new state.

        Returns:
            The namespace's new state.

        Raises:
            NamespaceError: The namespace is not registered.
            TypeError: ``change`` is async, or not a function. Nothing was changed.
        """
        check_change(change)
        new = change(self[namespace])
        if new is not None:
            refuse_coroutine(change, new)
            self[namespace] = new
        return self[namespace]

    def __missing__(self, key: str) -> Any:
        if key == META:
            return {"created_at": self.created, "last_active": self.active, "sid": self.sid}
        raise NamespaceError(key)
