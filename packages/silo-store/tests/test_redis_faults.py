"""The Redis backend when the server hangs, dies, forgets, has no room, cannot write, or is none."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from children import Child
from counting import count, open_store, value
from links import RoundTrips
from servers import RedisServer, redis_binary, until
from silo_store import Claim, Life, LockLost, LockTimeout, Moment, SessionStore, StoreUnavailable, open_backend
from silo_store.backends.redis import RedisBackend, connections
from silo_store.record import Record
from silo_store.testing import SID, TTL, Clock, at, in_threads

pytestmark = [pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX"), pytest.mark.slow]

OTHER = "b" * 32
THIRD = "c" * 32


def answers(work: Callable[[], object]) -> bool:
    """Whether it works; that the server does not answer yet is no failure."""
    try:
        work()
    except (StoreUnavailable, LockTimeout):
        return False
    return True


def refused(work: Callable[[], object], match: str = "Redis") -> StoreUnavailable:
    """It says that the store cannot be reached, and no id."""
    with pytest.raises(StoreUnavailable, match=match) as caught:
        work()
    text = "".join(traceback.format_exception(caught.value))
    assert SID not in text
    assert "pop from an empty deque" not in text, "how connections are kept is not the reason"
    assert caught.value.retry_after >= 1
    return caught.value


@pytest.fixture
def admin(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_redis.url, socket_timeout=30, decode_responses=True) as client:
        yield client


# It hangs


def test_a_server_that_hangs_is_an_error_in_time_and_then_goes_on(own_redis: RedisServer) -> None:
    store, patient = open_store(f"{own_redis.url}?timeout=0.1&lease=0.3"), open_store(own_redis.url)
    assert count(patient) == 1
    own_redis.pause()
    for work in (
        lambda: store.get(SID),
        lambda: store.peek(SID),
        lambda: store.exists(SID),
        lambda: store.is_expired(SID),
        lambda: store.touch(SID),
        lambda: count(store),
        lambda: store.reset(SID),
        lambda: store.destroy(SID),
        lambda: store.rotate(SID),
        lambda: store.hold(SID),
        lambda: store.expire(SID),
        lambda: store.active_count,
        store.cleanup,
    ):
        refused(work)
    assert [finding.level for finding in store.backend.check(0.0)] == ["error"]
    own_redis.resume()
    until(lambda: answers(lambda: store.get(SID)), "it does not read again")
    until(lambda: answers(lambda: store.update(SID, "counter", lambda _: {"value": 5})), "it does not write again")
    assert value(patient) == 5


def test_a_claim_that_had_no_answer_keeps_no_writer_waiting(own_redis: RedisServer) -> None:
    store = open_store(f"{own_redis.url}?timeout=0.1&lease=3600")
    store.lock_timeout = 0.5
    assert count(store) == 1
    own_redis.pause()
    refused(lambda: count(store))
    own_redis.resume()
    until(lambda: answers(lambda: count(store)), "the claim is never given back")


def test_a_write_that_had_no_answer_is_done_or_not_but_not_half(own_redis: RedisServer) -> None:
    store = open_store(f"{own_redis.url}?timeout=0.3&lease=0.3")
    store.register_namespace("again", lambda: {"value": 0})
    count(store)

    def change() -> None:
        with store.edit(SID) as session:
            for name in ("counter", "again"):
                session[name]["value"] = 7
            own_redis.pause()

    refused(change)
    own_redis.resume()
    until(lambda: answers(lambda: count(store)), "it does not write again")
    session = store.get(SID)
    assert (session["counter"]["value"], session["again"]["value"]) in ((8, 7), (2, 0))


def test_a_claim_outlasts_a_renewal_that_failed(own_redis: RedisServer) -> None:
    """Renewed after two thirds of its lease for the first time, it has not the time to wait a whole round."""
    store = open_store(f"{own_redis.url}?lease=3&timeout=0.5")
    count(store)
    with store.edit(SID, "counter") as counter:
        time.sleep(1.8)
        own_redis.pause()
        time.sleep(0.8)
        own_redis.resume()
        time.sleep(0.8)
        counter["value"] += 1
    assert value(store) == 2


def test_a_thread_that_cannot_be_started_is_started_later(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(f"{own_redis.url}?lease=0.5")

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        assert count(store) == 1
    assert "no thread can be started" in caplog.text
    with store.edit(SID, "counter") as counter:
        time.sleep(1.2)
        counter["value"] += 1
    assert value(store) == 2


def test_a_hold_on_a_server_that_hangs_is_not_kept_for_ever(own_redis: RedisServer) -> None:
    store = open_store(f"{own_redis.url}?timeout=0.3&lease=0.3")
    count(store)
    hold = store.hold(SID)
    assert store.backend.held(hold.uid)
    own_redis.pause()
    refused(hold.release)
    own_redis.resume()
    until(lambda: not store.backend.held(hold.uid), "it is renewed for ever")
    assert store.holds.of(hold.uid) == []


def test_a_hold_that_cannot_be_looked_after_is_given_up(own_redis: RedisServer) -> None:
    store = open_store(f"{own_redis.url}?timeout=0.3&lease=0.3")
    count(store)
    uid = store.uid(SID)
    assert uid is not None
    real, asked = store.uid, []

    def lost(sid: str) -> str | None:
        asked.append(sid)
        own_redis.pause()
        return real(sid)

    store.uid = lost  # type: ignore[method-assign]
    refused(lambda: store.hold(SID))
    own_redis.resume()
    assert asked == [SID]
    until(lambda: not store.backend.held(uid), "it is renewed for ever")
    assert store.holds.of(uid) == []


def test_a_rotation_that_fails_on_its_way_leaves_the_session_where_it_was(own_redis: RedisServer) -> None:
    store = open_store(f"{own_redis.url}?timeout=0.3&lease=30")
    count(store)
    real = store.backend.claim

    def claim(sid: str, moment: Moment, timeout: float) -> tuple[Claim, Record | None]:
        if sid != SID:
            own_redis.pause()
        return real(sid, moment, timeout)

    store.backend.claim = claim  # type: ignore[assignment, method-assign]
    with store.edit(SID) as session:
        session["counter"]["value"] = 7
        refused(lambda: store.rotate(SID))
        own_redis.resume()
        until(lambda: answers(lambda: store.exists(SID)), "it does not answer again")
        with store.edit(SID, "counter") as counter:
            counter["value"] = 8
    assert value(store) == 8


def test_a_reset_that_fails_on_its_way_tells_that_the_life_is_over(own_redis: RedisServer) -> None:
    store = open_store(f"{own_redis.url}?timeout=0.3&lease=0.3")
    ends: list[tuple[str, str, str]] = []
    store.on_end(lambda *end: ends.append(end))
    count(store)
    uid, real = store.uid(SID), store.backend.create

    def create(record: Record, moment: Moment, claim: Claim | None = None, *, last: bool = False) -> Record:
        own_redis.pause()
        return real(record, moment, claim, last=last)

    store.backend.create = create  # type: ignore[assignment, method-assign]
    refused(lambda: store.reset(SID))
    own_redis.resume()
    assert ends == [(SID, uid, "reset")]


class Interrupted(BaseException):
    """What a signal's handler raises, as a worker's time limit does."""


@contextmanager
def interruption() -> Iterator[None]:
    """A signal comes while the block waits, and its handler raises."""

    def handler(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(Interrupted):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_answer_that_comes_after_an_interruption_reaches_no_other_caller(own_redis: RedisServer) -> None:
    store = open_store(f"{own_redis.url}?timeout=60")
    for _ in range(2):
        count(store)
    count(store, OTHER)
    own_redis.pause()
    with interruption():
        store.peek(SID)
    with interruption():
        store.get(SID)
    own_redis.resume()
    for _ in range(5):
        assert (value(store), value(store, OTHER)) == (2, 1)


def test_a_claim_that_is_interrupted_on_its_way_is_free_again(own_redis: RedisServer) -> None:
    store = open_store(f"{own_redis.url}?timeout=60&lease=0.3")
    count(store)
    lock = store.lock(SID)
    lock.take(30)
    store.open(SID, lock=lock)
    own_redis.pause()
    with interruption():
        lock.give_back()
    own_redis.resume()
    assert not lock.taken
    store.lock_timeout = 30
    assert count(store) == 2


def test_an_interrupted_wait_leaves_no_trace(own_redis: RedisServer, admin: redis.Redis) -> None:
    store, peer = open_store(f"{own_redis.url}?timeout=20"), open_store(f"{own_redis.url}?timeout=20")
    count(store)
    with store.edit(SID):
        with interruption():
            count(peer)
        assert admin.keys("*:q:*") + admin.keys("*:w:*") == []
    assert count(peer) == 2


# It dies


def test_nothing_committed_is_lost_when_the_server_is_killed(lasting_redis: RedisServer) -> None:
    store = open_store(f"{lasting_redis.url}?lease=1", lock_timeout=20)
    done: Counter[str] = Counter()
    stop = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            try:
                for _ in range(2):
                    before = done["yes"]
                    until(lambda before=before: done["yes"] > before + 20, "no process counts")  # type: ignore[misc]
                    lasting_redis.kill()
                    before = done["no"]
                    until(lambda before=before: done["no"] > before, "no process notices")  # type: ignore[misc]
                    lasting_redis.restart()
                before = done["yes"]
                until(lambda: done["yes"] > before + 20, "no process goes on")
            finally:
                stop.set()
        while not stop.is_set():
            try:
                count(store)
            except StoreUnavailable:
                done["no"] += 1
                stop.wait(0.01)
            else:
                done["yes"] += 1

    in_threads(4, work)
    assert done["yes"] <= value(store) <= done["yes"] + done["no"]


def test_connections_of_before_a_restart_fail_no_caller(lasting_redis: RedisServer) -> None:
    store = open_store(lasting_redis.url)
    barrier = threading.Barrier(4)

    def many(_: int) -> None:
        for _ in range(20):
            barrier.wait(30)
            store.get(SID)

    count(store)
    in_threads(4, many)
    lasting_redis.kill()
    refused(lambda: store.get(SID))
    lasting_redis.restart()
    in_threads(4, many)
    assert count(store) == 2


def test_a_server_that_forgot_its_scripts_learns_them_again(own_redis: RedisServer, admin: redis.Redis) -> None:
    store = open_store(own_redis.url)
    count(store)
    admin.script_flush()
    assert count(store) == 2
    admin.script_flush()
    assert value(store) == 2


# It forgets


KNOWS_NOTHING = """
store = open_store(sys.argv[1])
say(store.is_expired(sys.argv[2]), store.is_expired(sys.argv[3]))
"""


def test_what_was_lost_counts_as_expired(own_redis: RedisServer, admin: redis.Redis) -> None:
    clock = Clock()
    stores = [open_store(own_redis.url, clock=clock, ttl=TTL, expired_retain=100) for _ in range(2)]
    store, late = stores
    for sid in (SID, OTHER):
        count(store, sid)
        assert value(late, sid) == 1
    own_redis.restart(empty=True)
    assert store.is_expired(SID), "the first to ask notices the loss"
    assert store.find(SID) is None
    clock.advance(50)
    assert value(store) == 0
    assert not store.is_expired(SID), "it has begun again"
    stranger = open_store(own_redis.url, clock=clock, ttl=TTL, expired_retain=100)
    assert stranger.is_expired(OTHER)
    assert not stranger.is_expired(SID)
    assert stranger.is_expired(THIRD), "it is not known which ids there were"
    clock.advance(50)
    store.cleanup()
    assert store.is_expired(OTHER)
    clock.advance(1)
    assert not store.is_expired(OTHER)
    store.cleanup()
    assert admin.exists("{silo}:lost") == 0
    assert value(late, THIRD) == 0
    assert not late.is_expired(OTHER), "who comes late notices a loss that was noted already, not a new one"
    assert admin.exists("{silo}:lost") == 0


def test_a_process_that_came_later_knows_of_the_loss(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url)
    count(store)
    own_redis.restart(empty=True)
    with Child(KNOWS_NOTHING, own_redis.url, SID, OTHER) as child:
        assert child.hear() == "False False", "no process could tell it"
    assert count(store, OTHER) == 1, "begun by a process that knows, which notices by that"
    with Child(KNOWS_NOTHING, own_redis.url, SID, OTHER) as child:
        assert child.hear() == "True False"


@pytest.mark.parametrize("again", [False, True])
def test_each_way_of_asking_notices_a_loss(own_redis: RedisServer, admin: redis.Redis, again: bool) -> None:
    """Also where another process, which knew of nothing, was the first to begin a session after it."""
    for ask in (
        lambda store: store.is_expired(SID),
        lambda store: store.find(SID),
        lambda store: store.open(SID),
        lambda store: store.get(SID),
        lambda store: count(store),
    ):
        own_redis.flush()
        store = open_store(own_redis.url)
        count(store)
        own_redis.flush()
        if again:
            count(open_store(own_redis.url), OTHER)
        ask(store)
        assert store.is_expired(THIRD)
        assert admin.exists("{silo}:lost") == 1


def test_a_new_server_has_lost_nothing(own_redis: RedisServer) -> None:
    store, other = open_store(own_redis.url), open_store(own_redis.url)
    assert store.find(SID) is None
    assert not store.is_expired(SID)
    count(other, OTHER)
    assert not store.is_expired(SID)
    assert store.find(SID) is None
    assert not store.is_expired(SID)


# It cannot write


def read_only_goes_on_reading(server: RedisServer, store: SessionStore, why: str) -> None:
    assert value(store) == 1
    store.touch_interval = 0.0
    assert value(store) == 1, "though its use cannot be noted"
    assert store.exists(SID)
    assert not store.is_expired(SID)
    store.touch(SID)
    for work in (
        lambda: count(store),
        lambda: store.update(SID, "counter", lambda counter: {"value": 9}),
        lambda: store.get(OTHER),
        lambda: store.hold(SID),
    ):
        refused(work, why)
    assert value(store) == 1


def test_reads_go_on_while_the_server_is_a_replica(own_redis: RedisServer, admin: redis.Redis) -> None:
    store = open_store(own_redis.url)
    count(store)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    admin.replicaof("127.0.0.1", str(port))
    read_only_goes_on_reading(own_redis, store, "(?i)readonly|read only")
    refused(lambda: store.destroy(SID))
    assert any(finding.topic == "role" for finding in store.backend.check(0.0))
    admin.replicaof("NO", "ONE")
    assert count(store) == 2


class Failover:
    """Two servers behind one address. Existing connections stay with the first one, which is demoted."""

    def __init__(self, first: RedisServer, second: RedisServer) -> None:
        self._first, self._second = first, second
        self._link = RoundTrips(first.port)
        self.url = f"redis://127.0.0.1:{self._link.port}/0"

    def happen(self) -> None:
        with redis.Redis(port=self._first.port) as first, redis.Redis(port=self._second.port) as second:
            first.config_set("repl-diskless-sync-delay", "0")
            second.replicaof("127.0.0.1", str(self._first.port))
            until(lambda: second.dbsize() == first.dbsize(), "the replica does not catch up")
            second.replicaof("NO", "ONE")
            self._link._server_port = self._second.port
            first.replicaof("127.0.0.1", "1" if self.cut_off else str(self._second.port))

    cut_off = False
    """Whether the demoted server does not find the other one."""

    def close(self) -> None:
        self._link.close()


@pytest.fixture
def failover(own_redis: RedisServer, tmp_path: Path) -> Iterator[Failover]:
    with RedisServer(tmp_path / "second") as second:
        made = Failover(own_redis, second)
        yield made
        made.close()


@pytest.mark.parametrize(
    ("work", "then"),
    [
        (count, 2),
        (lambda store: store.update(SID, "counter", lambda _: {"value": 9}), 9),
        (lambda store: count(store, OTHER), 1),
        (lambda store: store.reset(SID), 0),
        (lambda store: store.destroy(SID), 0),
        (lambda store: store.renew(Life(SID, store.uid(SID))), 1),
        (lambda store: store.hold(SID).release(), 1),
        (lambda store: store.expire(SID), 0),
    ],
    ids=["edit", "update", "begin", "reset", "destroy", "renew", "hold", "expire"],
)
def test_after_a_failover_a_write_goes_to_the_server_that_has_taken_over(
    failover: Failover, work: Callable[[SessionStore], object], then: int
) -> None:
    """The demoted server has refused the command, so nothing is done twice."""
    store = open_store(failover.url)
    count(store)
    store.backend._server.command("PING")  # type: ignore[attr-defined]
    failover.happen()
    assert value(store) == 1, "read on the demoted server"
    work(store)
    assert value(store) == then
    store.close()


def test_after_a_failover_a_read_notes_the_use_on_the_server_that_has_taken_over(failover: Failover) -> None:
    clock = Clock()
    store = open_store(failover.url, clock=clock, ttl=TTL)
    count(store)
    failover.happen()
    for _ in range(3):
        clock.advance(TTL * 0.9)
        assert store.lookup(SID).status == "live"
        clock.advance(TTL * 0.9)
        assert value(store) == 1
    assert open_store(failover.url, clock=clock, ttl=TTL).exists(SID)
    store.close()


def test_a_demoted_server_that_answers_nothing_is_left_at_once(failover: Failover, admin: redis.Redis) -> None:
    """Such a server says MASTERDOWN, also to a client that reads."""
    store = open_store(failover.url)
    count(store)
    admin.config_set("replica-serve-stale-data", "no")
    failover.cut_off = True
    failover.happen()
    assert value(store) == 1
    assert count(store) == 2
    store.close()


def test_a_writer_that_waits_through_a_failover_gets_its_claim(failover: Failover, admin: redis.Redis) -> None:
    store, waiting = open_store(f"{failover.url}?timeout=20"), open_store(f"{failover.url}?timeout=20")
    count(store)

    def work(number: int) -> None:
        if number:
            until(lambda: bool(admin.exists("{silo}:t:" + SID)), "there is no claim")
            count(waiting)
            return
        with store.edit(SID, "counter") as counter:
            until(lambda: bool(admin.keys("{silo}:w:*")), "no writer waits")
            until(lambda: int(admin.info("clients")["blocked_clients"]) == 1, "no writer waits")
            failover.happen()
            counter["value"] += 1

    in_threads(2, work)
    assert value(store) == 3
    store.close()
    waiting.close()


def test_connections_that_are_no_longer_needed_are_closed(
    own_redis: RedisServer, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(own_redis.url)
    many = threading.Barrier(20)

    def at_once(_number: int) -> None:
        server = store.backend._server  # type: ignore[attr-defined]
        connection = server._take()
        many.wait(30)
        server._give(connection)

    in_threads(20, at_once)
    before = len(admin.client_list())
    assert before > 20
    monkeypatch.setattr(connections, "IDLE", 0.0)
    for _ in range(20):
        store.exists(SID)
    until(lambda: len(admin.client_list()) <= before - 19, "they stay open")


def test_a_loss_seen_on_a_replica_is_noted_once_it_can_write(own_redis: RedisServer, admin: redis.Redis) -> None:
    store = open_store(own_redis.url)
    count(store)
    own_redis.flush()
    admin.replicaof("127.0.0.1", "1")
    assert store.find(SID) is None
    admin.replicaof("NO", "ONE")
    assert store.is_expired(SID)


def test_without_room_reads_go_on_and_no_session_is_forgotten(own_redis: RedisServer, admin: redis.Redis) -> None:
    clock = Clock()
    store = open_store(own_redis.url, clock=clock, ttl=TTL)
    expired: list[str] = []
    store.on_expire(expired.append)
    sids = [f"{number:032d}" for number in range(300)]
    for sid in sids:
        store.get(sid)
        clock.advance(0.1)
    clock.advance(TTL / 2)
    used = sids[::3]
    for sid in used:
        store.get(sid)
    count(store)
    admin.config_set("maxmemory-policy", "noeviction")
    admin.config_set("maxmemory", "1")
    read_only_goes_on_reading(own_redis, store, "(?i)oom|maxmemory")
    clock.advance(TTL / 2 + 1)
    assert value(store) == 1
    for _ in range(3):
        with suppress(StoreUnavailable):
            store.cleanup()
    assert expired == []
    admin.config_set("maxmemory", "0")
    due = sorted(set(sids) - set(used))
    assert sorted(store.cleanup()) == due
    assert sorted(expired) == due
    clock.advance(TTL + 1)
    store.cleanup()
    assert sorted(expired) == sorted([*sids, SID])
    assert (store.active_count, store.cleanup()) == (0, [])


def test_a_claim_that_is_granted_but_not_told_is_given_back(own_redis: RedisServer, admin: redis.Redis) -> None:
    """The loss of all sessions, which the process notices then, is no reason to keep a write lock for ever."""
    store = open_store(f"{own_redis.url}?lease=0.3")
    count(store)
    own_redis.flush()
    backend = store.backend
    assert isinstance(backend, RedisBackend)
    real = backend._server.run

    def run(script: Any, keys: tuple[str, ...], *arguments: Any) -> Any:
        reply = real(script, keys, *arguments)
        if "claim" in str(script.text) and isinstance(reply, list):
            admin.replicaof("127.0.0.1", "1")
        return reply

    backend._server.run = run  # type: ignore[method-assign]
    with suppress(StoreUnavailable):
        count(store)
    backend._server.run = real  # type: ignore[method-assign]
    admin.replicaof("NO", "ONE")
    until(lambda: not admin.exists("{silo}:t:" + SID), "the claim is renewed for ever")


# It is none


def serving(answer: bytes | None) -> tuple[socket.socket, threading.Thread]:
    """A server that answers whatever it reads with the same; None: with nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
                kept.append(connection)
                if answer is None:
                    continue
                if not answer:
                    connection.close()
                    continue
                while connection.recv(1 << 16):
                    connection.sendall(answer)
            except OSError:
                if listener.fileno() < 0:
                    break
        for connection in kept:
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return listener, thread


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b":x\r\n",
        b"$x\r\n",
        b"*x\r\n",
        b"$9\r\nabc\r\n",
        b"\xff\xff\r\n",
    ],
)
def test_what_is_no_redis_is_told(answer: bytes | None) -> None:
    listener, thread = serving(answer)
    try:
        store = open_store(f"redis://:secret@127.0.0.1:{listener.getsockname()[1]}/0?timeout=0.3")
        for work in (lambda: store.get(SID), lambda: store.peek(SID), lambda: count(store)):
            error = refused(work)
            assert "secret" not in str(error)
        assert [finding.level for finding in store.backend.check(0.0)] == ["error"]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(30)
    assert not thread.is_alive()


