"""What callers attach to a session lives and dies with it, and the session does not show it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from silo_store import Change, Life, Record, SessionConflict, SessionExpired, SessionStore
from silo_store.testing import SID, TTL, Clock

NAME = "counter"
"""Also the name of a namespace, which has nothing to do with it."""


@pytest.fixture
def url() -> str:
    return "memory://?copy=1"


def kept(store: SessionStore, sid: str = SID) -> Record:
    record = store.attached(sid)
    assert record is not None
    return record


def test_a_session_does_not_show_what_is_kept_with_it(make_store: Callable[..., SessionStore]) -> None:
    store = make_store(max_state_bytes=100)
    session = store.get(SID)
    life, mark = Life(SID, session.uid), b"\xff" * 200
    store.attach(life, NAME, Change(0, mark))
    for opened in (store.get(SID), store.open(SID), store.open(SID, lazy=True), store.peek(SID)):
        assert opened is not None
        assert opened["counter"] == {"value": 0}
        assert opened.origin is not None
        assert opened.origin["counter"].data != mark
    with store.edit(SID) as session:
        session["counter"]["value"] = 7
        store.attach(life, NAME, Change(1, mark + b"!"))
    assert store.get(SID)["counter"] == {"value": 7}
    assert kept(store)[NAME].data == mark + b"!"
    new = store.rotate(SID)
    assert kept(store, new)[NAME].version == 2
    store.reset(new)
    assert NAME not in kept(store, new)


def test_what_is_attached_is_found_by_life_also_where_the_session_was_rotated(store: SessionStore) -> None:
    uid = store.get(SID).uid
    store.attach(Life(SID, uid), NAME, Change(0, b"one"))
    new = store.rotate(SID)

    by_old, by_new = store.attached(SID, uid), store.attached(new)

    assert by_old is not None
    assert by_new is not None
    assert (by_old.sid, by_old[NAME], by_new[NAME]) == (new, (1, b"one"), (1, b"one"))
    assert store.attached(SID) is None
    with pytest.raises(SessionExpired):
        store.attach(Life(SID, uid), NAME, Change(1, b"late"))
    with pytest.raises(SessionConflict):
        store.attach(Life(new, uid), NAME, Change(0, b"stale"))


def test_what_is_attached_is_found_by_id_until_the_session_is_over(store: SessionStore, clock: Clock) -> None:
    uid = store.get(SID).uid
    store.attach(Life(SID, uid), NAME, Change(0, b"one"))
    clock.advance(TTL + 1)

    assert store.attached(SID, uid) is not None, "due, and not swept"
    assert store.attached(SID) is None
    assert store.attached(SID, uid) is None


def test_who_comes_second_does_not_read_it_either(store: SessionStore) -> None:
    second = store.open(SID)
    first = store.get(SID)
    store.attach(Life(SID, first.uid), NAME, Change(0, b"\xff"))
    second["counter"]["value"] = 1
    store.save(SID, second)
    assert kept(store)[NAME].data == b"\xff"
    assert store.get(SID)["counter"] == {"value": 1}
