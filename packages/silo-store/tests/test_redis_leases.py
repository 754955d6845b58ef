"""Several processes on one Redis: write locks, holds and expiry when one of them hangs or is killed."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from children import Child
from counting import count, open_store, value
from servers import RedisServer, until
from silo_store import Life, LockTimeout, SessionStore, StoreUnavailable
from silo_store.backends.redis import RedisBackend, claims
from silo_store.testing import SID, TTL, Clock, at, in_threads

pytestmark = [pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX"), pytest.mark.slow]

CLAIM = "{silo}:t:" + SID
QUEUE = "{silo}:q:" + SID
FAR = 1e6

EDIT = """
store = open_store(sys.argv[1], lock_timeout=60)
hear()
try:
    with store.edit(sys.argv[2], "counter") as counter:
        say("in")
        hear()
        counter["value"] += 100
except SessionConflict as error:
    say(type(error).__name__)
else:
    say("saved")
"""

HOLD = """
store = open_store(sys.argv[1])
hold = store.hold(sys.argv[2])
say("held")
hear()
hold.release()
say("released")
hear()
"""

COUNT = """
store = open_store(sys.argv[1], lock_timeout=60)
store.get(sys.argv[2])
say("ready")
hear()
for _ in range(int(sys.argv[3])):
    store.update(sys.argv[2], "counter", lambda counter: {"value": counter["value"] + 1})
say("done")
"""

SWEEP = """
store = open_store(sys.argv[1], ttl=60, clock=lambda: time.time() + 1e6)
told = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
block = int(sys.argv[3])

def tell(sid):
    global block
    os.write(told, (sid + "\\n").encode())
    block -= 1
    if block == 0:
        say("stuck")
        hear()

store.on_expire(tell)
say("ready")
hear()
while store.active_count:
    store.cleanup()
store.cleanup()
say("done")
"""

ROTATED = """
store = open_store(sys.argv[1])
hold = store.hold(sys.argv[2])
say("held")
while True:
    with store.edit(hold.sid, "counter", uid=hold.uid) as counter:
        counter["value"] += 1
    seen = store.open(hold.sid, hold.uid)["counter"]["value"]
    say(hold.sid, seen)
    if hear() == "end":
        break
try:
    store.open(hold.sid, hold.uid)
except SessionExpired:
    say("over")
try:
    with store.edit(hold.sid, uid=hold.uid):
        pass
except SessionExpired:
    say("over")