def test_a_closed_port_a_wrong_password_and_a_wrong_database_are_told(tmp_path: Path) -> None:
    if redis_binary() is None:
        pytest.skip("there is no redis-server")
    with RedisServer(tmp_path / "redis", "requirepass secret") as server:
        base = f"127.0.0.1:{server.port}"
        for url in (f"redis://{base}/0", f"redis://:wrong@{base}/0", f"redis://:secret@{base}/99"):
            store = open_store(url)
            for _ in range(2):
                error = refused(lambda store=store: store.get(SID))  # type: ignore[misc]
                assert "wrong@" not in str(error)
                assert "secret" not in str(error)
        assert count(open_store(f"redis://:secret@{base}/0")) == 1
    refused(lambda: open_store(f"redis://:secret@{base}/0").get(SID))


@pytest.mark.parametrize(
    "work",
    [
        lambda store: store.get(SID),
        count,
        lambda store: store.find(SID),
        lambda store: store.update(SID, "counter", lambda _: {"value": "x" * 100_000}),
    ],
    ids=["get", "edit", "find", "large"],
)
@pytest.mark.filterwarnings("ignore:.*lib_name.*:DeprecationWarning")
def test_a_server_that_wants_a_password_says_so_whatever_is_asked_first(
    tmp_path: Path, work: Callable[[SessionStore], object]
) -> None:
    """Redis takes a long command before the password for a breach of the protocol."""
    if redis_binary() is None:
        pytest.skip("there is no redis-server")
    with RedisServer(tmp_path / "redis", "requirepass secret") as server:
        for options in ("", "?lib_name=&lib_version="):  # some releases of redis-py ask something before
            store = SessionStore(backend=server.url + options)
            store.register_namespace("counter", lambda: {"value": 0})
            for _ in range(2):
                refused(lambda store=store: work(store), "Authentication required")  # type: ignore[misc]
            store.close()


