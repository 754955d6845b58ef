"""``max_sessions``: never more sessions than the limit, and no living session ends for another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from children import Child
from silo_store import Life, SessionStore, TooManySessions
from silo_store.backends.redis import RedisBackend
from silo_store.testing import SID, TTL, Clock, in_threads

pytestmark = pytest.mark.slow

Make = Callable[..., SessionStore]

OTHER, THIRD = "b" * 32, "c" * 32


def begin(store: SessionStore, sid: str) -> None:
    with store.edit(sid, "counter") as counter:
        counter["value"] += 1


def is_refused(store: SessionStore, sid: str) -> bool:
    try:
        begin(store, sid)
    except TooManySessions:
        return True
    return False


def test_a_session_beyond_the_limit_does_not_begin_and_those_that_live_go_on(make_store: Make) -> None:
    store = make_store(max_sessions=2)
    created: list[str] = []
    store.on_create(created.append)
    begin(store, SID)
    begin(store, OTHER)
    with pytest.raises(TooManySessions, match=r"2 already.*max_sessions") as refused:
        begin(store, THIRD)
    assert refused.value.limit == 2
    for ask in (store.get, store.reset, store.destroy, store.touch, store.find):
        with contextlib.suppress(TooManySessions):
            ask(THIRD)
    assert not store.exists(THIRD)
    begin(store, SID)
    assert store.get(SID)["counter"] == {"value": 2}
    assert store.get(OTHER)["counter"] == {"value": 1}
    moved = store.rotate(OTHER)
    store.reset(SID)
    assert store.get(moved)["counter"] == {"value": 1}
    assert store.get(SID)["counter"] == {"value": 0}
    assert (store.active_count, created) == (2, [SID, OTHER])
    assert is_refused(store, THIRD)
    store.destroy(moved)
    begin(store, THIRD)
    assert is_refused(store, OTHER)


def test_the_limit_can_be_changed_and_taken_away(make_store: Make) -> None:
    store = make_store(max_sessions=0)
    assert is_refused(store, SID)
    store.max_sessions = 1
    begin(store, SID)
    store.max_sessions = None
    begin(store, OTHER)
    store.max_sessions = 1
    begin(store, SID)
    assert is_refused(store, THIRD)


def test_what_is_due_makes_room_before_one_more_is_refused(make_store: Make, clock: Clock) -> None:
    store = make_store(max_sessions=3)
    ended: list[str] = []
    store.on_end(lambda sid, _uid, _reason: ended.append(sid))
    for sid in (SID, OTHER, THIRD):
        begin(store, sid)
    clock.advance(TTL / 2)
    begin(store, OTHER)
    hold = store.hold(THIRD)
    clock.advance(TTL / 2 + 1)
    begin(store, "d" * 32)
    assert is_refused(store, "e" * 32), "of the others, one was used and one is held"
    assert store.is_expired(SID)
    assert [store.exists(sid) for sid in (OTHER, THIRD)] == [True, True]
    assert ended == [], "callbacks are for the thread that sweeps"
    assert store.cleanup() == ended == [SID]
    assert is_refused(store, SID), "an expired id that begins again is one more"
    hold.release()
    clock.advance(TTL / 2 + 1)
    begin(store, SID)
    assert not store.is_expired(SID)


def test_an_expired_id_takes_the_place_that_it_had(make_store: Make, clock: Clock) -> None:
    store = make_store(max_sessions=1)
    begin(store, SID)
    clock.advance(TTL + 1)
    begin(store, SID)
    assert store.get(SID)["counter"] == {"value": 1}
    assert is_refused(store, OTHER)


def test_a_busy_session_keeps_its_place(make_store: Make, clock: Clock) -> None:
    store = make_store(max_sessions=1)
    begin(store, SID)
    busy = [True]
    store.set_busy_check(lambda _sid, _session: busy[0])
    clock.advance(TTL + 1)
    assert is_refused(store, OTHER)
    busy.clear()
    busy.append(False)
    clock.advance(TTL + 1)
    begin(store, OTHER)
    assert not store.exists(SID)


def test_there_is_room_as_soon_as_all_are_due_however_many_come(make_store: Make, clock: Clock) -> None:
    store = make_store(max_sessions=8)
    for number in range(8):
        begin(store, f"old-{number}")
    clock.advance(TTL + 1)
    assert not any(in_threads(8, lambda number: is_refused(store, f"new-{number}")))
    assert store.active_count == 8
    assert is_refused(store, SID)


def test_a_sweep_that_is_under_way_keeps_no_place(make_store: Make, clock: Clock) -> None:
    store = make_store(max_sessions=2)
    begin(store, SID)
    begin(store, OTHER)
    clock.advance(TTL + 1)
    sweep: Iterator[list[Life]] = store.backend.due(store.moment())
    found = next(sweep)
    begin(store, THIRD)
    found += [life for lives in sweep for life in lives]
    assert sorted(life.sid for life in found) == [SID, OTHER]
    store.backend.expire(found, store.moment())
    assert store.active_count == 1
    assert sorted(store.cleanup()) == [SID, OTHER]


def test_threads_that_begin_one_session_at_the_limit_all_get_it(make_store: Make) -> None:
    store = make_store(max_sessions=1)
    sessions = in_threads(8, lambda _: store.get(SID))
    for session in sessions:
        store.ensure(session)
    assert {store.uid(SID)} == {session.uid for session in sessions}
    begin(store, SID)
    assert is_refused(store, OTHER)


RACE = """
url, name, limit = sys.argv[1:]
store = open_store(url, max_sessions=int(limit))
say("ready")
hear()
begun = 0
for number in range(40):
    try:
        with store.edit(f"{name}-{number}", "counter") as counter:
            counter["value"] += 1
        begun += 1
    except TooManySessions:
        pass
say(begun)
"""


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
def test_processes_that_race_begin_as_many_as_there_may_be(url: str) -> None:
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(RACE, url, name, 50)) for name in "abcd"]
        assert [child.hear() for child in children] == ["ready"] * 4
        for child in children:
            child.tell()
        assert sum(int(child.hear()) for child in children) == 50
    store = SessionStore(backend=url, max_sessions=50)
    assert (store.active_count, len(store.all_sids)) == (50, 50)
    with pytest.raises(TooManySessions):
        store.ensure(store.get(SID))
    store.close()


def test_a_record_that_redis_has_dropped_takes_no_place(redis_url: str, clock: Clock) -> None:
    backend = RedisBackend(redis_url)
    store = SessionStore(backend=backend, ttl=TTL, clock=clock, max_sessions=2)
    store.register_namespace("counter", lambda: {"value": 0})
    begin(store, SID)
    begin(store, OTHER)
    store.rotate(OTHER)
    for key in backend._server.command("KEYS", backend._keys.record + "*"):
        backend._server.command("DEL", key)  # as at the end of the time that the server keeps one
    clock.advance(TTL + 10)
    begin(store, THIRD)
    assert store.active_count == 1
    store.close()


def test_prefixes_of_one_server_are_counted_apart(redis_url: str) -> None:
    stores = [SessionStore(backend=f"{redis_url}?prefix={name}", max_sessions=1) for name in ("one", "two")]
    for store in stores:
        store.register_namespace("counter", lambda: {"value": 0})
        begin(store, SID)
        assert is_refused(store, OTHER)
        store.close()