"""


@pytest.fixture
def admin(redis_server: RedisServer, redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, socket_timeout=30, decode_responses=True) as client:
        yield client


def seen_to_grow(look: Callable[[], float], times: int, what: str) -> None:
    """What is looked at grows so often."""
    last, grown = look(), 0

    def grows() -> bool:
        nonlocal last, grown
        now = look()
        assert now > 0, "it was given up"
        grown += now > last
        last = now
        return grown >= times

    until(grows, what)


# Write locks


def test_a_claim_is_renewed_while_it_is_held(admin: Any, redis_url: str) -> None:
    store, peer = open_store(f"{redis_url}?lease=1"), open_store(f"{redis_url}?lease=1")
    count(store)
    with store.edit(SID, "counter") as counter:
        seen_to_grow(lambda: admin.pttl(CLAIM), 3, "it is not renewed")
        counter["value"] = 10
    assert value(peer) == 10
    assert not admin.exists(CLAIM)


def test_a_process_that_hangs_loses_its_claim_and_cannot_save(admin: Any, redis_url: str) -> None:
    store = open_store(redis_url)
    count(store)
    with Child(EDIT, f"{redis_url}?lease=0.2", SID) as child:
        child.tell()
        assert child.hear() == "in"
        child.pause()
        assert count(store) == 2
        child.resume()
        child.tell()
        assert child.hear() == "LockLost"
    assert value(store) == 2


def test_a_process_that_hangs_leaves_the_claim_of_another_alone_later(admin: Any, redis_url: str) -> None:
    store = open_store(redis_url)
    count(store)
    with Child(EDIT, f"{redis_url}?lease=0.2", SID) as child:
        child.tell()
        assert child.hear() == "in"
        child.pause()
        with store.edit(SID, "counter") as counter:
            child.resume()
            child.tell()
            assert child.hear() == "LockLost"
            assert admin.exists(CLAIM)
            counter["value"] = 7
    assert value(store) == 7


def test_a_writer_that_is_killed_keeps_others_waiting_no_longer_than_its_lease(admin: Any, redis_url: str) -> None:
    store = open_store(redis_url)
    count(store)
    with Child(EDIT, f"{redis_url}?lease=1", SID) as child:
        child.tell()
        assert child.hear() == "in"
        child.kill()
        assert admin.pttl(CLAIM) <= 1000
        assert count(store) == 2


def test_a_writer_that_was_killed_while_waiting_keeps_no_other_waiting_for_long(admin: Any, redis_url: str) -> None:
    """Many of them, as a client makes them that asks again and again: no lease for each."""
    url = f"{redis_url}?lease=3"
    holder, store = open_store(url, lock_timeout=60), open_store(url, lock_timeout=60)
    count(store)
    seen: list[int] = []
    with ExitStack() as stack:
        children = [stack.enter_context(Child(EDIT, url, SID)) for _ in range(4)]
        thread = threading.Thread(target=lambda: seen.append(count(store)))
        with holder.edit(SID):
            for number, child in enumerate(children):
                child.tell()
                until(lambda number=number: admin.llen(QUEUE) > number, "it does not wait")  # type: ignore[misc]
            thread.start()
            until(lambda: admin.llen(QUEUE) == 5, "nor does the one after them")
            for child in children:
                child.kill()
        thread.join(60)
        assert seen == [2]
        store.lock_timeout = 1.5  # half a lease
        assert [count(store) for _ in range(3)] == [3, 4, 5]
    assert admin.keys("*:q:*") + admin.keys(CLAIM) == []


def test_a_waiter_whose_time_is_up_leaves_no_trace(admin: Any, redis_url: str) -> None:
    store, peer = open_store(redis_url), open_store(redis_url, lock_timeout=0.2)
    count(store)
    with store.edit(SID):
        before = set(admin.keys("*"))
        with pytest.raises(LockTimeout):
            count(peer)
        assert set(admin.keys("*")) == before
        for hardly in (0.0, 0.0001, 0.0003, 0.0005):
            with pytest.raises(LockTimeout):
                peer.backend.claim(SID, at(0.0), hardly)
        assert set(admin.keys("*")) == before
    assert count(peer) == 2


def test_of_many_processes_each_gets_its_claim(redis_url: str) -> None:
    with ExitStack() as stack:
        children = [stack.enter_context(Child(COUNT, redis_url, SID, 60)) for _ in range(4)]
        assert [child.hear() for child in children] == ["ready"] * 4
        for child in children:
            child.tell()
        assert [child.hear() for child in children] == ["done"] * 4
    assert value(open_store(redis_url)) == 240


def test_the_claim_goes_to_the_process_that_has_waited_longest(admin: Any, redis_url: str) -> None:
    store = open_store(redis_url)
    count(store)
    came: list[int] = []

    def work(number: int) -> None:
        with open_store(redis_url).edit(SID):
            came.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    with store.edit(SID):
        for number, thread in enumerate(threads):
            thread.start()
            until(lambda number=number: admin.llen(QUEUE) > number, "it does not wait")  # type: ignore[misc]
    for thread in threads:
        thread.join(30)
    assert came == [0, 1, 2, 3, 4]


def test_who_has_waited_has_used_the_session(redis_url: str) -> None:
    """Also where it writes nothing, and the writer before had the lock for long."""
    backend, peer = RedisBackend(redis_url), RedisBackend(redis_url)
    store = SessionStore(backend=backend, clock=Clock(0.0), ttl=TTL)
    store.get(SID)
    claim, _ = backend.claim(SID, at(0.0), 1.0)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(peer.claim(SID, at(50.0, touch_interval=1.0), 30.0)))
    thread.start()
    until(lambda: bool(backend._server.command("EXISTS", QUEUE)), "it does not wait")
    backend.release(claim)
    thread.join(30)
    late, record = taken[0]
    peer.release(late)
    seen = backend.peek(SID)
    assert record is not None
    assert seen is not None
    assert (record.active, seen.active) == (50.0, 50.0)


@pytest.mark.parametrize("ends", ["nothing is written", "the session is rotated"])
def test_a_writer_that_saves_nothing_has_used_the_session(redis_url: str, ends: str) -> None:
    clock = Clock(0.0)
    store, peer = (SessionStore(backend=RedisBackend(redis_url), clock=clock, ttl=TTL) for _ in range(2))
    store.get(SID)
    peer.get(SID)
    clock.now = TTL - 1.0
    if ends == "nothing is written":
        with peer.edit(SID):
            pass
        sid = SID
    else:
        sid = peer.rotate(SID)
    seen = store.backend.peek(sid)
    assert seen is not None
    assert seen.active == TTL - 1.0
    clock.now = 2 * TTL - 2.0
    assert store.exists(sid)


@pytest.mark.parametrize("known", ["known to all", "found taken for the first time"])
def test_the_first_writer_in_line_is_served_first(admin: Any, redis_url: str, known: str) -> None:
    owner, *others = (open_store(redis_url, lock_timeout=60) for _ in range(6))
    served: list[int] = []
    threads: list[threading.Thread] = []

    def write(number: int) -> None:
        with others[number].edit(SID, "counter") as counter:
            counter["value"] += 1
            served.append(number)

    for _ in range(2 if known == "known to all" else 1):
        served.clear()
        threads.clear()
        with owner.edit(SID):
            for number in range(len(others)):
                threads.append(threading.Thread(target=write, args=(number,), daemon=True))
                threads[-1].start()
                until(lambda: admin.llen(QUEUE) == len(threads), "it does not wait")
        for _ in range(3):
            count(owner)  # comes last
        for thread in threads:
            thread.join(60)
        assert served == [0, 1, 2, 3, 4]


def test_a_writer_waits_in_line_on_a_server_that_forgot_its_scripts(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "FIRST_WAIT", 1000.0)
    backends = [RedisBackend(own_redis.url, timeout=2000.0) for _ in range(2)]
    owner, peer = (SessionStore(backend=backend, lock_timeout=1000.0) for backend in backends)
    owner.get(SID)
    peer.get(SID)
    with redis.Redis.from_url(own_redis.url) as admin, owner.edit(SID):
        admin.script_flush()
        waiting = threading.Thread(target=peer.reset, args=(SID,), daemon=True)
        waiting.start()
        until(lambda: admin.llen(QUEUE) == 1, "it does not wait in line")
    waiting.join(60)
    assert not waiting.is_alive()


def test_a_session_does_not_expire_while_a_writer_has_claimed_it(redis_url: str) -> None:
    clock = Clock(0.0)
    store, peer = (SessionStore(backend=RedisBackend(redis_url), clock=clock, ttl=TTL) for _ in range(2))
    store.get(SID)
    peer.get(SID)
    clock.now = TTL - 1.0
    with peer.edit(SID):
        clock.now = TTL + 1.0
        assert store.cleanup() == []
        assert not store.is_expired(SID)
    assert store.exists(SID)


def test_the_layout_is_checked_when_a_claim_is_taken(admin: Any, redis_url: str) -> None:
    store = open_store(redis_url)
    count(store)
    known = admin.get("{silo}:epoch")
    admin.set("{silo}:epoch", "3:k3JqZx0aB_-9")
    before = {key: admin.dump(key) for key in admin.keys("*")}
    with pytest.raises(StoreUnavailable, match="layout 3 "):
        count(store)
    assert {key: admin.dump(key) for key in admin.keys("*")} == before
    admin.set("{silo}:epoch", known)
    assert count(store) == 2


# Holds


def test_a_hold_keeps_the_session_from_every_process(admin: Any, redis_url: str) -> None:
    clock = Clock(time.time())
    store = open_store(f"{redis_url}?lease=1", clock=clock, ttl=TTL)
    count(store)
    with Child(HOLD, f"{redis_url}?lease=1", SID) as child:
        assert child.hear() == "held"
        uid = store.uid(SID)
        assert uid is not None
        key = "{silo}:h:" + uid
        seen_to_grow(lambda: admin.zrange(key, 0, -1, withscores=True)[0][1], 3, "it is not renewed")
        clock.advance(FAR)
        assert store.cleanup() == []
        clock.advance(FAR)
        assert value(store) == 1
        child.tell()
        assert child.hear() == "released"
        assert not store.backend.held(uid)
        assert not admin.exists(key)
        clock.advance(FAR)
        assert store.cleanup() == [SID]


def test_a_hold_ends_with_its_process(admin: Any, redis_url: str) -> None:
    clock = Clock(time.time())
    store = open_store(redis_url, clock=clock, ttl=TTL)
    count(store)
    uid = store.uid(SID)
    assert uid is not None
    with Child(HOLD, f"{redis_url}?lease=1", SID) as child:
        assert child.hear() == "held"
        clock.advance(FAR)
        assert store.cleanup() == []
        child.kill()
        assert admin.pttl("{silo}:h:" + uid) <= 1000
        until(lambda: not store.backend.held(uid), "it is held for ever")
    clock.advance(FAR)
    assert store.cleanup() == [SID]


@pytest.mark.usefixtures("many_switches")
def test_holds_of_one_life_do_not_undo_each_other(redis_url: str) -> None:
    store, peer = open_store(redis_url), open_store(redis_url)
    count(store)

    def work(number: int) -> None:
        for _ in range(60):
            with store.hold(SID) as hold:
                assert peer.backend.held(hold.uid)

    in_threads(8, work)
    uid = store.uid(SID)
    assert uid is not None
    assert not peer.backend.held(uid)


def test_a_shorter_lease_of_another_does_not_shorten_a_hold(admin: Any, redis_url: str) -> None:
    store, peer = open_store(f"{redis_url}?lease=60"), open_store(f"{redis_url}?lease=0.2")
    count(store)
    with store.hold(SID) as hold:
        peer.hold(SID).release()
        assert admin.pttl("{silo}:h:" + hold.uid) > 10_000


def test_what_is_held_again_after_closing_is_renewed(admin: Any, redis_url: str) -> None:
    store = open_store(f"{redis_url}?lease=1")
    count(store)
    with store.hold(SID):
        pass
    store.close()
    with store.hold(SID) as hold:
        key = "{silo}:h:" + hold.uid
        seen_to_grow(lambda: admin.zrange(key, 0, -1, withscores=True)[0][1], 3, "it is not renewed")


# Expiry


def begin_many(url: str, number: int) -> list[str]:
    store = open_store(url)
    sids = [f"{n:032d}" for n in range(number)]
    in_threads(4, lambda thread: [store.get(sid) for sid in sids[thread::4]])
    return sids


def test_of_many_processes_that_sweep_each_expiry_is_told_once(admin: Any, redis_url: str, tmp_path: Path) -> None:
    sids = begin_many(redis_url, 2000)
    told = tmp_path / "told"
    with ExitStack() as stack:
        children = [stack.enter_context(Child(SWEEP, redis_url, told, 0)) for _ in range(4)]
        assert [child.hear() for child in children] == ["ready"] * 4
        for child in children:
            child.tell()
        assert [child.hear() for child in children] == ["done"] * 4
    assert sorted(told.read_text().split()) == sids
    assert admin.zcard("{silo}:ended") == 0
    assert admin.get("{silo}:count") == "0"
    store = open_store(redis_url, clock=lambda: time.time() + 3 * FAR)
    store.cleanup()
    left = {key for key in admin.keys("*") if "due" in key or "gone" in key or ":u:" in key}
    assert left == set(), "what is over leaves nothing"


def test_what_a_killed_process_was_telling_of_others_tell(redis_url: str, tmp_path: Path) -> None:
    sids = begin_many(redis_url, 300)
    told = tmp_path / "told"
    with Child(SWEEP, f"{redis_url}?lease=1", told, 40) as child:
        assert child.hear() == "ready"
        child.tell()
        assert child.hear() == "stuck"
        child.kill()
    first = told.read_text().split()
    assert len(first) == 40
    others: list[str] = []
    store = open_store(redis_url, ttl=TTL, clock=lambda: time.time() + FAR)
    store.on_expire(others.append)

    def all_told() -> bool:
        store.cleanup()
        return set(first) | set(others) == set(sids)

    until(all_told, "some are forgotten")
    counts = Counter([*first, *others])
    assert {sid for sid in counts if counts[sid] > 1} <= {first[-1]}
    assert max(counts.values()) <= 2


def test_what_was_not_told_because_the_server_failed_is_told_later(own_redis: RedisServer) -> None:
    sids = begin_many(own_redis.url, 50)
    store = open_store(f"{own_redis.url}?lease=1&timeout=0.3", ttl=TTL, clock=lambda: time.time() + FAR)
    told: list[str] = []

    def tell(sid: str) -> None:
        told.append(sid)
        if len(told) == 5:
            own_redis.pause()

    store.on_expire(tell)
    with pytest.raises(StoreUnavailable):
        store.cleanup()
    assert len(told) == 5
    own_redis.resume()

    def all_told() -> bool:
        try:
            store.cleanup()
        except StoreUnavailable:
            return False
        return set(told) == set(sids)

    until(all_told, "some are kept by a process that has given up")
    assert sorted(told) == sids


def test_who_is_slow_to_tell_keeps_its_lives(admin: Any, redis_url: str) -> None:
    begin_many(redis_url, 3)
    backend, peer = RedisBackend(redis_url, lease=1), RedisBackend(redis_url, lease=1)
    late = at(time.time() + FAR)
    for lives in backend.due(late):
        backend.expire(lives, late)
    mine = [life for _ in range(3) for life in backend.ended()]
    assert len(set(mine)) == 3
    until_when = lambda: min(score for _, score in admin.zrange("{silo}:ended", 0, -1, withscores=True))  # noqa: E731
    seen_to_grow(until_when, 3, "they are not renewed")
    assert peer.ended() == []
    backend.settle(mine[:1])
    backend.close()
    found: list[Life] = []

    def got() -> bool:
        found.extend(peer.ended())
        return len(found) == 2

    until(got, "they are renewed for ever")
    assert sorted(found) == sorted(mine[1:])


# Rotation


def test_a_task_in_another_process_goes_on_after_a_rotation(redis_url: str) -> None:
    store = open_store(redis_url)
    count(store)
    with Child(ROTATED, redis_url, SID) as child:
        assert child.hear() == "held"
        assert child.hear() == f"{SID} 2"
        first = store.rotate(SID)
        child.tell("go")
        assert child.hear() == f"{first} 3"
        second = store.rotate(store.rotate(first))
        child.tell("go")
        assert child.hear() == f"{second} 4"
        assert value(store, second) == 4
        store.destroy(second)
        child.tell("end")
        assert [child.hear(), child.hear()] == ["over", "over"]


# Late writers


@pytest.mark.parametrize("end", ["reset", "destroy", "expire"])
def test_a_late_writer_revives_nothing(redis_url: str, end: str) -> None:
    store, peer = open_store(redis_url), open_store(redis_url)
    count(store)
    late = peer.get(SID)
    late["counter"]["value"] = 99
    with Child(EDIT, f"{redis_url}?lease=0.2", SID) as child:
        child.tell()
        assert child.hear() == "in"
        child.pause()
        until(lambda: not store.backend._server.command("EXISTS", CLAIM), "its lease does not end")  # type: ignore[attr-defined]
        getattr(store, end)(SID)
        assert store.exists(SID) is (end == "reset")
        child.resume()
        child.tell()
        assert child.hear() == "LockLost"
    with pytest.raises(Exception, match="ended"):
        peer.save(SID, late)
    assert store.exists(SID) is (end == "reset")
    assert store.is_expired(SID) is (end == "expire")
    assert value(store) == 0