def test_a_server_that_lacks_commands_is_told_without_an_id(tmp_path: Path) -> None:
    if redis_binary() is None:
        pytest.skip("there is no redis-server")
    words = ["EVAL", "EVALSHA", "GET"]
    with RedisServer(tmp_path / "redis", *[f'rename-command {word} ""' for word in words]) as server:
        store = open_store(server.url)
        for work in (lambda: store.get(SID), lambda: store.peek(SID), lambda: count(store)):
            refused(work, "unknown command")


# How it is named


def test_options_of_the_url() -> None:
    for option, said in {
        "tiemout=1": "tiemout",
        "timeout=x": "timeout must be a number of seconds",
        "timeout=0": "timeout and lease must be positive",
    }.items():
        with pytest.raises(ValueError, match=said):
            open_backend(f"redis://127.0.0.1:1/0?{option}")


def test_what_redis_py_would_take_from_the_url_does_not_change_how_it_works(redis_server: RedisServer) -> None:
    redis_server.flush()
    backend = RedisBackend.from_url(f"{redis_server.url}?decode_responses=true&socket_timeout=0.05&protocol=3")
    peer = RedisBackend.from_url(redis_server.url)
    claim, _ = peer.claim(SID, at(0.0), 1.0)
    with pytest.raises(LockTimeout):
        backend.claim(SID, at(0.0), 0.2)
    peer.release(claim)
    claim, record = backend.claim(SID, at(0.0), 1.0)
    backend.release(claim)
    assert record is None


