"""Threads that a view or a task starts have its session by ``copy_context().run``; without it, an error says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, copy_current_request_context, current_app, g, request
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo_helpers import HEADER, as_
from silo_store import WriteLock
from silo_store.testing import SID, in_threads

pytestmark = pytest.mark.slow

THREADS = 4

Run = Callable[[Callable[[], Any]], "Future[Any]"]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(THREADS) as pool:
        yield pool


@pytest.fixture
def run(pool: ThreadPoolExecutor) -> Run:
    return lambda function: pool.submit(copy_context().run, function)


def work_with_session(silo: Silo) -> None:
    with silo.edit("counter"):
        pass


@pytest.mark.parametrize(
    "ask",
    [lambda silo: silo.state("counter"), lambda silo: silo.sid, lambda silo: silo.reset_current(), work_with_session],
    ids=["state", "sid", "reset_current", "edit"],
)
@pytest.mark.parametrize("where", ["view", "task"])
def test_a_thread_without_the_context_is_told_what_it_lacks(
    app: Flask, client: FlaskClient, silo: Silo, pool: ThreadPoolExecutor, ask: Callable[[Silo], object], where: str
) -> None:
    def work() -> None:
        with pytest.raises(RuntimeError, match=r"thread.*contextvars\.copy_context\(\)\.run") as caught:
            pool.submit(ask, silo).result(30)
        assert "init_app()" in str(caught.value)
        assert "SILO_STORE_URL" in str(caught.value)

    task = silo.task(name="work")(work)

    @app.post("/api/work")
    def view() -> Any:
        silo.state("counter")
        if where == "view":
            work()
        else:
            task.start()
        return {}

    @app.get("/api/result")
    def result() -> Any:
        return {"value": task.result(30) if where == "task" else None}

    answer = client.post("/api/work")
    assert answer.status_code == 200
    assert client.get("/api/result", headers=as_(answer.headers[HEADER])).json == {"value": None}


def test_a_thread_without_an_application_is_told_what_it_lacks(app: Flask, silo: Silo) -> None:
    silo.init_app(Flask("other"))
    with pytest.raises(RuntimeError, match=r"thread.*contextvars\.copy_context\(\)\.run"):
        silo.store.get(SID)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("loaded", [True, False])
def test_a_thread_with_the_context_has_the_session(
    app: Flask, client: FlaskClient, silo: Silo, run: Run, tmp_path: Path, method: str, loaded: bool
) -> None:
    files = silo.add_file_store("uploads", tmp_path)
    seen: list[Any] = []

    @silo.task
    def later(number: int) -> int:
        return number

    @app.route("/api/work", methods=["GET", "POST"])
    def view() -> Any:
        def work() -> None:
            if method == "POST":
                silo.state("counter")["value"] += 1
            with silo.edit("counter") as counter:
                counter["value"] += 1
            files.save(silo.sid, "a.txt", b"hello")
            later.start(5)
            seen.extend([silo.sid, silo.state()["_meta"]["sid"], g.silo.sid, request.path, current_app.name])

        if loaded:
            silo.state("counter")
        run(work).result(30)
        return {"value": silo.state("counter")["value"]}

    @app.get("/api/result")
    def result() -> Any:
        return {"value": later.result(30)}

    client.post("/api/increment", headers=as_(SID))
    expected = {"value": 3 if method == "POST" else 2}
    assert client.open("/api/work", method=method, headers=as_(SID)).json == expected
    assert client.get("/api/count", headers=as_(SID)).json == expected
    assert seen == [SID, SID, SID, "/api/work", "counter"]
    assert files.list_files(SID) == ["a.txt"]
    assert client.get("/api/result", headers=as_(SID)).json == {"value": 5}
    assert not silo.store.locks.holders


def test_a_thread_of_asyncio_has_the_session_by_itself(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/work")
    async def view() -> Any:
        counter = await asyncio.to_thread(silo.state, "counter")
        counter["value"] += 1
        return {}

    assert client.post("/api/work", headers=as_(SID)).status_code == 200
    assert client.get("/api/count", headers=as_(SID)).json == {"value": 1}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_thread_with_a_copy_of_the_request_has_the_session(
    app: Flask, client: FlaskClient, silo: Silo, pool: ThreadPoolExecutor, method: str
) -> None:
    @app.route("/api/work", methods=["GET", "POST"])
    def view() -> Any:
        def work() -> str:
            with silo.edit("counter") as counter:
                counter["value"] += 1
            return silo.sid

        return {"sid": pool.submit(copy_current_request_context(work)).result(30)}

    assert client.open("/api/work", method=method, headers=as_(SID)).json == {"sid": SID}
    assert client.get("/api/count", headers=as_(SID)).json == {"value": 1}


def test_threads_of_many_requests_lose_no_update(app: Flask, client: FlaskClient, silo: Silo, run: Run) -> None:
    silo.register("lines", lambda: {"all": []})

    @app.post("/api/work")
    def view() -> Any:
        meet = threading.Barrier(THREADS)

        def work() -> None:
            meet.wait(30)
            silo.state("lines")["all"].append(silo.sid)

        for future in [run(work) for _ in range(THREADS)]:
            future.result(30)
        return {}

    one_at_a_time = threading.Lock()  # the pool has threads for one view

    def visit(_: int) -> None:
        mine = app.test_client()
        for _ in range(10):
            assert mine.post("/api/increment", headers=as_(SID)).status_code == 200
            with one_at_a_time:
                assert mine.post("/api/work", headers=as_(SID)).status_code == 200

    in_threads(3, visit)
    assert client.get("/api/count", headers=as_(SID)).json == {"value": 30}
    assert silo.store.get(SID)["lines"]["all"] == [SID] * 30 * THREADS
    assert not silo.store.locks.holders


def test_a_second_thread_of_a_view_does_not_pass_the_first_that_waits_for_the_write_lock(
    app: Flask, client: FlaskClient, silo: Silo, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, waiting, go_on, passed = WriteLock.take, threading.Event(), threading.Event(), threading.Event()
    taken: list[bool] = []

    def slow(lock: WriteLock, timeout: float) -> None:
        waiting.set()
        assert go_on.wait(30)
        take(lock, timeout)

    @app.post("/api/work")
    def view() -> Any:
        def second() -> None:
            silo.state("counter")
            taken.append(g.silo.lock.taken)
            passed.set()

        first = run(lambda: silo.state("counter"))
        assert waiting.wait(30)
        other = run(second)
        passed.wait(0.1)  # time for a mistake to show: correct code waits for the first thread
        go_on.set()
        assert first.result(30) is silo.state("counter")
        other.result(30)
        return {}

    monkeypatch.setattr(WriteLock, "take", slow)
    assert client.post("/api/work", headers=as_(SID)).status_code == 200
    assert taken == [True]
    assert not silo.store.locks.holders


def test_a_thread_that_outlives_the_response_saves_by_edit(
    app: Flask, client: FlaskClient, silo: Silo, run: Run
) -> None:
    answered = threading.Event()
    futures: list[Future[Any]] = []

    @app.post("/api/work")
    def view() -> Any:
        def work() -> str:
            assert answered.wait(30)
            with silo.edit("counter") as counter:
                counter["value"] += 1
            return silo.sid

        silo.state("counter")["value"] += 1
        futures.append(run(work))
        return {}

    sid = client.post("/api/work").headers[HEADER]
    assert client.get("/api/count", headers=as_(sid)).json == {"value": 1}
    answered.set()
    assert futures[0].result(30) == sid
    assert client.get("/api/count", headers=as_(sid)).json == {"value": 2}


def test_threads_of_a_task_have_its_session(app: Flask, client: FlaskClient, silo: Silo, run: Run) -> None:
    @silo.task
    def work() -> str:
        def add() -> str:
            with silo.edit("counter") as counter:
                counter["value"] += 1
            return silo.sid

        (sid,) = {future.result(30) for future in [run(add) for _ in range(20)]}
        return str(sid)

    @app.post("/api/start")
    def start() -> Any:
        silo.state("counter")
        work.start()
        return {}

    @app.get("/api/result")
    def result() -> Any:
        return {"value": work.result(30)}

    sid = client.post("/api/start").headers[HEADER]
    assert client.get("/api/result", headers=as_(sid)).json == {"value": sid}
    assert client.get("/api/count", headers=as_(sid)).json == {"value": 20}
