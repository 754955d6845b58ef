"""Several threads at once: writers, readers, callbacks, sweeps, forks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NoReturn

import pytest
from servers import until
from silo_store import CleanupDaemon, Hold, LockTimeout, SessionExpired, SessionStore, TooManyWaiters
from silo_store.backends.memory import MemoryBackend
from silo_store.fork import reset_after_fork
from silo_store.testing import SID, TTL, Clock, in_threads

pytestmark = pytest.mark.slow

Make = Callable[..., SessionStore]


def increment_slowly(store: SessionStore, times: int = 1) -> None:
    for _ in range(times):
        with store.edit(SID, "counter") as counter:
            seen = counter["value"]
            time.sleep(0)  # let the others run between the reading and the writing
            counter["value"] = seen + 1


def test_no_update_is_lost(store: SessionStore) -> None:
    in_threads(8, lambda _: increment_slowly(store, 200))
    assert store.get(SID)["counter"] == {"value": 1600}


def test_no_update_is_lost_through_update(store: SessionStore) -> None:
    def add(state: dict[str, int]) -> dict[str, int]:
        return {"value": state["value"] + 1}

    in_threads(8, lambda _: [store.update(SID, "counter", add) for _ in range(200)])
    assert store.get(SID)["counter"] == {"value": 1600}


def test_readers_and_writers_of_other_sessions_do_not_wait(store: SessionStore) -> None:
    def visit_both() -> None:
        store.get(SID)
        store.exists(SID)
        increment_other(store)

    store.get(SID)
    with store.edit(SID):
        other = threading.Thread(target=visit_both)
        other.start()
        other.join(timeout=30)
        assert not other.is_alive()
    assert store.get("b" * 32)["counter"] == {"value": 1}


def increment_other(store: SessionStore) -> None:
    with store.edit("b" * 32, "counter") as counter:
        counter["value"] += 1


def test_a_reader_of_copies_sees_the_last_commit(make_store: Make) -> None:
    store = make_store(backend="memory://?copy=1")
    with store.edit(SID, "counter") as counter:
        counter["value"] = 1
        assert store.get(SID)["counter"] == {"value": 0}
    assert store.get(SID)["counter"] == {"value": 1}


def test_a_lock_that_is_not_free_in_time_is_an_error_and_leaves_no_queue(make_store: Make) -> None:
    store = make_store(lock_timeout=0.01)
    with store.edit(SID):
        with pytest.raises(LockTimeout) as caught:
            in_threads(1, lambda _: increment_slowly(store))
        assert caught.value.sid == SID
    assert not store.locks.holders
    increment_slowly(store)


def test_an_edit_within_an_edit_joins_it(store: SessionStore) -> None:
    with store.edit(SID, "counter") as outer:
        outer["value"] += 1
        with store.edit(SID, "counter") as inner:
            inner["value"] += 1
            store.update(SID, "counter", lambda state: state.update(value=state["value"] + 1))
        outer["value"] += 1
    assert store.get(SID)["counter"] == {"value": 4}
    assert not store.locks.holders


def test_a_session_being_written_does_not_expire(store: SessionStore, clock: Clock) -> None:
    with store.edit(SID, "counter") as counter:
        clock.advance(10 * TTL)
        assert store.cleanup() == []
        counter["value"] = 1
    assert store.get(SID)["counter"] == {"value": 1}


def test_callbacks_may_call_back_into_the_store(store: SessionStore, clock: Clock) -> None:
    store.on_create(lambda sid: store.update(sid, "notes", lambda state: state["lines"].append("hello")))
    store.on_expire(lambda sid: store.get("b" * 32) and None)
    store.on_end(lambda sid, uid, reason: store.cleanup() and None)
    store.set_busy_check(lambda sid, session: store.get("c" * 32) is None)
    store.register_namespace("born", lambda: store.active_count)
    store.get(SID)
    assert store.get(SID)["notes"] == {"lines": ["hello"]}
    clock.advance(TTL + 1)
    store.cleanup()
    assert not store.exists(SID)
    assert store.exists("b" * 32)
    store.reset("b" * 32)


def test_a_slow_callback_keeps_no_other_thread_waiting(store: SessionStore, clock: Clock) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(sid: str) -> None:
        entered.set()
        assert leave.wait(30)

    store.on_expire(slow)
    store.get(SID)
    clock.advance(TTL + 1)
    sweeper = threading.Thread(target=store.cleanup)
    sweeper.start()
    assert entered.wait(30)
    assert store.is_expired(SID)
    store.get(SID)
    increment_slowly(store)
    increment_other(store)
    clock.advance(TTL + 1)
    assert not store.exists(SID)
    leave.set()
    sweeper.join(30)


def test_a_slow_factory_keeps_no_other_thread_waiting(store: SessionStore) -> None:
    entered, leave = threading.Event(), threading.Event()
    main = threading.current_thread()

    def slow() -> list[int]:
        if threading.current_thread() is not main:
            entered.set()
            assert leave.wait(30)
        return []

    store.register_namespace("slow", slow)
    other = threading.Thread(target=lambda: store.get(SID))
    other.start()
    assert entered.wait(30)
    store.get("b" * 32)
    store.get(SID)
    leave.set()
    other.join(30)
    assert store.active_count == 2


def test_a_session_is_created_once_and_announced_once(store: SessionStore) -> None:
    created: list[str] = []
    store.on_create(created.append)
    uids = set(in_threads(8, lambda _: store.get(SID).uid))
    assert (len(uids), created) == (1, [SID])


def test_each_expiry_is_told_once_by_any_number_of_sweepers(store: SessionStore, clock: Clock) -> None:
    told: list[str] = []
    store.on_expire(told.append)
    sids = [f"{number:032x}" for number in range(1000)]
    for sid in sids:
        store.get(sid)
    clock.advance(TTL + 1)
    in_threads(4, lambda number: [store.exists(sid) for sid in sids] if number == 0 else store.cleanup())
    store.cleanup()
    assert sorted(told) == sids


def test_writers_and_resets_do_not_mix_two_lives(store: SessionStore) -> None:
    def work(number: int) -> None:
        for _ in range(50):
            if number == 0:
                store.reset(SID)
            else:
                with store.edit(SID) as session:
                    session["counter"]["value"] += 1
                    session["notes"]["lines"].append(1)
                    assert session["counter"]["value"] == len(session["notes"]["lines"])

    in_threads(6, work)
    session = store.get(SID)
    assert session["counter"]["value"] == len(session["notes"]["lines"])


def test_a_reader_never_sees_half_of_a_write(make_store: Make) -> None:
    store = make_store(backend="memory://?copy=1")
    for number in range(30):
        store.register_namespace(f"n{number}", lambda: 0)
    names = [f"n{number}" for number in range(30)]
    store.get(SID)

    def work(number: int) -> None:
        for _ in range(100):
            if number:
                session = store.get(SID)
                assert len({session[name] for name in names}) == 1
            else:
                with store.edit(SID) as session:
                    session.update((name, session[name] + 1) for name in names)

    in_threads(3, work)


def test_a_writer_that_waits_while_its_session_moves_follows_it(store: SessionStore) -> None:
    uid = store.get(SID).uid
    moved: list[str] = []
    waiting = threading.Event()

    def wait_and_edit() -> None:
        waiting.set()
        with store.edit(SID, "counter", uid=uid) as counter:
            counter["value"] += 10

    with store.hold(SID):
        writer = threading.Thread(target=wait_and_edit)
        with store.edit(SID, "counter") as counter:
            writer.start()
            assert waiting.wait(30)
            until(lambda: store.locks.holders[SID].queue is not None, "the other writer does not wait")
            moved.append(store.rotate(SID))
            counter["value"] += 1
        writer.join(30)
    assert store.get(moved[0])["counter"] == {"value": 11}
    assert not store.locks.holders


def test_holds_that_know_a_session_by_different_ids_do_not_send_a_writer_to_and_fro() -> None:
    backend = MemoryBackend(copy=True)
    store, peer = SessionStore(backend=backend), SessionStore(backend=backend)
    store.register_namespace("counter", lambda: {"value": 0})
    uid = store.get(SID).uid
    with store.hold(SID) as old:
        new = peer.rotate(SID)
        with store.hold(new):
            for sid in (old.sid, new):
                with store.edit(sid, "counter", uid=uid) as counter:
                    counter["value"] += 1
    assert store.get(new)["counter"] == {"value": 2}
    assert not store.locks.holders


def test_who_reads_while_its_session_moves_finds_it(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    uid, of = store.get(SID).uid, store.holds.of
    with store.hold(SID) as hold:
        old, seen = hold.sid, list[str]()

        def looking(held: str | None) -> list[Hold]:
            """Before the hold is told."""
            monkeypatch.undo()
            seen.append(store.open(old, uid).sid)
            return of(held)

        monkeypatch.setattr(store.holds, "of", looking)
        new = store.rotate(SID)
    assert seen == [new]


def test_a_writer_that_rotates_a_session_keeps_the_lock_under_its_new_id(make_store: Make) -> None:
    store = make_store(lock_timeout=0.01)
    store.get(SID)
    with store.edit(SID):
        new = store.rotate(SID)
        with pytest.raises(LockTimeout):
            in_threads(1, lambda _: store.update(new, "counter", dict))
    assert not store.locks.holders


def test_a_callback_after_a_reset_may_wait_for_another_writer(store: SessionStore) -> None:
    store.get(SID)
    store.on_end(lambda sid, uid, reason: in_threads(1, lambda _: increment_slowly(store)) and None)
    store.reset(SID)
    store.destroy(SID)
    assert store.get(SID)["counter"] == {"value": 1}


def test_a_thread_may_edit_for_a_life_that_a_reset_ended_and_is_told(store: SessionStore) -> None:
    uid = store.get(SID).uid
    store.reset(SID)

    def late(_: int) -> None:
        with store.edit(SID, uid=uid) as session:
            session["counter"]["value"] = 99

    with pytest.raises(SessionExpired):
        in_threads(1, late)
    assert store.get(SID)["counter"] == {"value": 0}


def test_the_daemon_sweeps_and_survives_a_failing_sweep(make_store: Make) -> None:
    store = make_store()
    swept = threading.Event()
    calls: list[int] = []

    def cleanup() -> list[str]:
        calls.append(1)
        if len(calls) == 1:
            raise OSError
        swept.set()
        return []

    store.cleanup = cleanup  # type: ignore[method-assign]
    daemon = CleanupDaemon(store, interval=0.001)
    assert not daemon.running
    daemon.start()
    daemon.start()
    assert swept.wait(30)
    assert daemon.running
    daemon.stop()
    daemon.stop()
    assert not daemon.running
    daemon.start()
    assert daemon.running
    daemon.stop()


def test_the_daemon_can_be_stopped_by_a_callback(make_store: Make, clock: Clock) -> None:
    store = make_store(cleanup_interval=0.001)
    daemon = CleanupDaemon(store)
    stopped = threading.Event()

    def stop(sid: str) -> None:
        daemon.stop()
        stopped.set()

    store.on_expire(stop)
    store.get(SID)
    clock.advance(TTL + 1)
    daemon.start()
    assert stopped.wait(30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_forked_children_never_make_the_same_uid(store: SessionStore) -> None:
    store.get("b" * 32)
    uids = set()
    for number in range(2):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, store.get(f"{number}" * 32).uid.encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            uids.add(pipe.read())
        os.waitpid(child, 0)
    assert len(uids) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_finds_every_lock_free(store: SessionStore) -> None:
    store.get(SID)
    daemon = CleanupDaemon(store, interval=0.001)
    inside, leave = threading.Event(), threading.Event()

    def write() -> None:
        with store.edit(SID), getattr(store.backend, "_lock", nullcontext()), store.locks.guard:
            inside.set()
            assert leave.wait(30)

    writer = threading.Thread(target=write)
    writer.start()
    assert inside.wait(30)
    daemon.start()
    child = os.fork()
    if child == 0:
        try:
            increment_slowly(store)
            store.reset(SID)
            assert not daemon.running
            daemon.start()
            assert daemon.running
            os._exit(0)
        except BaseException:
            os._exit(1)
    leave.set()
    writer.join(30)
    _, status = os.waitpid(child, 0)
    daemon.stop()
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_resets_objects_in_the_order_in_which_they_were_made() -> None:
    class Owner:
        def __init__(self, number: int) -> None:
            self.number = number
            reset_after_fork(self)

        def _after_fork(self) -> None:
            os.write(write, b"%d " % self.number)

    read, write = os.pipe()
    owners = [Owner(number) for number in range(50)]
    del owners[10:20]
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert [int(number) for number in pipe.read().split()] == [owner.number for owner in owners]
    os.waitpid(child, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_is_forked_under_a_lock_does_not_have_it(make_store: Make) -> None:
    """Its write would be part of an edit that its parent saves, so it would be lost without an error."""
    store = make_store(lock_timeout=0.05)
    with store.edit(SID, "counter") as counter:
        child = os.fork()
        if child == 0:
            try:
                assert store.locks.held(SID) is None
                if store.backend.shared:
                    with pytest.raises(LockTimeout):
                        increment_slowly(store)
                else:
                    increment_slowly(store)
                    assert store.get(SID)["counter"]["value"] == 1
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        counter["value"] += 1
    assert store.get(SID)["counter"] == {"value": 1}


def test_a_wait_for_a_lock_is_entered_and_can_be_refused(make_store: Make) -> None:
    store = make_store()
    entered: list[str] = []

    @contextmanager
    def waiting(sid: str) -> Iterator[None]:
        entered.append(sid)
        if len(entered) > 1:
            raise TooManyWaiters(sid)
        yield

    store.locks.waiting = waiting
    increment_slowly(store)
    assert entered == [], "a lock that is free at once is not a wait"
    with store.edit(SID):
        first = threading.Thread(target=increment_slowly, args=(store,))
        first.start()
        until(lambda: entered == [SID], "the other writer does not wait")
        with pytest.raises(TooManyWaiters):
            in_threads(1, lambda _: increment_slowly(store))
    first.join(30)
    assert entered == [SID, SID]
    assert store.get(SID)["counter"] == {"value": 2}
    increment_slowly(store)
    assert store.locks.holders == {}
    assert len(entered) == 2


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
def test_a_wait_for_another_process_is_entered_and_can_be_refused(make_store: Make) -> None:
    store, other = make_store(), make_store()

    def waiting(sid: str) -> NoReturn:
        raise TooManyWaiters(sid)

    store.locks.waiting = waiting
    increment_slowly(store)
    with other.edit(SID, "counter") as counter:
        for _ in range(2):
            with pytest.raises(TooManyWaiters):
                increment_slowly(store)
        counter["value"] += 10
    increment_slowly(store)
    increment_slowly(other)
    assert store.get(SID)["counter"] == {"value": 13}
