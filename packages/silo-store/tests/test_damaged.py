"""A damaged record is an error for callers that ask for its session, and stops no sweep."""

from __future__ import annotations

import logging
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from counting import count, open_store
from servers import RedisServer
from silo_store import (
    Life,
    LockTimeout,
    RecordDamaged,
    SessionConflict,
    SessionExpired,
    SessionStore,
    StateDecodeError,
)
from silo_store.testing import SID, TTL, Clock, in_threads

OTHERS = [f"{number:032d}" for number in range(300)]
KEY = "{silo}:s:"

Damage = Callable[[str], None]


class Place:
    """Where sessions are, and how to damage them."""

    url: str
    kinds: dict[str, Any]

    def damage(self, sid: str, kind: str) -> None:
        raise NotImplementedError


class InRedis(Place):
    def __init__(self, server: RedisServer) -> None:
        self.url = server.url
        self.client = redis.Redis.from_url(server.url)

    def damage(self, sid: str, kind: str) -> None:
        key = KEY + sid
        data = self.client.get(key)
        assert isinstance(data, bytes)
        head = 22 + data[21]
        with self.client.pipeline() as all_at_once:
            if kind == "a list":
                all_at_once.delete(key)
                all_at_once.rpush(key, "x")
            else:
                new = {
                    "empty": b"",
                    "short": b"x",
                    "half a head": data[:20],
                    "half a uid": data[: head - 1],
                    "no uid": data[:21] + b"\0" + data[head:],
                    "a uid of other bytes": data[:22] + b"\xff" + data[23:],
                    "no number": struct.pack(">d", float("nan")) + data[8:],
                    "no beginning": data[:8] + struct.pack(">d", float("inf")) + data[16:],
                    "cut": data[:-1],
                    "cut in a head": data[: head + 3],
                    "too long": data + b"x",
                    "a name of other bytes": data[: head + 8] + b"\xff" + data[head + 9 :],
                }[kind]
                all_at_once.set(key, new)
            all_at_once.pexpire(key, 1_000_000_000)
            all_at_once.execute()


class InSQLite(Place):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{quote(str(path))}"

    def damage(self, sid: str, kind: str) -> None:
        change = {
            "no state": "state = X''||X'00'",
            "text": "state = 'some text'",
            "a number": "state = 7",
            "cut": "state = CAST(substr(state, 1, length(state) - 1) AS BLOB)",
            "too long": "state = CAST(state || X'00' AS BLOB)",
            "a uid of bytes": "uid = X'00'",
            "a uid of other bytes": "uid = CAST(X'ff' AS TEXT)",
            "no number": "active = 'x'",
            "no beginning": "created = 9e999",
            "no revision": "revision = 'x'",
        }[kind]
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            assert connection.execute(f"UPDATE sessions SET {change} WHERE sid = ?", (sid,)).rowcount == 1


REDIS = (
    *("empty", "short", "half a head", "half a uid", "no uid", "a uid of other bytes", "no number", "no beginning"),
    *("cut", "cut in a head", "too long", "a name of other bytes", "a list"),
)
SQLITE = (
    *("no state", "text", "a number", "cut", "too long", "a uid of bytes", "a uid of other bytes", "no number"),
    *("no beginning", "no revision"),
)
WITH_A_UID = {
    "cut",
    "cut in a head",
    "too long",
    "a name of other bytes",
    "no state",
    "text",
    "a number",
    "no revision",
}
"""Kinds of damage that leave the life's uid readable."""


