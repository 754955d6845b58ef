"""The records of a session's tasks, which are stored beside its state."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask_silo import TaskState
from flask_silo.tasks import records as records_module
from flask_silo.tasks.records import TaskRecords, stored_run
from server_fixtures import redis_server, redis_url
from silo_store import Life, MemoryBackend, SessionConflict, SessionStore
from silo_store.testing import SID, TTL, Clock
from silo_tasks import RunChange, StoredRun, TaskStore
from silo_tasks.stores.stored_run import LEASE
from silo_tasks.testing import TaskStoreContract
from store_urls import urls

__all__ = ["redis_server", "redis_url"]


url = urls("memory://?copy=1", "sqlite", "redis")


class Owners(TaskStore):
    """A store of any owner's tasks: each owner gets a session."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._sids: dict[str, str] = {}
        self._lock = threading.Lock()

    def _of(self, owner: str) -> tuple[TaskRecords, str]:
        with self._lock:
            sid = self._sids.setdefault(owner, self._store.generate_sid())
            uid = self._store.get(sid).uid
        return TaskRecords(self._store, sid), uid

    def look(self, owner: str, name: str) -> tuple[StoredRun | None, float]:
        records, uid = self._of(owner)
        return records.look(uid, name)

    def change(self, owner: str, name: str, change: RunChange) -> bool:
        records, uid = self._of(owner)
        return records.change(uid, name, change)


class TestTaskRecords(TaskStoreContract):
    @pytest.fixture(autouse=True)
    def sessions(self, url: str) -> Iterator[None]:
        self.store = SessionStore(backend=url)
        yield
        self.store.close()

    def make_store(self) -> TaskStore:
        return Owners(self.store)


@pytest.fixture
def store(clock: Clock) -> SessionStore:
    return SessionStore(backend="memory://?copy=1", clock=clock, ttl=TTL)


@pytest.fixture
def uid(store: SessionStore) -> str:
    return store.get(SID).uid


@pytest.fixture
def records(store: SessionStore) -> TaskRecords:
    return TaskRecords(store, SID)


RUNNING = TaskState(running=True, message="At work").to_dict()
DONE = TaskState(complete=True, progress=100.0).to_dict()


def test_a_run_that_gives_no_sign_of_life_is_lost(records: TaskRecords, uid: str, clock: Clock) -> None:
    records.begin(uid, "job", "a", RUNNING, expect=None)
    clock.advance(LEASE)
    assert (records.read(uid, "job") or ("", {}))[1]["running"]
    clock.advance(1)
    token, record = records.read(uid, "job") or ("", {})
    state = TaskState.from_dict(record)
    assert (token, state.running, state.status.value, state.error_type) == ("a", False, "failed", "TaskLost")
    assert state.error == "lost: its process has ended or cannot reach the store"
    assert records.publish(uid, "job", "a", RUNNING), "it was only late"
    assert (records.read(uid, "job") or ("", {}))[1]["running"]


def test_the_end_of_a_run_is_not_undone(records: TaskRecords, uid: str) -> None:
    records.begin(uid, "job", "a", RUNNING, expect=None)
    assert records.publish(uid, "job", "a", DONE)
    assert records.settled.is_set()
    assert records.publish(uid, "job", "a", RUNNING)
    assert records.read(uid, "job") == ("a", DONE)


def test_a_flag_stays_up_when_the_record_is_replaced(records: TaskRecords, uid: str) -> None:
    records.begin(uid, "job", "a", RUNNING, expect=None)
    assert records.request_cancel(uid, "job", "a")
    assert records.request_cancel(uid, "job", "a")
    assert records.publish(uid, "job", "a", RUNNING)
    assert records.cancel_requested(uid, "job", "a")


def test_it_follows_the_session_and_ends_with_it(records: TaskRecords, uid: str, store: SessionStore) -> None:
    records.begin(uid, "job", "a", RUNNING, expect=None)
    new = store.rotate(store.rotate(SID))
    assert records.publish(uid, "job", "a", DONE)
    assert TaskRecords(store, SID).read(uid, "job") == ("a", DONE)
    store.reset(new)
    assert records.read(uid, "job") is None
    assert not records.publish(uid, "job", "a", RUNNING)
    assert records.cancel_requested(uid, "job", "a")
    assert store.attached(SID, uid) is None


def test_what_was_stopped_with_its_process_is_lost(
    records: TaskRecords, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exiting = threading.Event()
    exiting.set()
    monkeypatch.setattr(records_module, "_exiting", exiting)
    cancelled = TaskState.from_dict({"status": "cancelled", "steps": [{"name": "One", "status": "running"}]})
    for flag, error in ((False, "TaskLost"), (True, None)):
        before = records.token
        assert records.begin(uid, "job", f"run {flag}", RUNNING, expect=before)
        if flag:
            records.request_cancel(uid, "job", f"run {flag}")
        assert records.publish(uid, "job", f"run {flag}", cancelled.to_dict())
        state = TaskState.from_dict((records.read(uid, "job") or ("", {}))[1])
        assert (state.error_type, state.steps[0].status) == (error, "running" if flag else "failed")


def test_lone_halves_of_characters_do_no_harm(records: TaskRecords, uid: str) -> None:
    odd = {**RUNNING, "message": "\ud800", "n": 2**80}
    assert records.begin(uid, "job", "a", odd, expect=None)
    assert records.read(uid, "job") == ("a", odd)


class Contested(MemoryBackend):
    def attach(self, life: Life, *rest: Any, **more: Any) -> None:
        raise SessionConflict(life.sid)


def test_a_record_that_others_change_all_the_time_is_given_up(clock: Clock) -> None:
    store = SessionStore(backend=Contested(copy=True), clock=clock)
    session = store.get(SID)
    with pytest.raises(SessionConflict):
        TaskRecords(store, SID).begin(session.uid, "job", "a", RUNNING, expect=None)


def test_the_record_is_json_beside_the_namespaces(store: SessionStore, records: TaskRecords, uid: str) -> None:
    records.begin(uid, "job", "a", RUNNING, expect=None)
    record = store.attached(SID)
    assert record is not None
    assert json.loads(record["task:job"].data)["record"] == RUNNING
    stored = stored_run(record, "job")
    assert isinstance(stored, StoredRun)
    assert stored_run(record, "other") is None
