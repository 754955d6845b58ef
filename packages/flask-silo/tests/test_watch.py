"""What the streams of one session share: one look for all of them, and what wakes them."""

from __future__ import annotations

import gc
import time
from typing import Any, cast

import pytest
from flask_silo.tasks.event_id import EventId
from flask_silo.tasks.states import Snapshot, StateReader
from flask_silo.tasks.watch import Change, Watch, Watches
from silo_store import Life, StoreUnavailable
from silo_store.testing import SID, Clock, in_threads
from silo_tasks import TaskState

LIFE = Life(SID, "u1")
OTHER = "other-" + SID[6:]
LOOK = 0.25
NAMES = ["one", "two"]


class Reader:
    """Returns the states that the test has set, and counts the looks."""

    def __init__(self) -> None:
        self.looks = 0
        self.states: dict[str, dict[str, Any]] = {"one": running()}
        self.sid: str | None = SID
        self.away = False
        self.during: Any = None
        self.lives: list[Life | None] = []

    def look(self, life: Life | None, before: Snapshot | None = None) -> Snapshot:
        self.looks += 1
        self.lives.append(life)
        states = dict(self.states)
        if self.during is not None:
            self.during()
        if self.away:
            raise StoreUnavailable("it is away")
        return Snapshot(self.sid, NAMES, states, before)


def running(**fields: Any) -> dict[str, Any]:
    state = TaskState(name="one", running=True).to_dict(public=True)
    return {**state, **fields}


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def watch(reader: Reader, clock: Clock) -> Watch:
    return Watch(cast(StateReader, reader), LIFE, clock=clock)


def look(watch: Watch) -> Snapshot:
    return watch.look(LOOK)[0]


def test_one_look_at_each_interval_for_all_streams(watch: Watch, reader: Reader, clock: Clock) -> None:
    for interval in range(1, 5):
        seen = {id(look(watch)) for _ in range(100)}
        assert (len(seen), reader.looks) == (1, interval)
        clock.advance(LOOK / 2)
        look(watch)
        assert reader.looks == interval
        clock.advance(LOOK / 2)


def test_a_new_stream_looks_at_once(watch: Watch, reader: Reader) -> None:
    look(watch)
    reader.states = {"one": running(n=1)}
    newest, _ = watch.look(LOOK, fresh=True)
    assert (reader.looks, look(watch)) == (2, newest)


def test_a_change_wakes_the_streams_and_makes_one_look_due(watch: Watch, reader: Reader) -> None:
    _, change = watch.look(LOOK)
    assert not change.is_set()
    watch.wake()
    watch.wait(change)  # returns at once, though no time passes
    for _ in range(100):
        _, following = watch.look(LOOK)
    assert reader.looks == 2
    assert not following.is_set()


def test_a_change_during_a_look_makes_another_one_due(watch: Watch, reader: Reader) -> None:
    reader.during = watch.wake  # does not wait for the look, which would never end
    _, change = watch.look(LOOK)
    reader.during = None
    assert change.is_set()
    watch.look(LOOK)
    watch.look(LOOK)
    assert reader.looks == 2


def test_the_last_look_is_returned_again_while_the_store_is_away(watch: Watch, reader: Reader, clock: Clock) -> None:
    first = look(watch)
    reader.away = True
    clock.advance(LOOK)
    assert [look(watch) for _ in range(100)] == [first] * 100
    assert reader.looks == 2, "one try at each interval"
    with pytest.raises(StoreUnavailable):
        watch.look(LOOK, fresh=True)
    reader.away, reader.states = False, {}
    clock.advance(LOOK)
    assert look(watch).id != first.id


def test_a_first_look_needs_the_store(watch: Watch, reader: Reader) -> None:
    reader.away = True
    with pytest.raises(StoreUnavailable):
        look(watch)


def test_a_rotated_session_is_found_under_its_newest_id(watch: Watch, reader: Reader, clock: Clock) -> None:
    reader.sid = OTHER
    seen = look(watch)
    assert (seen.shows(SID), seen.shows(OTHER)) == (False, True)
    clock.advance(LOOK)
    look(watch)
    assert reader.lives == [LIFE, Life(OTHER, LIFE.uid)]


def test_clients_that_know_the_same_get_the_same_bytes() -> None:
    seen = Snapshot(SID, NAMES, {"one": running(), "two": running(name="two")})
    events = seen.events(str(EventId()))
    assert seen.events(str(EventId())) is events
    assert events.count(b"event: task\n") == 2
    assert f"id: {seen.id}\n" in events.decode()
    assert seen.events(seen.id) == b""


def test_a_client_that_missed_looks_gets_what_it_does_not_know() -> None:
    first = Snapshot(SID, NAMES, {"one": running(), "two": running(name="two")})
    second = Snapshot(SID, NAMES, {"one": running(n=1), "two": running(name="two")}, first)
    third = Snapshot(SID, NAMES, {"one": running(n=2), "two": running(name="two")}, second)
    for known in (first.id, second.id):
        events = third.events(known)
        assert events.count(b"event: task\n") == 1
        assert b'"n": 2' in events
    assert Snapshot(SID, NAMES, {}, third).events(third.id).count(b'"status": "idle"') == 2


def test_a_change_of_the_times_alone_sends_no_event_except_to_a_new_client() -> None:
    first = Snapshot(SID, NAMES, {"one": running(elapsed=1.0, rate=5.0, eta=3.0)})
    second = Snapshot(SID, NAMES, {"one": running(elapsed=2.0, rate=4.0, eta=2.0)}, first)
    assert second.id == first.id
    assert b'"elapsed": 2.0' in second.events(str(EventId()))


def test_a_task_that_is_declared_later_is_seen() -> None:
    first = Snapshot(SID, ["one"], {"one": running()})
    second = Snapshot(SID, NAMES, {"one": running(), "two": running(name="two")}, first)
    assert second.events(first.id).count(b"event: task\n") == 1
    assert Snapshot(SID, NAMES, {"one": running()}, first).id == first.id


def test_streams_of_one_life_share_a_watch_that_ends_with_them(reader: Reader) -> None:
    watches = Watches(cast(StateReader, reader))
    one, again = watches.of(LIFE), watches.of(Life(OTHER, LIFE.uid))
    another = watches.of(Life(OTHER, "u2"))
    assert one is again is not another
    assert one.life == Life(OTHER, LIFE.uid), "a new request has the newest id"
    assert watches.of(None) is not watches.of(None)
    _, change = one.look(LOOK)
    _, untouched = another.look(LOOK)
    watches.wake(LIFE.uid)
    watches.wake("u3")
    assert (change.is_set(), untouched.is_set()) == (True, False)
    del one, again, another
    gc.collect()
    assert not watches._open


def test_a_forked_child_begins_without_watches(reader: Reader) -> None:
    watches = Watches(cast(StateReader, reader))
    parents = watches.of(LIFE)
    with watches._lock:
        watches._after_fork()
        assert watches.of(LIFE) is not parents


def test_a_change_wakes_all_threads_that_wait_and_happens_once() -> None:
    change = Change()
    change.wait(0)
    assert not change.is_set()

    def work(number: int) -> float:
        began = time.monotonic()
        if number < 8:
            change.wait(60)
        else:
            change.set()
        return time.monotonic() - began

    assert max(in_threads(10, work)) < 30
    change.wait(60)
    assert change.is_set()
