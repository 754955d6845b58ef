"""Storages of release 0.1 still work."""

from __future__ import annotations

import json
from typing import Any

import pytest
from silo_store import Backend, InMemoryStorage, Moment, SessionBusy, SessionExpired, SessionStore, StorageBackend
from silo_store.testing import SID, TTL, BackendContract, Clock, in_threads


class JsonStorage(InMemoryStorage):
    """Keeps text, as a storage outside the process would."""

    def get_session(self, sid: str) -> dict[str, Any] | None:
        text: Any = super().get_session(sid)
        return None if text is None else json.loads(text)

    def set_session(self, sid: str, data: dict[str, Any]) -> None:
        super().set_session(sid, json.dumps(data))  # type: ignore[arg-type]

    def all_sessions(self) -> list[tuple[str, dict[str, Any]]]:
        return [(sid, self.get_session(sid) or {}) for sid in self.all_sids()]


@pytest.fixture(params=[InMemoryStorage, JsonStorage])
def storage(request: pytest.FixtureRequest) -> InMemoryStorage:
    made: InMemoryStorage = request.param()
    return made


@pytest.fixture
def store(storage: InMemoryStorage, clock: Clock) -> SessionStore:
    store = SessionStore(storage=storage, ttl=TTL, clock=clock)
    store.register_namespace("counter", lambda: {"value": 0})
    return store


def test_state_is_kept_in_the_storage(store: SessionStore, storage: InMemoryStorage) -> None:
    with store.edit(SID, "counter") as counter:
        counter["value"] = 5
    kept = storage.get_session(SID)
    assert kept is not None
    assert kept["counter"] == {"value": 5}
    assert kept["_meta"]["sid"] == SID
    assert store.get(SID)["counter"] == {"value": 5}
    assert store.storage is storage


def test_no_update_is_lost(store: SessionStore) -> None:
    in_threads(4, lambda _: [store.update(SID, "counter", add) for _ in range(50)])
    assert store.get(SID)["counter"] == {"value": 200}


def add(state: dict[str, int]) -> dict[str, int]:
    return {"value": state["value"] + 1}


def test_expiry_busy_and_late_writers_are_as_elsewhere(store: SessionStore, clock: Clock) -> None:
    told: list[str] = []
    store.on_expire(told.append)
    store.set_busy_check(lambda sid, session: session["counter"]["value"] == 1)
    store.update(SID, "counter", add)
    clock.advance(TTL + 1)
    assert store.cleanup() == []
    with pytest.raises(SessionBusy):
        store.reset(SID)
    session = store.get(SID)
    store.update(SID, "counter", add)
    clock.advance(TTL + 1)
    assert store.cleanup() == told == [SID]
    assert store.is_expired(SID)
    with pytest.raises(SessionExpired):
        store.save(SID, session)
    assert not store.exists(SID)


def test_a_session_written_by_release_0_1_is_taken_over(
    store: SessionStore, storage: InMemoryStorage, clock: Clock
) -> None:
    meta = {"created_at": clock.now, "last_active": clock.now, "sid": SID}
    storage.set_session(SID, {"counter": {"value": 4}, "_meta": meta})
    assert store.update(SID, "counter", add) == {"value": 5}
    assert store.uid(SID) == store.get(SID).uid != ""


class TestAdapter(BackendContract):
    """The contract, but for what the old interface cannot say: when exactly an id expired."""

    def make_backend(self) -> Backend:
        return StorageBackend(InMemoryStorage())

    def test_expiring_leaves_a_tombstone_and_an_ended_life(self) -> None:
        backend = self.make_backend()
        life = (self.begin(backend).sid, "uid-1")
        backend.expire([], Moment(100.0, 60.0))
        backend.expire(next(backend.due(Moment(100.0, 60.0))), Moment(100.0, 60.0))
        assert backend.expired_at("sid-a") is not None
        assert [*map(tuple, backend.ended())] == [life]


def test_who_only_read_writes_nothing_back(store: SessionStore) -> None:
    store.register_namespace("other", list)
    session = store.open(SID)
    store.update(SID, "counter", add)
    store.save(SID, session)
    session["other"].append(1)
    store.save(SID, session)
    assert store.get(SID) == {"counter": {"value": 1}, "other": [1]}
