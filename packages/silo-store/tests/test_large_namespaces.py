"""Large namespaces, which backends keep apart from the record: what happens between reading it and reading them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from silo_store import SessionExpired, SessionStore
from silo_store.testing import SID

TEXT = "x" * 20_000


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "redis":
        url: str = request.getfixturevalue("redis_url")
        return url
    return f"sqlite:///{request.getfixturevalue('tmp_path') / 'sessions.db'}"


@pytest.fixture
def between(make_store: Callable[..., SessionStore], monkeypatch: pytest.MonkeyPatch) -> Callable[..., SessionStore]:
    """Return a function that makes a store with a session, and does something before its large data is next read."""

    def prepare(act: Callable[[SessionStore], object]) -> SessionStore:
        store, other = make_store(), make_store()
        store.update(SID, "notes", lambda _: {"lines": [TEXT]})
        pending = [act]

        def first(real: Callable[..., Any]) -> Callable[..., Any]:
            def read(*args: Any) -> Any:
                if pending:
                    pending.pop()(other)
                return real(*args)

            return read

        for name in ("read", "fetch"):
            monkeypatch.setattr(store.backend, name, first(getattr(store.backend, name)))
        return store

    return prepare


@pytest.mark.parametrize("end", [lambda store: store.destroy(SID), lambda store: store.reset(SID)])
def test_an_id_whose_session_ends_meanwhile_has_fresh_state(
    between: Callable[..., SessionStore], end: Callable[[SessionStore], None]
) -> None:
    asks: tuple[Callable[[SessionStore], Any], ...] = (
        lambda store: store.get(SID)["notes"],
        lambda store: store.open(SID)["notes"],
        lambda store: store.get_namespace(SID, "notes"),
        lambda store: (store.lookup(SID).session or store.begin(SID))["notes"],
        lambda store: (store.find(SID) or store.begin(SID))["notes"],
    )
    for ask in asks:
        assert ask(between(end)) == {"lines": []}


def test_a_session_that_ends_meanwhile_is_not_found(between: Callable[..., SessionStore]) -> None:
    assert between(lambda store: store.destroy(SID)).find(SID) is None
    assert between(lambda store: store.destroy(SID)).lookup(SID) == ("unknown", None)
    assert between(lambda store: store.expire(SID)).lookup(SID) == ("expired", None)


def test_a_life_that_ends_meanwhile_is_refused(between: Callable[..., SessionStore]) -> None:
    store = between(lambda store: store.destroy(SID))
    with pytest.raises(SessionExpired):
        store.open(SID, store.uid(SID))


def test_a_session_that_is_rotated_meanwhile_is_still_read(between: Callable[..., SessionStore]) -> None:
    assert between(lambda store: store.rotate(SID)).get(SID)["notes"] == {"lines": [TEXT]}


def test_a_session_that_ends_meanwhile_is_not_busy(between: Callable[..., SessionStore]) -> None:
    store = between(lambda store: store.destroy(SID))
    store.set_busy_check(lambda _sid, session: bool(session["notes"]["lines"]))
    store.reset(SID)
    assert not store.exists(SID)


@pytest.mark.parametrize("late", [True, False])
def test_threads_that_fetch_a_namespace_at_two_moments_agree(
    make_store: Callable[..., SessionStore], monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """The second thread fetches what another process has written in between, before or after the first has its data."""
    store, other = make_store(), make_store()
    store.update(SID, "notes", lambda _: {"lines": [TEXT]})
    session = store.open(SID, lazy=True)
    fetch, calls = store.backend.fetch, []

    def fetch_twice(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > 1:
            return fetch(*args)
        found = None if late else fetch(*args)
        if late:
            session["notes"]
        other.update(SID, "notes", lambda _: {"lines": [TEXT, "new"]})
        if not late:
            session["notes"]
        return found or fetch(*args)

    monkeypatch.setattr(store.backend, "fetch", fetch_twice)
    assert session["notes"] is session["notes"]
    assert len(calls) == 2
    assert store.changed(session) == []
    store.save(SID, session)
    assert other.get(SID)["notes"] == {"lines": [TEXT, "new"]}


def test_a_large_namespace_is_replaced_without_reading_it(
    make_store: Callable[..., SessionStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    store.update(SID, "notes", lambda _: {"lines": [TEXT]})
    fetched: list[Any] = []
    monkeypatch.setattr(store.backend, "fetch", lambda *args: fetched.append(args))
    with store.edit(SID, lazy=True) as session:
        session["notes"] = {"lines": ["new"]}
        assert store.changed(session) == ["notes"]
    assert fetched == []
    monkeypatch.undo()
    assert store.get(SID)["notes"] == {"lines": ["new"]}
