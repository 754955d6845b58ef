"""silo-store alone: each backend by its URL, and a backend of this project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from silo_store import (
    Backend,
    CleanupDaemon,
    EndReason,
    LockTimeout,
    Lookup,
    MemoryBackend,
    MsgpackCodec,
    Session,
    SessionConflict,
    SessionStore,
    SiloError,
    open_backend,
)
from silo_store.testing import Clock
from typing_extensions import assert_type


@dataclass
class Cart:
    """The state of a namespace."""

    items: list[str]


URLS = [
    "memory://",
    "memory://?copy=1",
    "sqlite:///sessions.db",
    "redis://localhost:6379/0",
    "rediss://user:password@localhost:6379/0",
]

stores = [SessionStore(backend=url) for url in URLS]
backends: list[Backend] = [open_backend(url) for url in URLS]
given = SessionStore(backend=MemoryBackend(copy=True), codec=MsgpackCodec(), clock=Clock())
store = SessionStore(
    ttl=60,
    cleanup_interval=5.0,
    expired_retain=120,
    backend="sqlite:///sessions.db",
    lock_timeout=1.5,
    touch_interval=None,
    max_state_bytes=1_000_000,
    max_sessions=1000,
)


def log(sid: str, uid: str, reason: EndReason) -> None:
    print(sid[:4], uid, reason)


def is_busy(sid: str, session: dict[str, Any]) -> bool:
    return bool(session.get("busy"))


store.register_namespace("cart", lambda: Cart([]), Cart)
store.register_namespace("tags", set[str])
store.set_busy_check(is_busy)
store.on_create(print)
store.on_expire(lambda sid: print(sid[:4]))
store.on_end(log)


def add(sid: str, item: str) -> Cart | None:
    session = store.get(sid)
    assert_type(session, Session)
    assert_type(session.created, float)
    assert_type(session.uid, str)
    try:
        with store.edit(sid, "cart") as cart:
            cart.items.append(item)
        with store.edit(sid) as whole:
            whole["tags"].add(item)
    except LockTimeout as error:
        print(error.sid[:4])
        return None
    except (SessionConflict, SiloError):
        return None
    change: Callable[[Cart], Cart] = lambda cart: Cart([*cart.items, item])  # noqa: E731
    updated: Cart = store.update(sid, "cart", change)
    return updated


def look(sid: str) -> str:
    found = store.lookup(sid)
    assert_type(found, Lookup)
    if found.status == "live" and found.session is not None:
        return found.session.sid
    with store.hold(sid) as hold:
        assert_type(hold.uid, str)
    assert_type(store.find(sid), Session | None)
    assert_type(store.cleanup(), list[str])
    return store.rotate(sid) if store.is_expired(sid) else store.generate_sid()


daemon = CleanupDaemon(store)
daemon.start()
daemon.stop()
store.close()
