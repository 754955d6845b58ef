"""Damage beside a record: large namespaces that are kept apart from it, and what is attached to the session."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from silo_store import Change, Life, RecordDamaged, SessionStore, StateDecodeError
from silo_store.testing import SID, TTL, Clock

Damage = Callable[[str], None]
"""Called with the uid of the session."""

CUT = "data = CAST(substr(data, 1, length(data) - 1) AS BLOB)"
APART = ("missing", "text", "a number", "cut", "no version", "another version", "another name")
ATTACHED = ("text", "a number", "no version")
APART_REDIS = ("missing", "no field", "a string", "a list", "cut", "short", "another version")
ATTACHED_REDIS = ("a string", "short", "a name of bytes")

SQLITE = {
    "missing": "DELETE FROM {} WHERE name = 'large' OR name = 'task'",
    "text": "UPDATE {} SET data = 'some text'",
    "a number": "UPDATE {} SET data = 7",
    "cut": f"UPDATE {{}} SET {CUT}",
    "no version": "UPDATE {} SET version = 'x'",
    "another version": "UPDATE {} SET version = 77",
    "another name": "UPDATE {} SET name = 'other'",
}


def damage_redis(url: str, key: str, field: str, kind: str) -> None:
    with redis.Redis.from_url(url) as client:
        value = client.hget(key, field)
        assert isinstance(value, bytes)
        if kind in ("missing", "a string", "a list"):
            client.delete(key)
        if kind == "a string":
            client.set(key, "x")
        elif kind == "a list":
            client.rpush(key, "x")
        elif kind == "no field":
            client.hdel(key, field)
            client.hset(key, "other", value)
        elif kind == "a name of bytes":
            client.hset(key, b"\xff", value)
        elif kind != "missing":
            new = {"cut": value[:-1], "short": value[:2], "another version": b"\0\0\0\x4d" + value[4:]}[kind]
            client.hset(key, field, new)


def damage_sqlite(path: Path, table: str, kind: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute(SQLITE[kind].format(table)).rowcount == 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(url: str, clock: Clock) -> SessionStore:
    store = SessionStore(backend=url, clock=clock, ttl=TTL, expired_retain=100)
    store.register_namespace("small", lambda: {"value": 0})
    store.register_namespace("large", lambda: {"text": ""})
    store.update(SID, "large", lambda _: {"text": "x" * 20_000})
    uid = store.uid(SID)
    assert uid is not None
    store.attach(Life(SID, uid), "task", Change(0, b"first"))
    return store


@pytest.fixture
def place(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[tuple[SessionStore, Damage]]:
    """Return a store with a session, and a function that damages what is beside its record."""
    backend, table, kind = request.param
    if backend == "redis":
        url = request.getfixturevalue("redis_url")
        prefix, field = ("l", "large") if table == "apart" else ("a", "task")
        damage: Damage = lambda uid: damage_redis(url, f"{{silo}}:{prefix}:{uid}", field, kind)  # noqa: E731
    else:
        path = tmp_path / "sessions.db"
        url = f"sqlite:///{quote(str(path))}"
        damage = lambda _: damage_sqlite(path, table, kind)  # noqa: E731
    store = opened(url, clock)
    yield store, damage
    store.close()


def cases(table: str, sqlite: tuple[str, ...], in_redis: tuple[str, ...]) -> pytest.MarkDecorator:
    every = [("sqlite", table, kind) for kind in sqlite] + [("redis", table, kind) for kind in in_redis]
    return pytest.mark.parametrize("place", every, indirect=True, ids=[" ".join(each) for each in every])


def uid_of(store: SessionStore) -> str:
    uid = store.uid(SID)
    assert uid is not None
    return uid


@cases("apart", APART, APART_REDIS)
def test_a_large_namespace_that_is_damaged_fails_its_callers_alone(place: tuple[SessionStore, Damage]) -> None:
    store, damage = place
    damage(uid_of(store))
    asks: tuple[Callable[[str], object], ...] = (store.get, store.find, store.peek)
    for ask in asks:
        with pytest.raises(RecordDamaged):
            ask(SID)
    session = store.find(SID, lazy=True)
    assert session is not None
    try:
        session["large"]
    except StateDecodeError:
        with pytest.raises(StateDecodeError):
            store.update(SID, "large", lambda _: {"text": "new"})
    assert session["small"] == {"value": 0}
    store.update(SID, "small", lambda _: {"value": 1})
    assert store.get_namespace(SID, "small") == {"value": 1}


@cases("apart", APART, APART_REDIS)
@pytest.mark.parametrize("size", [1, 30_000])
def test_a_damaged_large_namespace_is_replaced_or_refused(place: tuple[SessionStore, Damage], size: int) -> None:
    store, damage = place
    damage(uid_of(store))
    try:
        with store.edit(SID, lazy=True) as session:
            session["large"] = {"text": "y" * size}
    except RecordDamaged:
        store.destroy(SID)
    else:
        assert store.get(SID)["large"] == {"text": "y" * size}


@cases("apart", APART, APART_REDIS)
def test_a_session_with_a_damaged_large_namespace_ends(place: tuple[SessionStore, Damage], clock: Clock) -> None:
    """A reset, an end and a sweep work, whether or not a busy check asks for the state."""
    store, damage = place
    store.set_busy_check(lambda _sid, session: "never" in session)
    for end in (store.reset, store.destroy, store.expire):
        store.update(SID, "large", lambda _: {"text": "x" * 20_000})
        damage(uid_of(store))
        end(SID)
        assert store.get(SID)["large"] == {"text": ""}
        store.destroy(SID)
    store.update(SID, "large", lambda _: {"text": "x" * 20_000})
    damage(uid_of(store))
    clock.advance(TTL + 1)
    assert store.cleanup() == [SID]


@cases("attached", ATTACHED, ATTACHED_REDIS)
def test_what_is_attached_and_damaged_is_reported(place: tuple[SessionStore, Damage]) -> None:
    store, damage = place
    life = Life(SID, uid_of(store))
    damage(life.uid)
    with pytest.raises(RecordDamaged):
        store.attached(SID)
    with pytest.raises(RecordDamaged):
        store.attached(SID, life.uid)
    assert store.get(SID)["small"] == {"value": 0}
    store.reset(SID)
    record = store.attached(SID)
    assert record is not None
    assert not record


@pytest.mark.parametrize("place", [("redis", "attached", "a string")], indirect=True)
def test_attach_refuses_to_write_beside_damaged_data(place: tuple[SessionStore, Damage]) -> None:
    store, damage = place
    life = Life(SID, uid_of(store))
    damage(life.uid)
    with pytest.raises(RecordDamaged):
        store.attach(life, "task", Change(1, b"second"))


@cases("apart", APART, ())
def test_the_health_check_counts_a_damaged_large_namespace(place: tuple[SessionStore, Damage], clock: Clock) -> None:
    store, damage = place
    (finding,) = [each for each in store.backend.check(clock()) if each.topic == "records"]
    assert finding.level == "ok"
    damage(uid_of(store))
    (finding,) = [each for each in store.backend.check(clock()) if each.topic == "records"]
    assert finding.message.startswith("1 of 1 records are damaged")
