"""What a session finds by name: ``[]``, ``in`` and ``get`` agree, however the caller got the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from silo_store import (
    Blob,
    Change,
    Life,
    NamespaceError,
    Session,
    SessionBusy,
    SessionStore,
    StateDecodeError,
)
from silo_store.testing import SID, TTL, Clock

Way = Callable[[SessionStore], AbstractContextManager[Session | None]]

NAMES = ("_meta", "counter", "notes")


@contextmanager
def under_lock(store: SessionStore) -> Iterator[Session]:
    with store.lock(SID) as lock:
        lock.take(1.0)
        yield store.open(SID, lock=lock, lazy=True)


@contextmanager
def nested(store: SessionStore) -> Iterator[Session]:
    with store.edit(SID, lazy=True), store.edit(SID, lazy=True) as session:
        yield session


@contextmanager
def given(session: Session | None) -> Iterator[Session | None]:
    yield session


ANY: dict[str, Way] = {
    "get": lambda store: given(store.get(SID)),
    "open": lambda store: given(store.open(SID)),
    "open lazily": lambda store: given(store.open(SID, lazy=True)),
    "open lazily under the lock": under_lock,
    "edit": lambda store: store.edit(SID),
    "edit lazily": lambda store: store.edit(SID, lazy=True),
    "nested edits": nested,
    "saved": lambda store: given(store.save(SID, store.open(SID, lazy=True))),
    "completed": lambda store: given(store.whole(store.open(SID, lazy=True))),
}
LIVING: dict[str, Way] = {
    **ANY,
    "find": lambda store: given(store.find(SID)),
    "find lazily": lambda store: given(store.find(SID, lazy=True)),
    "peek": lambda store: given(store.peek(SID)),
}


def check_all_are_found(session: Session | None) -> None:
    assert session is not None
    assert [name for name in NAMES if name not in session] == [], "before anything was read"
    assert [name for name in NAMES if session.get(name) is None] == []
    assert [name for name in NAMES if session.get(name) != session[name]] == []
    check_meta(session)


def check_meta(session: dict[str, object]) -> None:
    meta = session["_meta"]
    assert isinstance(meta, dict)
    assert meta["sid"] == SID
    assert isinstance(meta["created_at"], float)
    assert isinstance(meta["last_active"], float)
    assert "_meta" not in list(session)


def check_nothing_is_found(session: Session | None, name: str) -> None:
    assert session is not None
    assert name not in session
    assert session.get(name) is None
    assert session.get(name, 5) == 5
    with pytest.raises(NamespaceError):
        session[name]
    assert name not in session


@pytest.mark.parametrize("way", ANY.values(), ids=ANY)
def test_a_session_that_begins_has_all_names(store: SessionStore, way: Way) -> None:
    with way(store) as session:
        check_all_are_found(session)


@pytest.mark.parametrize("way", LIVING.values(), ids=LIVING)
def test_a_session_that_lives_has_all_names(store: SessionStore, way: Way) -> None:
    store.get(SID)
    with way(store) as session:
        check_all_are_found(session)


@pytest.mark.parametrize("name", ["typo", ""])
@pytest.mark.parametrize("way", LIVING.values(), ids=LIVING)
def test_what_is_no_namespace_is_not_found(store: SessionStore, way: Way, name: str) -> None:
    store.get(SID)
    with way(store) as session:
        check_nothing_is_found(session, name)


@pytest.mark.parametrize("way", ANY.values(), ids=ANY)
def test_a_namespace_registered_late_is_found(store: SessionStore, way: Way) -> None:
    store.get(SID)
    store.register_namespace("late", lambda: [1])
    with way(store) as session:
        assert session is not None
        assert "late" in session
        assert session.get("late") == session["late"] == [1]


def test_a_look_at_what_is_stored_finds_no_namespace_that_is_not(store: SessionStore) -> None:
    store.get(SID)
    store.register_namespace("late", lambda: [1])
    session = store.peek(SID)
    check_nothing_is_found(session, "late")
    check_all_are_found(session)


def test_a_busy_check_finds_what_it_found_in_0_1(store: SessionStore, clock: Clock) -> None:
    asked: list[str] = []

    def is_busy(sid: str, session: dict[str, object]) -> bool:
        assert [name for name in NAMES if name not in session or session.get(name) is None] == []
        check_meta(session)
        asked.append(sid)
        return True

    store.get(SID)
    store.set_busy_check(is_busy)
    with pytest.raises(SessionBusy):
        store.reset(SID)
    assert asked == [SID], "what a predicate raises counts as busy"
    clock.advance(TTL + 1)
    assert store.cleanup() == []
    assert asked[1:] == [SID] * len(asked[1:]) != []


def test_what_is_stored_and_no_longer_registered_is_found(store: SessionStore) -> None:
    with store.edit(SID) as session:
        session["old"] = {"kept": True}
    for way in ("open lazily", "open", "peek"):
        with LIVING[way](store) as session:
            assert session is not None
            assert "old" in session
            assert session.get("old") == session["old"] == {"kept": True}


@pytest.mark.parametrize("way", ANY.values(), ids=ANY)
def test_a_default_is_set_only_where_nothing_is_found(store: SessionStore, way: Way) -> None:
    store.update(SID, "counter", lambda counter: counter.update(value=7))
    with way(store) as session:
        assert session is not None
        assert session.setdefault("counter", {"value": 0}) == {"value": 7}
        assert session["counter"] == {"value": 7}
        assert session.setdefault("more", [1]) == session["more"] == [1]


@pytest.mark.parametrize("url", ["memory://?copy=1"])
def test_in_decodes_nothing_and_calls_no_factory(make_store: Callable[..., SessionStore]) -> None:
    store = make_store()
    calls: list[str] = []
    life = Life(SID, store.get(SID).uid)
    record = store.backend.peek(SID)
    assert record is not None
    blob: Blob = record["counter"]
    store.backend.write(life, {"counter": Change(blob.version, b"\xc1")}, store.moment())
    store.register_namespace("late", lambda: calls.append("made"))
    session = store.open(SID, lazy=True)
    assert "counter" in session
    assert "late" in session
    assert calls == []
    with pytest.raises(StateDecodeError):
        session.get("counter")


def test_no_namespace_is_called_meta(store: SessionStore) -> None:
    with pytest.raises(ValueError, match="_meta"):
        store.register_namespace("_meta", dict)
