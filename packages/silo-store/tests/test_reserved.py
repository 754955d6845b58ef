"""Names under which others keep something with a session."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from silo_store import Change, Life, Record, SessionStore
from silo_store.record import ATTACHED
from silo_store.testing import SID

NAME = f"{ATTACHED}job"


@pytest.fixture
def url() -> str:
    return "memory://?copy=1"


def kept(store: SessionStore) -> Record:
    record = store.backend.peek(SID)
    assert record is not None
    return record


def test_no_namespace_has_a_reserved_name(store: SessionStore) -> None:
    with pytest.raises(ValueError, match="begins with _task:"):
        store.register_namespace(NAME, dict)


def test_a_session_does_not_show_what_is_kept_with_it(make_store: Callable[..., SessionStore]) -> None:
    store = make_store(max_state_bytes=100)
    session = store.get(SID)
    life, mark = Life(SID, session.uid), b"\xff" * 200
    store.backend.write(life, {NAME: Change(0, mark)}, store.moment())
    for opened in (store.get(SID), store.open(SID), store.open(SID, lazy=True), store.peek(SID)):
        assert opened is not None
        assert NAME not in opened
        assert opened.get(NAME) is None
        assert opened.origin is not None
        assert opened.origin[NAME].data == mark
    with store.edit(SID) as session:
        session["counter"]["value"] = 7
        store.backend.write(life, {NAME: Change(1, mark + b"!")}, store.moment())
    assert store.get(SID)["counter"] == {"value": 7}
    assert kept(store)[NAME].data == mark + b"!"
    new = store.rotate(SID)
    moved = store.backend.peek(new)
    assert moved is not None
    assert moved[NAME].version == 2
    store.reset(new)
    assert NAME not in (store.backend.peek(new) or {})


def test_who_comes_second_does_not_read_it_either(store: SessionStore) -> None:
    second = store.open(SID)
    first = store.get(SID)
    store.backend.write(Life(SID, first.uid), {NAME: Change(0, b"\xff")}, store.moment())
    second["counter"]["value"] = 1
    store.save(SID, second)
    assert kept(store)[NAME].data == b"\xff"
    assert NAME not in second
