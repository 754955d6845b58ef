"""What the application said of its sessions: their namespaces and its callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_origin

from .callables import check_factory
from .record import ATTACHED
from .redact import short
from .session import META

logger = logging.getLogger("silo_store")

EndReason = Literal["expired", "reset", "destroyed"]


class Registry:
    """Namespaces and callbacks. Several stores may share one: the same application served twice."""

    def __init__(self) -> None:
        self.factories: dict[str, Callable[[], Any]] = {}
        self.kinds: dict[str, Any] = {}
        self.on_create: list[Callable[[str], object]] = []
        self.on_expire: list[Callable[[str], object]] = []
        self.busy_check: Callable[[str, dict[str, Any]], object] | None = None

    def add(self, name: str, factory: Callable[[], Any], kind: Any) -> None:
        """Add a namespace, or register it anew. Its type is ``kind``; `Any` for none.

        Raises:
            TypeError: the name is not a str, or the factory cannot make state.
            ValueError: the name is reserved.
        """
        check_factory(name, factory)
        if name.startswith(ATTACHED):
            raise ValueError(f"no namespace can have a name that begins with {ATTACHED}")
        if name == META:
            raise ValueError(f"no namespace can have the name {META}: sessions keep their id and times there")
        if kind is Any:
            self.kinds.pop(name, None)
        else:
            self.kinds[name] = kind
        self.factories[name] = factory

    def is_busy(self, sid: str, session: dict[str, Any]) -> bool:
        """Ask the application. A predicate that raises counts as busy: better a session too many than work lost."""
        if self.busy_check is None:
            return False
        try:
            return bool(self.busy_check(sid, session))
        except Exception:
            logger.exception("busy check failed for session %s", short(sid))
            return True


def kind_of(factory: Callable[[], Any]) -> Any:
    """Return the type of a namespace that is registered with this factory: the factory, if that is a type.

    dict and list say nothing of what is in them, so they are none.
    """
    is_type = isinstance(factory, type) or get_origin(factory) is not None
    return factory if is_type and factory not in (dict, list) else Any


def tell(callbacks: list[Callable[..., object]], sid: str, *args: object) -> None:
    """Call each callback. One that raises is logged and stops nobody else."""
    for callback in list(callbacks):
        try:
            callback(sid, *args)
        except Exception:
            logger.exception("callback failed for session %s", short(sid))


def missing(factories: Mapping[str, Callable[[], Any]], session: Mapping[str, Any]) -> dict[str, Any]:
    """Make the state of the namespaces that a session does not have yet."""
    if factories.keys() <= session.keys():
        return {}
    return {name: factory() for name, factory in list(factories.items()) if name not in session}
