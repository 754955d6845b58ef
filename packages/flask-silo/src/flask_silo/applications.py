"""The applications that a Silo serves, and their stores."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app
from silo_store import Registry, SessionStore

from .binding import Binding
from .current import IN_A_THREAD
from .served import BINDING, served
from .settings import Settings

if TYPE_CHECKING:
    from .ext import Silo


class Applications:
    """The applications that a ``Silo`` serves; each has a ``Binding`` and a store.

    Until the first application is added, ``store`` is a provisional store, which takes the namespaces and callbacks
    that are registered early. The first application uses that store. If its ``store_url`` is another one, it gets a new
    store, which takes over the callbacks.

    Args:
        silo: The ``Silo``.
        given: The settings that were given to it, by name.
        registry: The namespaces and callbacks of all stores.
        clock: Returns seconds since the epoch.

    Attributes:
        clock: As given.
    """

    def __init__(self, silo: Silo, given: Mapping[str, Any], registry: Registry, clock: Callable[[], float]) -> None:
        self._silo = silo
        self._given = given
        self._registry = registry
        self.clock: Callable[[], float] = clock
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        self._early: tuple[str, SessionStore] | None = None

    def add(self, app: Flask) -> None:
        """Serve an application.

        Raises:
            ValueError: A setting is wrong.
            StoreUnavailable: ``store_url`` names an SQLite file that cannot keep sessions.
        """
        settings = Settings.collect(self._given, app.config)
        app.extensions[BINDING] = Binding(self._silo, app, settings, self._store_for(settings))
        app.extensions["silo"] = self._silo
        self._apps.add(app)
        served.add(app)

    def _store_for(self, settings: Settings) -> SessionStore:
        early, self._early = self._early, None
        if early is None:
            return self._make_store(settings)
        url, store = early
        if url != settings.store_url:
            new = self._make_store(settings)
            new.take_over(store)
            return new
        for name, value in settings.store_options.items():
            setattr(store, name, value)
        return store

    def _make_store(self, settings: Settings) -> SessionStore:
        return SessionStore(
            backend=settings.store_url, registry=self._registry, clock=self.clock, **settings.store_options
        )

    def bindings(self) -> list[Binding]:
        """Return the binding of each application."""
        return [app.extensions[BINDING] for app in list(self._apps)]

    @property
    def binding(self) -> Binding:
        """The binding of the current application, or of the only one.

        Raises:
            RuntimeError: There is no application, or there are several and none is current.
        """
        if current_app and current_app.extensions.get("silo") is self._silo:
            found: Binding = current_app.extensions[BINDING]
            return found
        bindings = self.bindings()
        if len(bindings) != 1:
            raise RuntimeError(
                "it is unclear which application is meant: call init_app() first, or enter an application context if "
                f"there are several applications; {IN_A_THREAD}"
            )
        return bindings[0]

    @property
    def store(self) -> SessionStore:
        """The store of the current application, or of the only one; before the first is added, the provisional store.

        Raises:
            RuntimeError: There are several applications and none is current.
        """
        if self._apps:
            return self.binding.store
        if self._early is None:
            settings = Settings.collect(self._given, {})
            self._early = settings.store_url, self._make_store(settings)
        return self._early[1]

    def stores(self) -> list[SessionStore]:
        """Return the store of each application; before the first is added, the provisional store."""
        return [binding.store for binding in self.bindings()] or [self.store]

    def has_life(self, uid: str) -> bool:
        """Return whether a living session of any application has this uid."""
        return any(binding.store.has_life(uid) for binding in self.bindings())

    def living(self, uids: Iterable[str]) -> set[str]:
        """Return those of ``uids`` that are present lives of sessions of any application.

        See ``SessionStore.living()``. Each store is asked only for those that no store before it has.
        """
        unknown, living = set(uids), set[str]()
        for binding in self.bindings():
            living |= binding.store.living(unknown - living)
        return living
