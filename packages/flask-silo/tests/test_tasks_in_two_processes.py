"""Tasks of a session that several processes share. An application of its own stands for each process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, jsonify, stream_with_context
from flask_silo import Silo, TaskState, current_task, track
from flask_silo.tasks import runs as runs_module
from flask_silo_helpers import HEADER, as_, counter_app
from server_fixtures import redis_server, redis_url
from silo_store import Backend, Life, MemoryBackend, Moment, StoreUnavailable, short
from silo_store.testing import SID, TTL, Clock
from silo_tasks import BackgroundTask, InlineRunner, QueueFull
from silo_tasks.stores.stored_run import LEASE
from store_urls import urls

__all__ = ["redis_server", "redis_url"]

pytestmark = pytest.mark.slow

WAIT = 30.0


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
    return seen


url = urls("memory://?copy=1", "sqlite", "redis")


class Worker:
    """One process that serves the application."""

    def __init__(self, backend_url: str | Backend, clock: Clock) -> None:
        url = backend_url if isinstance(backend_url, str) else "memory://?copy=1"
        self.silo = Silo(ttl=TTL, store_url=url, auto_cleanup=False, clock=clock, accept_client_ids=True)
        self.silo.register("counter", lambda: {"value": 0})
        self.app = counter_app(self.silo)
        if not isinstance(backend_url, str):
            _share(self.silo, backend_url)
        self.entered, self.leave = threading.Event(), threading.Event()
        self.client = self.app.test_client()
        self._views(self.silo, self.app)

    def _views(self, silo: Silo, app: Flask) -> None:
        @silo.task(name="job")
        def work(times: int) -> int:
            task = current_task()
            assert task is not None
            task.log("begun")
            self.entered.set()
            for _ in track(range(times)):
                while not self.leave.wait(0.005):
                    task.checkpoint()
            with silo.edit("counter") as counter:
                counter["value"] += times
            return times

        self.task = work

        @app.post("/api/start/<int:times>")
        def start(times: int) -> Any:
            work.start(times)
            return {}, 202

        @app.get("/api/task")
        def state() -> Any:
            return jsonify(work.state.to_dict())

        @app.get("/api/both")
        def both() -> Any:
            counter = silo.state("counter")["value"]
            return {"counter": counter, "task": work.state.to_dict(), "again": work.state.to_dict()}

        @app.post("/api/cancel")
        def cancel() -> Any:
            return {"cancelled": work.cancel()}

        @app.get("/api/task/result")
        def result() -> Any:
            return {"result": work.result(WAIT)}

        @app.get("/api/here")
        def here() -> Any:
            return {"here": isinstance(work.task, runs_module.HostedTask)}

        @app.post("/api/reset")
        def reset() -> Any:
            silo.reset_current()
            return {}

        @app.post("/api/rotate")
        def rotate() -> Any:
            return silo.rotate()

    def ask(self, method: str, path: str, sid: str = SID) -> Any:
        answer = self.client.open(path, method=method, headers=as_(sid))
        assert answer.is_json, answer.text
        return answer.json

    def state(self, sid: str = SID) -> TaskState:
        return TaskState.from_dict(self.ask("GET", "/api/task", sid))


def _share(silo: Silo, backend: Backend) -> None:
    store = silo.store
    store.backend = store.locks.backend = backend
    store._sessions._backend = store._editor._backend = backend  # type: ignore[attr-defined]


@pytest.fixture
def two(url: str, clock: Clock) -> Iterator[tuple[Worker, Worker]]:
    where: str | Backend = MemoryBackend(copy=True) if url.startswith("memory") else url
    workers = Worker(where, clock), Worker(where, clock)
    yield workers
    for worker in workers:
        worker.leave.set()
        for tasks in list(worker.silo.binding.runs._tasks.values()):
            for task in list(tasks.values()):
                assert task.wait(WAIT)
        worker.silo.store.close()


Two = tuple[Worker, Worker]


def test_a_task_whose_session_another_process_ends_is_cancelled(two: Two, caplog: pytest.LogCaptureFixture) -> None:
    one, other = two
    one.ask("POST", "/api/start/1")
    assert one.entered.wait(WAIT)
    uid = one.silo.store.uid(SID)
    work = one.silo.binding.runs.find(uid, "job")
    assert work is not None
    other.ask("POST", "/api/reset")
    # It does not read the store in between, which would cancel it.
    one.leave.set()
    assert work.wait(WAIT)
    assert work.state.status == "cancelled"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_task_is_seen_in_another_process(two: Two) -> None:
    one, other = two
    assert one.ask("POST", "/api/start/4") == {}
    assert other.state().running
    assert until(lambda: other.state().logs == ["begun"])
    assert other.ask("POST", "/api/start/1")["error"] == "task_running"
    assert one.ask("POST", "/api/start/1")["error"] == "task_running"
    assert one.ask("GET", "/api/here") == {"here": True}
    assert other.ask("GET", "/api/here") == {"here": False}
    one.leave.set()
    assert one.ask("GET", "/api/task/result") == {"result": 4}
    # A caller that has the result knows that every process sees the end.
    for worker in two:
        state = worker.state()
        assert (state.complete, state.progress, state.name, state.n) == (True, 100.0, "job", 4)
        assert worker.ask("GET", "/api/count") == {"value": 4}
    assert other.ask("POST", "/api/cancel") == {"cancelled": False}
    assert other.ask("GET", "/api/task/result") == {"result": 4}


def test_the_newest_run_counts_wherever_it_is(two: Two) -> None:
    one, other = two
    for times, worker in enumerate([one, other, other, one], 1):
        worker.leave.set()
        assert worker.ask("POST", f"/api/start/{times}") == {}
        assert worker.ask("GET", "/api/task/result") == {"result": times}
        assert [each.state().n for each in two] == [times, times]
        assert one.ask("GET", "/api/here") == {"here": worker is one}
    assert one.ask("GET", "/api/count") == {"value": 10}


def test_a_run_that_ends_while_a_view_is_at_work_does_not_refuse_the_next(two: Two) -> None:
    one, other = two

    @other.app.get("/api/slow")
    def slow() -> Any:
        other.silo.state("counter")
        one.leave.set()
        assert one.ask("GET", "/api/task/result") == {"result": 4}
        other.leave.set()
        other.task.start(2)
        return {}

    one.ask("POST", "/api/start/4")
    assert other.ask("GET", "/api/slow") == {}
    assert other.ask("GET", "/api/task/result") == {"result": 2}


def test_a_task_is_cancelled_from_another_process(two: Two) -> None:
    one, other = two
    one.ask("POST", "/api/start/4")
    assert one.entered.wait(WAIT)
    assert other.ask("POST", "/api/cancel") == {"cancelled": True}
    until(lambda: not other.state().running)
    assert other.state().status.value == one.state().status.value == "cancelled"
    assert other.ask("POST", "/api/cancel") == {"cancelled": False}
    other.leave.set()
    other.ask("POST", "/api/start/2")
    assert other.ask("GET", "/api/task/result") == {"result": 2}


@pytest.mark.parametrize("how", ["reset", "destroyed"])
def test_the_end_of_a_session_in_another_process_ends_its_task(two: Two, how: str) -> None:
    one, other = two
    one.ask("POST", "/api/start/4")
    assert one.entered.wait(WAIT)
    (work,) = one.silo.binding.runs._tasks[one.silo.store.uid(SID) or ""].values()
    if how == "reset":
        other.ask("POST", "/api/reset")
    else:
        other.silo.store.destroy(SID)
    assert work.wait(WAIT)
    assert work.state.status.value == "cancelled"
    assert one.state().status.value == other.state().status.value == "idle"
    assert other.ask("GET", "/api/count") == {"value": 0}


def test_a_task_follows_a_rotation_in_another_process(two: Two) -> None:
    one, other = two
    one.ask("POST", "/api/start/3")
    assert one.entered.wait(WAIT)
    new = other.client.post("/api/rotate", headers=as_(SID)).headers[HEADER]
    one.leave.set()
    until(lambda: not other.state(new).running)
    assert other.state(new).complete
    assert other.ask("GET", "/api/count", new) == {"value": 3}
    assert one.state(SID).status.value == "idle"


def test_a_lost_task_can_be_started_again_and_the_late_one_gives_up(
    two: Two, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = two
    one.ask("POST", "/api/start/1")
    assert one.entered.wait(WAIT)
    (late,) = one.silo.binding.runs._tasks[one.silo.store.uid(SID) or ""].values()
    assert late.records is not None
    # As if its process were suspended: it reports nothing.
    real, late.records.change = late.records.change, lambda *_: True  # type: ignore[method-assign]
    clock.advance(LEASE + 1)
    assert not [record for record in caplog.records if "is lost" in record.getMessage()]
    for _ in range(3):
        assert other.state().error_type == "TaskLost"
    (lost,) = [record for record in caplog.records if "is lost" in record.getMessage()]
    run = (late.records.token or "")[:8]
    assert (lost.levelname, lost.getMessage()) == (
        "WARNING",
        f"Task 'job' of session {short(SID)} (run {run}) is lost: no sign of life for {LEASE + 1:.0f} seconds: its "
        "process has ended or cannot reach the store",
    )
    assert one.state().running, "its own process knows better"
    other.leave.set()
    assert other.ask("POST", "/api/start/5") == {}
    assert other.ask("GET", "/api/task/result") == {"result": 5}
    late.records.change = real  # type: ignore[method-assign]
    assert late.wait(WAIT)
    assert late.state.status.value == "cancelled"
    assert one.state().n == 5
    assert one.ask("GET", "/api/count") == {"value": 5}


class Counted(MemoryBackend):
    def __init__(self) -> None:
        super().__init__(copy=True)
        self.reads = 0
        self.away = False

    def load(self, sid: str, at: Moment) -> Any:
        self.reads += 1
        return super().load(sid, at)

    def peek(self, sid: str) -> Any:
        self.reads += 1
        if self.away:
            raise StoreUnavailable("the store is away")
        return super().peek(sid)

    def attached(self, sid: str, at: Moment | None = None) -> Any:
        self.reads += 1
        if self.away:
            raise StoreUnavailable("the store is away")
        return super().attached(sid, at)


def test_a_request_looks_up_what_it_uses_and_nothing_more(clock: Clock) -> None:
    backend = Counted()
    one, other = Worker(backend, clock), Worker(backend, clock)
    one.leave.set()
    one.ask("POST", "/api/start/1")
    one.ask("GET", "/api/task/result")

    def cost(path: str) -> int:
        before = backend.reads
        other.ask("GET", path)
        return backend.reads - before

    # The last record may still be stored once more.
    for path, times in (("/api/count", 1), ("/api/task", 1), ("/api/both", 3)):
        until(lambda: cost(path) == times)  # noqa: B023 - called at once; who asks again wants to know what is new


def test_a_store_that_is_away_stops_no_task(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    backend = Counted()
    worker = Worker(backend, clock)
    worker.ask("POST", "/api/start/1")
    assert worker.entered.wait(WAIT)
    (work,) = worker.silo.binding.runs._tasks[worker.silo.store.uid(SID) or ""].values()
    with caplog.at_level(logging.ERROR, "silo_tasks"):
        backend.away = True
        until(lambda: "could not be stored" in caplog.text)
        work.cancel()
        assert work.wait(WAIT)
        backend.away = False
        until(lambda: worker.state().status.value == "cancelled")
    assert caplog.text.count("The record of task 'job' could not be stored") == 1


def test_a_store_that_is_away_when_a_task_ends_is_one_line_in_the_log(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(MemoryBackend(copy=True), clock)

    def away(*_: object) -> bool:
        raise StoreUnavailable("the store is away")

    worker.ask("POST", "/api/start/1")
    assert worker.entered.wait(WAIT)
    monkeypatch.setattr(worker.silo.store.backend, "touch", away)
    worker.leave.set()
    until(lambda: "the store is away" in caplog.text)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == f"session {short(SID)} was not renewed when its task 'job' ended: the store is away"


def test_a_store_that_is_away_when_a_worker_is_done_does_not_fail_the_run(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(MemoryBackend(copy=True), clock)
    worker.leave.set()
    store, executor = worker.silo.store, worker.silo.binding.runs.executor
    uid = store.get(SID).uid

    def away(*_: object) -> bool:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(store.backend, "touch", away)
    life, call = Life(SID, uid), worker.task.call((3,), {})
    task = BackgroundTask("job", runner=InlineRunner())
    task.start(lambda task: executor.execute_sent(task, life, call))
    assert task.result() == 3
    assert not store.backend.held(uid)
    assert "was not renewed when its task 'job' ended: the store is away" in caplog.text


def test_a_process_keeps_few_finished_tasks(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "MAX_FINISHED", 3)
    worker = Worker(MemoryBackend(copy=True), clock)
    worker.leave.set()
    tasks = worker.silo.binding.runs._tasks
    for number in range(8):
        worker.ask("POST", "/api/start/1", f"{number}" * 32)
        worker.ask("GET", "/api/task/result", f"{number}" * 32)
    until(lambda: len(tasks) == 3)
    assert worker.state("0" * 32).complete
    assert worker.state("7" * 32).complete
    worker.ask("POST", "/api/start/1", "7" * 32)
    worker.ask("GET", "/api/task/result", "7" * 32)


def test_a_stream_sees_what_is_new(two: Two) -> None:
    one, other = two

    @other.app.get("/api/stream")
    def stream() -> Any:
        other.silo.state("counter")

        def lines() -> Iterator[str]:
            while (state := other.task.state).running:
                one.leave.set()
                yield state.status.value + "\n"
            yield state.status.value + "\n"

        return other.app.response_class(stream_with_context(lines()))

    one.ask("POST", "/api/start/1")
    lines = other.client.get("/api/stream", headers=as_(SID)).text.split()
    assert lines[0] in ("queued", "running")
    assert lines[-1] == "succeeded"


def test_a_start_can_be_watched_in_its_own_request(two: Two) -> None:
    one, _ = two
    seen: list[Any] = []

    @one.app.post("/api/whole")
    def whole() -> Any:
        counter = one.silo.state("counter")
        seen.append(one.task.state.status.value)
        one.task.start(2)
        seen.append(one.task.state.status.value)
        assert one.task.state.message == "Waiting for a thread"
        one.silo.commit()
        seen.append(one.task.state.running)
        assert one.task.cancel()
        return {"value": counter["value"]}

    one.ask("POST", "/api/whole")
    assert seen == ["idle", "queued", True]
    assert until(lambda: one.state().status.value == "cancelled")


def test_a_task_that_cannot_begin_leaves_nothing_behind(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    silo = Silo(store_url=url, auto_cleanup=False)
    app = counter_app(silo)

    @silo.task
    def refused() -> None: ...

    @app.post("/api/refused")
    def begin() -> str:
        refused.start()
        return ""

    def full(*_: Any, **__: Any) -> None:
        raise QueueFull(1)

    monkeypatch.setattr(runs_module.HostedTask, "start", full)
    for _ in range(3):
        assert app.test_client().post("/api/refused").status_code == 503
    assert not silo.binding.runs._tasks
    silo.store.close()