@pytest.fixture(params=[*[("redis", kind) for kind in REDIS], *[("sqlite", kind) for kind in SQLITE]], ids=" ".join)
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def place(kind: tuple[str, str], request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if kind[0] == "sqlite":
        yield InSQLite(tmp_path / "sessions.db")
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    server.flush()
    made = InRedis(server)
    yield made
    made.client.close()


@pytest.fixture
def damage(place: Place, kind: tuple[str, str]) -> Damage:
    return lambda sid: place.damage(sid, kind[1])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(place: Place, clock: Clock) -> Iterator[SessionStore]:
    made = open_store(place.url, clock=clock, ttl=TTL, expired_retain=100)
    yield made
    made.close()


def test_who_asks_for_it_gets_an_error_and_can_end_it(
    store: SessionStore, damage: Damage, kind: tuple[str, str], clock: Clock
) -> None:
    ends: list[tuple[str, str, str]] = []
    store.on_end(lambda *end: ends.append(end))
    for end, reason in ((store.reset, "reset"), (store.destroy, "destroyed"), (store.expire, "destroyed")):
        count(store)
        count(store, OTHERS[0])
        uid = store.uid(SID)
        ends.clear()
        damage(SID)
        for ask in (
            lambda: store.get(SID),
            lambda: store.find(SID),
            lambda: store.lookup(SID),
            lambda: store.peek(SID),
            lambda: count(store),
            lambda: store.update(SID, "counter", lambda _: {"value": 7}),
            lambda: store.rotate(SID),
        ):
            with pytest.raises(StateDecodeError) as caught:
                ask()
            assert SID not in str(caught.value)
            assert isinstance(caught.value, RecordDamaged)
        assert store.is_expired(SID) is False
        store.touch(SID)
        clock.advance(1)
        end(SID)
        assert ends == ([(SID, uid, reason)] if kind[1] in WITH_A_UID else [])
        assert store.exists(SID) is (reason == "reset")
        assert store.get(SID)["counter"] == {"value": 0}
        assert count(store) == 1
        assert count(store, OTHERS[0]) > 1
        store.destroy(SID)


def test_a_sweep_goes_on_and_says_so_once(
    place: Place, damage: Damage, clock: Clock, caplog: pytest.LogCaptureFixture, kind: tuple[str, str]
) -> None:
    """Those of its bucket and of later ones end, whether or not a busy check wants to see them."""
    store = open_store(place.url, clock=clock, ttl=TTL, expired_retain=100)
    store.set_busy_check(lambda _sid, session: session["counter"]["value"] > 5)
    expired: list[str] = []
    store.on_expire(expired.append)
    for number, sid in enumerate(OTHERS):
        if number == 100:
            count(store)
        count(store, sid)
        clock.advance(0.1)
    damage(SID)
    clock.advance(TTL + 1)
    with caplog.at_level(logging.WARNING, "silo_store"):
        for _ in range(3):
            store.cleanup()
            clock.advance(10)
    assert set(OTHERS) <= set(expired)
    if kind[1] not in WITH_A_UID:
        assert SID not in expired
        said = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
        assert len(said) == 1
        assert SID[:6] in said[0]
    assert SID not in caplog.text
    store.close()


def test_the_health_check_counts_it(store: SessionStore, damage: Damage, clock: Clock) -> None:
    for sid in (SID, *OTHERS[:3]):
        count(store, sid)
    (finding,) = [each for each in store.backend.check(clock()) if each.topic == "records"]
    assert finding.level == "ok"
    for sid in (SID, OTHERS[1]):
        damage(sid)
    (finding,) = [each for each in store.backend.check(clock()) if each.topic == "records"]
    assert finding.level == "error"
    assert finding.message.startswith("2 of 4 records are damaged")
    assert SID not in finding.message
    assert SID in store.backend.sids()


def test_what_was_loaded_before_is_refused_or_replaces_it(store: SessionStore, damage: Damage) -> None:
    count(store)
    session = store.get(SID)
    session["counter"]["value"] = 9
    damage(SID)
    try:
        store.save(SID, session)
    except (RecordDamaged, SessionExpired, SessionConflict):
        store.destroy(SID)
        assert count(store) == 1
    else:  # the damaged state was replaced by the state as it was read, with the change
        assert count(store) == 10


def test_its_write_lock_is_free_again(store: SessionStore, damage: Damage) -> None:
    """A writer that waits for the lock while the record is damaged gets it too."""
    count(store)
    damaged = threading.Event()
    failed: list[int] = []

    def work(number: int) -> None:
        if number == 0:
            try:
                with store.edit(SID, "counter") as counter:
                    counter["value"] += 1
                    damage(SID)
                    damaged.set()
            except (RecordDamaged, SessionExpired, SessionConflict):
                failed.append(number)
            return
        assert damaged.wait(30)
        try:
            assert count(store) == 3
        except RecordDamaged:
            failed.append(number)

    if type(store.backend).__name__ == "RedisBackend":
        in_threads(2, work)
        assert sorted(failed) in ([0, 1], []), "the first writer is refused, or replaces the damaged state"
    else:
        damage(SID)
        with pytest.raises(RecordDamaged):
            count(store)
    store.lock_timeout = 1
    store.destroy(SID)
    try:
        assert count(store) == 1
    except LockTimeout:
        pytest.fail("its write lock is taken for ever")


def test_lives_are_found_beside_it(store: SessionStore, damage: Damage, kind: tuple[str, str]) -> None:
    for sid in (SID, OTHERS[0]):
        count(store, sid)
    uid = store.uid(OTHERS[0])
    assert uid is not None
    damage(SID)
    assert store.has_life(uid)
    assert not store.has_life("none")
    assert store.living(["none", uid]) == {uid}
    assert not store.backend.remove(Life(OTHERS[0], "")), "that one is whole"
    assert store.backend.peek(OTHERS[0]) is not None
    if kind[1] not in WITH_A_UID:  # which leave the head as it was
        with pytest.raises(RecordDamaged):
            store.attached(SID)


def test_an_ended_life_that_cannot_be_read_keeps_no_other_from_being_told(
    redis_url: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(redis_url, clock=clock, ttl=TTL, expired_retain=100)
    expired: list[str] = []
    store.on_expire(expired.append)
    count(store)
    with redis.Redis.from_url(redis_url) as client:
        client.zadd("{silo}:ended", {b"\xff": 0, "one two three": 0})
        clock.advance(TTL + 1)
        for _ in range(3):
            store.cleanup()
        assert expired == [SID]
        assert client.zcard("{silo}:ended") == 0
    assert "damaged" in caplog.text
    store.close()
