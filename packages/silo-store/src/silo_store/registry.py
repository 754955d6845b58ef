"""The namespaces and callbacks that an application registers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_origin

from .callables import check_factory
from .redact import short
from .session import META

logger = logging.getLogger("silo_store")

EndReason = Literal["expired", "reset", "destroyed"]


class Registry:
    """Namespaces and callbacks. Several stores may share one registry."""

    def __init__(self) -> None:
        self.factories: dict[str, Callable[[], Any]] = {}
        self.kinds: dict[str, Any] = {}
        self.on_create: list[Callable[[str], object]] = []
        self.on_expire: list[Callable[[str], object]] = []
        self.busy_check: Callable[[str, dict[str, Any]], object] | None = None

    def add(self, name: str, factory: Callable[[], Any], kind: Any) -> None:
        """Add a namespace, or replace it. Its type is ``kind``; ``Any`` for none.

        Raises:
            TypeError: The name is not a str, or the factory cannot make state.
            ValueError: The name is reserved.
        """
        check_factory(name, factory)
        if name == META:
            raise ValueError(
                f"a namespace cannot have the name {META}, under which sessions show their id and times: choose another"
            )
        if kind is Any:
            self.kinds.pop(name, None)
        else:
            self.kinds[name] = kind
        self.factories[name] = factory

    def is_busy(self, sid: str, session: dict[str, Any]) -> bool:
        """Return whether the busy check calls a session busy. So does a check that raises, so that no work is lost."""
        if self.busy_check is None:
            return False
        try:
            return bool(self.busy_check(sid, session))
        except Exception:
            logger.exception("busy check failed for session %s", short(sid))
            return True


def kind_of(factory: Callable[[], Any]) -> Any:
    """Return the type of a namespace that is registered with this factory: the factory, if that is a type.

    ``dict`` and ``list`` do not say what they hold, so they count as no type.
    """
    is_type = isinstance(factory, type) or get_origin(factory) is not None
    return factory if is_type and factory not in (dict, list) else Any


def tell(callbacks: list[Callable[..., object]], sid: str, *args: object) -> None:
    """Call each callback. An error of one is logged, and the others are called."""
    for callback in list(callbacks):
        try:
            callback(sid, *args)
        except Exception:
            logger.exception("callback failed for session %s", short(sid))


def missing(factories: Mapping[str, Callable[[], Any]], session: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first state of each namespace that a session does not have yet, by name."""
    if factories.keys() <= session.keys():
        return {}
    return {name: factory() for name, factory in list(factories.items()) if name not in session}