def test_a_unix_socket(tmp_path: Path) -> None:
    if redis_binary() is None:
        pytest.skip("there is no redis-server")
    with tempfile.TemporaryDirectory() as short, RedisServer(tmp_path, unix_socket=Path(short, "s")) as server:
        assert count(open_store(f"unix://{server.unix_socket}")) == 1
        store = SessionStore(backend=f"{server.unix_url}&prefix=p&timeout=1")
        store.register_namespace("counter", lambda: {"value": 0})
        assert count(store) == 1
        assert os.path.basename(str(server.unix_socket)) == "s"  # noqa: PTH119


# It is used in a forked child


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_leaves_the_parents_claims_holds_and_connections_alone(redis_url: str) -> None:
    store = open_store(redis_url)
    count(store)
    lock = store.lock(SID)
    lock.take(30)
    session = store.open(SID, lock=lock)
    session["counter"]["value"] = 5
    lock.last_write = True
    hold = store.hold(SID)

    def work() -> None:
        with pytest.raises(LockLost):
            store.write_back(session, lock)
        lock.give_back()
        store.lock_timeout = 0.05
        with pytest.raises(LockTimeout):
            count(store)
        store.backend.unhold(hold.uid)
        assert store.backend.held(hold.uid)
        assert value(store) == 1
        assert count(store, OTHER) == 1
        with store.hold(OTHER):
            os._exit(0)

    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.backend.held(hold.uid)
    store.write_back(session, lock)
    lock.give_back()
    assert count(store) == 6
    hold.release()
