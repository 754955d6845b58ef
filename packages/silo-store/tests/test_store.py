"""What a session is: how it begins, is read, written, and ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from silo_store import (
    InvalidSessionId,
    NamespaceError,
    SessionBusy,
    SessionConflict,
    SessionExpired,
    SessionStore,
    StateEncodeError,
    StoreUnavailable,
    short,
)
from silo_store.testing import SID, TTL, Clock

Make = Callable[..., SessionStore]


def test_a_session_begins_with_fresh_state_of_every_namespace(store: SessionStore) -> None:
    session = store.get(SID)
    assert session == {"counter": {"value": 0}, "notes": {"lines": []}}
    assert store.get("b" * 32)["counter"] is not session["counter"]
    assert (store.active_count, sorted(store.all_sids)) == (2, [SID, "b" * 32])


def test_meta_is_as_release_0_1_had_it(store: SessionStore, clock: Clock) -> None:
    store.get(SID)
    began = clock.now
    clock.advance(5)
    assert store.get(SID)["_meta"] == {"created_at": began, "last_active": clock.now, "sid": SID}


def test_what_is_saved_is_read(store: SessionStore) -> None:
    session = store.get(SID)
    session["counter"]["value"] = 5
    store.save(SID, session)
    assert store.get_namespace(SID, "counter") == {"value": 5}


def test_a_foreign_mapping_replaces_what_it_names(store: SessionStore) -> None:
    with store.edit(SID, "notes") as notes:
        notes["lines"].append("kept")
    store.save(SID, {"counter": {"value": 9}, "_meta": {"sid": "ignored"}})
    assert store.get(SID) == {"counter": {"value": 9}, "notes": {"lines": ["kept"]}}


def test_a_namespace_registered_late_reaches_sessions_that_exist(store: SessionStore) -> None:
    store.get(SID)
    store.register_namespace("late", lambda: [1])
    assert store.get(SID)["late"] == [1]
    assert store.get_namespace(SID, "late") == [1]


def test_an_unknown_namespace_is_named(store: SessionStore) -> None:
    uses: list[Callable[[], object]] = [
        lambda: store.get_namespace(SID, "typo"),
        lambda: store.edit(SID, "typo").__enter__(),
        lambda: store.update(SID, "typo", list),
    ]
    for use in uses:
        with pytest.raises(NamespaceError, match="'typo' is not registered") as caught:
            use()
        assert caught.value.namespace == "typo"
        assert isinstance(caught.value, KeyError)


def test_update_keeps_what_the_change_returns_or_did_in_place(store: SessionStore) -> None:
    assert store.update(SID, "counter", lambda state: {"value": state["value"] + 1}) == {"value": 1}
    assert store.update(SID, "counter", lambda state: state.update(value=7)) == {"value": 7}
    assert store.get(SID)["counter"] == {"value": 7}


def test_an_update_that_takes_long_is_recorded_at_its_end(store: SessionStore, clock: Clock) -> None:
    def change(state: dict[str, Any]) -> None:
        clock.advance(TTL / 2)
        state["value"] += 1

    store.update(SID, "counter", change)

    clock.advance(TTL - 1)
    assert store.exists(SID)
    assert store.get_namespace(SID, "counter") == {"value": 1}


def test_a_moment_stands_for_later_ones_within_the_touch_interval(make_store: Make, clock: Clock) -> None:
    store = make_store(touch_interval=5.0)
    first = store.moment()

    clock.advance(5)
    assert store.moment(first) is first
    clock.advance(0.1)
    assert store.moment(first).now == clock.now
    clock.advance(-6)
    assert store.moment(first).now == clock.now


def test_a_session_lives_to_its_last_moment_and_not_beyond(store: SessionStore, clock: Clock) -> None:
    store.get(SID)
    clock.advance(TTL)
    assert store.exists(SID)
    assert not store.is_expired(SID)
    clock.advance(0.001)
    assert not store.exists(SID)
    assert store.is_expired(SID)


def test_reading_renews_and_looking_does_not(store: SessionStore, clock: Clock) -> None:
    store.get(SID)
    clock.advance(TTL)
    store.exists(SID)
    store.is_expired(SID)
    store.uid(SID)
    store.get(SID)
    clock.advance(TTL)
    store.touch(SID)
    clock.advance(TTL)
    assert store.exists(SID)
    store.exists(SID)
    clock.advance(0.001)
    assert not store.exists(SID)


def test_an_expired_session_comes_back_empty_with_another_uid(store: SessionStore, clock: Clock) -> None:
    with store.edit(SID, "counter") as counter:
        counter["value"] = 1
    uid = store.uid(SID)
    clock.advance(TTL + 1)
    assert store.uid(SID) is None
    assert store.get(SID)["counter"] == {"value": 0}
    assert store.uid(SID) not in (None, uid)
    assert not store.is_expired(SID)


def test_an_edit_that_comes_too_late_begins_anew(store: SessionStore, clock: Clock) -> None:
    store.update(SID, "counter", lambda state: state.update(value=1))
    clock.advance(TTL + 1)
    assert store.update(SID, "counter", lambda state: state.update(value=state["value"] + 10)) == {"value": 10}
    assert store.cleanup() == [SID]


def test_an_expired_id_is_remembered_for_its_time(store: SessionStore, clock: Clock) -> None:
    store.get(SID)
    clock.advance(TTL + 1)
    store.cleanup()
    assert store.expired_count == 1
    clock.advance(100)
    assert store.is_expired(SID)
    clock.advance(0.001)
    assert not store.is_expired(SID)
    store.cleanup()
    assert store.expired_count == 0


def test_cleanup_ends_what_is_due_only(store: SessionStore, clock: Clock) -> None:
    store.get(SID)
    clock.advance(TTL)
    store.get("b" * 32)
    assert store.cleanup() == []
    clock.advance(1)
    assert store.cleanup() == [SID]
    assert store.cleanup() == []
    assert store.all_sids == ["b" * 32]


def test_what_is_saved_too_late_revives_no_session(store: SessionStore, clock: Clock) -> None:
    store.update(SID, "counter", lambda state: state.update(value=1))
    late = store.open(SID)
    clock.advance(TTL + 1)
    late["counter"]["value"] = 2
    with pytest.raises(SessionExpired):
        store.save(SID, late)
    assert not store.exists(SID)
    assert store.cleanup() == [SID]


def test_what_was_read_long_ago_is_saved_if_the_session_was_used_since(store: SessionStore, clock: Clock) -> None:
    early = store.open(SID)
    store.ensure(early)
    for _ in range(2):
        clock.advance(TTL - 1)
        store.get(SID)
    early["counter"]["value"] = 2
    store.save(SID, early)
    assert store.get(SID)["counter"] == {"value": 2}


def test_what_was_told_is_not_told_again_because_it_could_not_be_noted(
    store: SessionStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    store.on_expire(told.append)
    store.get(SID)
    clock.advance(TTL + 1)

    def fail(_lives: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(store.backend, "settle", fail)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                store.cleanup()
    assert store.cleanup() == [SID]
    assert told == [SID]
    assert store.cleanup() == []


def test_expiry_noticed_by_a_reader_is_told_by_the_next_sweep_once(store: SessionStore, clock: Clock) -> None:
    told: list[str] = []
    ends: list[tuple[str, str, str]] = []
    store.on_expire(told.append)
    store.on_end(lambda *end: ends.append(end))
    uid = store.get(SID).uid
    clock.advance(TTL + 1)
    store.get(SID)
    assert told == []
    assert store.cleanup() == [SID]
    store.cleanup()
    assert (told, ends) == ([SID], [(SID, uid, "expired")])
    assert store.exists(SID), "the next life of the id is not touched"


def test_what_a_callback_writes_into_a_new_session_is_kept(store: SessionStore) -> None:
    """However the session begins: with a read, with an edit, or with an edit that the callback is a part of."""
    sids = [letter * 32 for letter in "abcd"]
    store.on_create(lambda sid: store.update(sid, "notes", lambda notes: notes["lines"].append("welcome")))
    store.get(sids[0])
    store.update(sids[1], "counter", lambda state: state.update(value=1))
    with store.edit(sids[2]) as session:
        session["counter"]["value"] = 1
    with store.edit(sids[3], "notes") as notes:
        notes["lines"].append("first")
    assert [store.get(sid)["counter"]["value"] for sid in sids] == [0, 1, 1, 0]
    assert [sorted(store.get(sid)["notes"]["lines"]) for sid in sids] == [["welcome"]] * 3 + [["first", "welcome"]]
    assert store.update(sids[1], "counter", lambda _: {"value": 2}) == {"value": 2}


def test_reset_begins_the_next_life(store: SessionStore) -> None:
    created: list[str] = []
    ends: list[tuple[str, str, str]] = []
    store.on_create(created.append)
    store.on_end(lambda *end: ends.append(end))
    store.update(SID, "counter", lambda state: state.update(value=3))
    uid = store.uid(SID)
    store.reset(SID)
    assert store.exists(SID)
    assert store.get(SID)["counter"] == {"value": 0}
    assert store.uid(SID) != uid
    assert (created, ends) == ([SID], [(SID, uid, "reset")])
    store.reset("b" * 32)
    assert not store.exists("b" * 32)


def test_destroy_leaves_nothing(store: SessionStore) -> None:
    ends: list[tuple[str, str, str]] = []
    store.on_end(lambda *end: ends.append(end))
    uid = store.get(SID).uid
    store.destroy(SID)
    store.destroy(SID)
    assert not store.exists(SID)
    assert not store.is_expired(SID)
    assert ends == [(SID, uid, "destroyed")]


def test_rotate_moves_the_session_with_its_uid(store: SessionStore) -> None:
    store.update(SID, "counter", lambda state: state.update(value=3))
    uid = store.uid(SID)
    new = store.rotate(SID)
    assert new != SID
    assert not store.exists(SID)
    assert (store.uid(new), store.get(new)["counter"], store.get(new).sid) == (uid, {"value": 3}, new)
    with pytest.raises(SessionExpired):
        store.rotate(SID)


def test_rotating_inside_an_edit_keeps_the_edit(store: SessionStore) -> None:
    with store.edit(SID, "counter") as counter:
        counter["value"] = 1
        new = store.rotate(SID)
        counter["value"] += 1
        with store.edit(new, "counter") as again:
            again["value"] += 1
    assert store.get(new)["counter"] == {"value": 3}


def test_a_busy_session_is_kept_and_cannot_be_reset(store: SessionStore, clock: Clock) -> None:
    busy = True
    store.set_busy_check(lambda sid, session: busy and session["counter"]["value"] == 1)
    store.update(SID, "counter", lambda state: state.update(value=1))
    clock.advance(TTL + 1)
    assert store.cleanup() == []
    with pytest.raises(SessionBusy) as caught:
        store.reset(SID)
    assert caught.value.sid == SID
    clock.advance(TTL + 1)
    assert store.exists(SID)
    busy = False
    clock.advance(TTL)
    assert store.exists(SID), "it has its whole time left after it was seen busy"
    clock.advance(1)
    assert store.cleanup() == [SID]


def test_a_busy_check_that_raises_keeps_the_session(
    store: SessionStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store.set_busy_check(lambda sid, session: 1 / 0)
    store.get(SID)
    clock.advance(TTL + 1)
    assert store.cleanup() == []
    assert "busy check failed" in caplog.text
    assert SID not in caplog.text


def test_a_held_session_does_not_expire_and_then_has_its_whole_time(store: SessionStore, clock: Clock) -> None:
    store.get(SID)
    with store.hold(SID) as hold:
        clock.advance(10 * TTL)
        assert store.exists(SID)
        clock.advance(10 * TTL)
        assert store.cleanup() == []
    hold.release()
    clock.advance(TTL)
    assert store.exists(SID)
    clock.advance(1)
    assert not store.exists(SID)
    with pytest.raises(SessionExpired):
        store.hold(SID)


def test_a_released_hold_does_not_renew_the_next_life(store: SessionStore, clock: Clock) -> None:
    store.get(SID)
    hold = store.hold(SID)
    store.reset(SID)
    clock.advance(TTL)
    hold.release()
    clock.advance(1)
    assert not store.exists(SID)


def test_a_hold_does_not_reach_the_next_life(store: SessionStore, clock: Clock) -> None:
    store.get(SID)
    with store.hold(SID):
        store.reset(SID)
        clock.advance(TTL + 1)
        assert not store.exists(SID)


def test_a_late_writer_never_revives_a_session(store: SessionStore, clock: Clock) -> None:
    for end in (store.reset, store.destroy, lambda sid: clock.advance(TTL + 1)):
        session = store.get(SID)
        uid = session.uid
        session["counter"]["value"] = 99
        end(SID)
        store.exists(SID)
        with pytest.raises(SessionExpired):
            store.save(SID, session)
        with pytest.raises(SessionExpired), store.edit(SID, uid=uid):
            pass
        assert store.get(SID)["counter"] == {"value": 0}


def test_of_two_stale_copies_the_second_is_refused(make_store: Make) -> None:
    store = make_store(backend="memory://?copy=1")
    store.get(SID)
    first, second, other = store.get(SID), store.get(SID), store.get(SID)
    first["counter"]["value"] = 1
    store.save(SID, first)
    second["counter"]["value"] = 2
    second["notes"]["lines"].append("lost too")
    with pytest.raises(SessionConflict):
        store.save(SID, second)
    other["notes"]["lines"].append("another namespace")
    store.save(SID, other)
    assert store.get(SID) == {"counter": {"value": 1}, "notes": {"lines": ["another namespace"]}}
    first["counter"]["value"] = 3
    store.save(SID, first)


def test_two_that_begin_a_session_at_once_do_not_conflict_by_that(make_store: Make) -> None:
    store = make_store(backend="memory://?copy=1")
    first, second, third = store.open(SID), store.open(SID), store.open(SID)
    assert not store.exists(SID)
    first["counter"]["value"] = 1
    store.save(SID, first)
    store.save(SID, second)
    assert store.get(SID)["counter"] == {"value": 1}
    third["notes"]["lines"].append("mine")
    store.save(SID, third)
    assert store.get(SID) == {"counter": {"value": 1}, "notes": {"lines": ["mine"]}}
    assert first.uid == second.uid == third.uid == store.uid(SID)


def test_of_two_that_begin_a_session_and_change_the_same_the_second_is_refused(make_store: Make) -> None:
    store = make_store(backend="memory://?copy=1")
    first, second = store.open(SID), store.open(SID)
    first["counter"]["value"] = 1
    second["counter"]["value"] = 5
    store.save(SID, first)
    with pytest.raises(SessionConflict):
        store.save(SID, second)
    assert store.get(SID)["counter"] == {"value": 1}


def test_who_began_a_session_second_writes_nothing_that_it_did_not_change(make_store: Make) -> None:
    store = make_store(backend="memory://?copy=1")
    second = store.open(SID)
    store.update(SID, "counter", lambda state: state.update(value=5))
    second["notes"]["lines"].append("x")
    store.save(SID, second)
    assert second["counter"] == {"value": 5}
    store.save(SID, second)
    assert store.get(SID) == {"counter": {"value": 5}, "notes": {"lines": ["x"]}}
    store.update(SID, "counter", lambda state: state.update(value=6))
    second["counter"]["value"] = 7
    with pytest.raises(SessionConflict):
        store.save(SID, second)


def test_ensuring_a_session_saves_none_of_its_changes(store: SessionStore, url: str) -> None:
    session = store.open(SID)
    session["counter"]["value"] = 5
    store.ensure(session)
    assert store.uid(SID) == session.uid != ""
    if url != "memory://":
        assert store.get(SID)["counter"] == {"value": 0}
        store.save(SID, session)
    assert store.get(SID)["counter"] == {"value": 5}


def test_a_session_destroyed_or_reset_in_an_edit_stays_so(store: SessionStore) -> None:
    for begun in (False, True):
        if begun:
            store.get(SID)
        with store.edit(SID, "counter") as counter:
            counter["value"] = 5
            store.destroy(SID)
        assert not store.exists(SID)
    store.get(SID)
    with store.edit(SID, "counter") as counter:
        counter["value"] = 5
        store.reset(SID)
    assert store.get(SID)["counter"] == {"value": 0}


def test_a_hold_follows_a_rotation(store: SessionStore, clock: Clock) -> None:
    uid = store.get(SID).uid
    with store.hold(SID) as hold:
        new = store.rotate(SID)
        assert (hold.sid, hold.sids) == (new, {SID, new})
        with store.edit(SID, "counter", uid=uid) as counter:
            counter["value"] = 1
        clock.advance(TTL + 1)
    clock.advance(TTL)
    assert store.get(new)["counter"] == {"value": 1}
    assert not store.exists(SID)


def test_a_new_session_asks_each_factory_once(store: SessionStore) -> None:
    asked: list[str] = []

    def make() -> dict[str, int]:
        asked.append("new")
        return {}

    store.register_namespace("new", make)
    store.get(SID)
    store.get(SID)
    assert asked == ["new"]


def test_peeking_renews_nothing_and_runs_no_factory(store: SessionStore, clock: Clock) -> None:
    assert store.peek(SID) is None
    store.get(SID)
    clock.advance(TTL + 1)
    store.register_namespace("late", list)
    for _ in range(2):
        seen = store.peek(SID)
        assert seen is not None
        assert seen == {"counter": {"value": 0}, "notes": {"lines": []}}
        assert seen.active == clock.now - TTL - 1
    assert store.active_count == 1
    with pytest.raises(InvalidSessionId):
        store.peek("no id")


def test_a_session_can_be_expired_before_its_time(store: SessionStore, clock: Clock) -> None:
    told: list[tuple[str, ...]] = []
    store.on_expire(lambda sid: told.append((sid,)))
    store.on_end(lambda *each: told.append(each))
    assert not store.expire(SID)
    uid = store.get(SID).uid
    other = store.get("b" * 32).uid
    assert store.expire(SID)
    assert told == [(SID, uid, "expired"), (SID,)]
    assert (store.exists(SID), store.is_expired(SID), store.uid("b" * 32)) == (False, True, other)
    assert not store.expire(SID)
    clock.advance(101)
    assert not store.is_expired(SID), "it is remembered as any other"
    assert store.get(SID).uid != uid
    with pytest.raises(InvalidSessionId):
        store.expire("no id")


def test_what_is_held_busy_or_written_is_not_expired_before_its_time(store: SessionStore, clock: Clock) -> None:
    uid = store.get(SID).uid
    with store.hold(SID):
        assert not store.expire(SID)
    with store.edit(SID):
        assert not store.expire(SID)
    store.set_busy_check(lambda sid, session: True)
    assert not store.expire(SID)
    clock.advance(TTL)
    assert store.uid(SID) == uid
    store.set_busy_check(lambda sid, session: False)
    assert store.expire(SID)


def test_a_block_that_raises_saves_nothing_where_copies_are_kept(make_store: Make) -> None:
    store = make_store(backend="memory://?copy=1")

    def fail() -> None:
        with store.edit(SID, "counter") as counter:
            counter["value"] = 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.get(SID)["counter"] == {"value": 0}


def test_what_cannot_be_stored_is_named_before_anything_is_written(make_store: Make) -> None:
    store = make_store(backend="memory://?copy=1")
    session = store.get(SID)
    session["counter"]["value"] = 1
    session["notes"]["lines"].append(object())
    with pytest.raises(StateEncodeError, match=r"notes\['lines'\]\[0\] \(object\) cannot be stored") as caught:
        store.save(SID, session)
    assert SID not in str(caught.value)
    assert short(SID) in str(caught.value)
    assert store.get(SID)["counter"] == {"value": 0}


def test_live_state_can_hold_anything(make_store: Make) -> None:
    store = make_store(backend="memory://")
    thing = object()
    with store.edit(SID, "notes") as notes:
        notes["lines"].append(thing)
    assert store.get(SID)["notes"]["lines"][0] is thing


@pytest.mark.parametrize(
    "bad", ["", " ", "a b", "a/b", "a.b", "é" * 20, "a" * 129, "a\n", "a\x00", None, 7, b"bytes", ["x"]]
)
def test_what_is_no_id_is_refused_and_not_repeated(store: SessionStore, bad: Any) -> None:
    for use in (store.get, store.open, store.reset, store.destroy, store.rotate, store.hold, store.lock):
        with pytest.raises(InvalidSessionId) as caught:
            use(bad)
        assert caught.value.args == InvalidSessionId().args
    with pytest.raises(InvalidSessionId), store.edit(bad):
        pass
    if not isinstance(bad, list):
        assert not store.exists(bad)
        assert not store.is_expired(bad)
    assert store.active_count == 0


def test_generated_ids_come_from_the_generator_and_pass_the_gate(make_store: Make) -> None:
    assert make_store().generate_sid() != make_store().generate_sid()
    assert make_store(sid_generator=lambda: "mine").generate_sid() == "mine"
    with pytest.raises(InvalidSessionId):
        make_store(sid_generator=lambda: "../x").generate_sid()


def test_errors_and_logs_show_the_start_of_an_id_only(
    store: SessionStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sid = "0123456789abcdef" * 2
    store.on_create(lambda sid: 1 / 0)
    store.on_expire(lambda sid: 1 / 0)
    store.get(sid)
    clock.advance(TTL + 1)
    assert store.cleanup() == [sid]
    assert caplog.text.count("callback failed") == 2
    for error in (SessionExpired(sid), SessionBusy(sid), SessionConflict(sid)):
        assert sid not in f"{error} {error!r}"
        assert error.sid == sid
    assert sid not in "".join(record.getMessage() for record in caplog.records)


def test_storage_is_refused_with_what_to_give() -> None:
    with pytest.raises(TypeError, match="give backend="):
        SessionStore(storage=object())  # type: ignore[arg-type]
