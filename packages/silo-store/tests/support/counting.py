"""Stores whose sessions count."""

from __future__ import annotations

from typing import Any

from silo_store import SessionStore
from silo_store.testing import SID


def open_store(url: str, **options: Any) -> SessionStore:
    """Return a store with a namespace ``counter``."""
    store = SessionStore(backend=url, **options)
    store.register_namespace("counter", lambda: {"value": 0})
    return store


def count(store: SessionStore, sid: str = SID) -> int:
    """Add 1 under the write lock, and return the new number."""
    with store.edit(sid, "counter") as counter:
        counter["value"] += 1
        value: int = counter["value"]
    return value


def value(store: SessionStore, sid: str = SID) -> int:
    """Return the number."""
    found: int = store.get(sid)["counter"]["value"]
    return found
