"""``max_waiters``: requests that wait for one session leave threads of the server to other clients."""

from __future__ import annotations

import http.client
import json
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo.request.waiting import Waiting, most_waiters, waiters
from flask_silo_helpers import HEADER, as_
from server_fixtures import redis_server, redis_url
from servers import DEADLINE, Gunicorn, until
from silo_store import SessionStore
from store_urls import urls
from werkzeug.test import TestResponse

__all__ = ["redis_server", "redis_url"]


@pytest.mark.parametrize(
    ("threads", "wanted", "streams", "most"),
    [
        (2, None, 0, 0),
        (3, None, 0, 1),
        (4, None, 0, 2),
        (4, None, 1, 1),
        (9, None, 0, 4),
        (1000, None, 0, 500),
        (8, 0, 0, 0),
        (8, 3, 0, 3),
        (8, 50, 0, 6),
        (8, None, 4, 2),
        (8, None, 7, 0),
        (None, None, 0, 4),
        (None, 9, 50, 9),
        (1, None, 0, None),
        (1, 3, 0, 3),
    ],
)
def test_a_thread_is_left(threads: int | None, wanted: int | None, streams: int, most: int | None) -> None:
    assert most_waiters(threads, wanted, streams) == most


url = urls("memory://", "memory://?copy=1", "sqlite", "redis")


@pytest.fixture
def silo(url: str) -> Iterator[Silo]:
    silo = Silo(store_url=url, auto_cleanup=False, max_waiters=0, lock_timeout=100 * DEADLINE)
    silo.register("counter", lambda: {"value": 0})
    yield silo
    silo.store.close()
    assert waiters.taken == 0


def begin(client: FlaskClient) -> str:
    return client.post("/api/increment").headers[HEADER]


@pytest.fixture
def sid(client: FlaskClient) -> str:
    return begin(client)


def is_refused(answer: TestResponse) -> bool:
    if answer.status_code != 503:
        return False
    assert answer.get_json()["error"] == "session_locked"
    assert int(answer.headers["Retry-After"]) > 0
    return True


def in_another_thread(app: Flask, sid: str, method: str = "POST", path: str = "/api/increment") -> TestResponse:
    """Make a request in another thread, which does not share the write lock of this one."""
    answers: list[TestResponse] = []
    client = app.test_client()
    thread = threading.Thread(target=lambda: answers.append(client.open(path, method=method, headers=as_(sid))))
    thread.start()
    thread.join(DEADLINE)
    assert answers, "the request waits"
    return answers[0]


def test_a_request_that_may_not_wait_is_answered_at_once(app: Flask, client: FlaskClient, silo: Silo, sid: str) -> None:
    with silo.store.lock(sid) as lock:
        lock.take(1)
        assert is_refused(in_another_thread(app, sid))
        assert in_another_thread(app, sid, "GET", "/api/count").get_json() == {"value": 1}
    assert client.post("/api/increment", headers=as_(sid)).get_json()["value"] == 2, "a free write lock is no wait"


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
def test_a_request_that_may_not_wait_for_another_process_is_answered_at_once(
    app: Flask, client: FlaskClient, silo: Silo, sid: str, url: str
) -> None:
    other = SessionStore(backend=url)
    other.register_namespace("counter", lambda: {"value": 0})
    with other.edit(sid, "counter") as counter:
        for _ in range(3):
            assert is_refused(in_another_thread(app, sid))
        counter["value"] += 10
    assert client.post("/api/increment", headers=as_(sid)).get_json()["value"] == 12
    with other.edit(sid, "counter"):
        pass  # the refused requests have left no lock behind
    other.close()


def test_a_place_is_free_again_when_the_wait_is_over(app: Flask, silo: Silo, sid: str) -> None:
    silo.store.locks.waiting = Waiting(2)
    answers: queue.SimpleQueue[TestResponse] = queue.SimpleQueue()
    for _ in range(2):
        threads = [threading.Thread(target=lambda: answers.put(in_another_thread(app, sid))) for _ in range(4)]
        with silo.store.lock(sid) as lock:
            lock.take(1)
            for thread in threads:
                thread.start()
            for _ in range(2):
                assert is_refused(answers.get(timeout=DEADLINE))
            assert waiters.taken == 2
        for thread in threads:
            thread.join(DEADLINE)
        assert [answers.get(timeout=DEADLINE).status_code for _ in range(2)] == [200, 200]
        assert waiters.taken == 0
    assert silo.store.get(sid)["counter"]["value"] == 5


def test_a_wait_that_ends_in_a_timeout_gives_its_place_back(app: Flask, silo: Silo, sid: str) -> None:
    silo.store.locks.waiting = Waiting(1)
    silo.store.lock_timeout = 0.01
    with silo.store.lock(sid) as lock:
        lock.take(1)
        for _ in range(3):
            assert is_refused(in_another_thread(app, sid))
            assert waiters.taken == 0


def test_a_task_waits_without_taking_a_place(app: Flask, client: FlaskClient, silo: Silo) -> None:
    enter = threading.Event()

    @silo.task
    def work() -> None:
        enter.wait(DEADLINE)
        with silo.edit("counter") as counter:
            counter["value"] += 10

    app.add_url_rule("/api/work", view_func=lambda: work.start() or {}, methods=["POST"])  # type: ignore[func-returns-value]
    sid = begin(client)
    assert client.post("/api/work", headers=as_(sid)).status_code == 200
    with silo.store.lock(sid) as lock:
        lock.take(1)
        enter.set()
        until(lambda: lock.queue is not None, "the task does not wait")
    until(lambda: client.get("/api/tasks/work", headers=as_(sid)).get_json()["complete"], "the task has failed")
    assert silo.store.get(sid)["counter"]["value"] == 11


def test_waiting_for_a_result_takes_a_place(app: Flask, client: FlaskClient, silo: Silo) -> None:
    end = threading.Event()

    @silo.task
    def work() -> int:
        end.wait(DEADLINE)
        return 7

    app.add_url_rule("/api/work", view_func=lambda: work.start() or {}, methods=["POST"])  # type: ignore[func-returns-value]

    @app.get("/api/result")
    def result() -> Any:
        return {"value": work.result()}

    @app.get("/api/ready")
    def ready() -> Any:
        try:
            return {"value": work.result(0)}
        except TimeoutError:
            return {"value": None}

    sid = begin(client)
    client.post("/api/work", headers=as_(sid))
    assert is_refused(client.get("/api/result", headers=as_(sid)))
    assert client.get("/api/ready", headers=as_(sid)).get_json() == {"value": None}, "this look does not wait"
    silo.store.locks.waiting = silo.binding.waiting = Waiting(1)
    answers: queue.SimpleQueue[TestResponse] = queue.SimpleQueue()
    waiting = threading.Thread(target=lambda: answers.put(in_another_thread(app, sid, "GET", "/api/result")))
    waiting.start()
    until(lambda: waiters.taken == 1, "the request does not wait")
    assert is_refused(client.get("/api/result", headers=as_(sid)))
    end.set()
    assert answers.get(timeout=DEADLINE).get_json() == {"value": 7}
    waiting.join()
    silo.binding.waiting = Waiting(0)
    until(lambda: client.get("/api/tasks/work", headers=as_(sid)).get_json()["complete"], "the task goes on")
    assert client.get("/api/result", headers=as_(sid)).get_json() == {"value": 7}


def test_the_setting_comes_from_the_config_and_is_checked() -> None:
    app = Flask("config")
    app.config["SILO_MAX_WAITERS"] = 0
    silo = Silo(auto_cleanup=False)
    silo.register("counter", lambda: {"value": 0})
    silo.init_app(app)
    assert silo.binding.settings.max_waiters == 0
    for wrong in (-1, 1.5, "2", True):
        with pytest.raises(ValueError, match="max_waiters must"):
            Silo(Flask("wrong"), max_waiters=wrong)  # type: ignore[arg-type]


# On a server

PARALLEL = 40


Found = tuple[int, dict[str, Any], http.client.HTTPResponse]


def ask(port: int, method: str, path: str, sid: str | None = None) -> Found:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3 * DEADLINE)
    try:
        connection.request(method, path, headers=as_(sid) if sid else {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Gunicorn and pipes need POSIX")
@pytest.mark.parametrize(
    ("workers", "threads", "most"), [(1, 8, 4), (1, 4, 2), (2, 8, 4)], ids=["8 threads", "4 threads", "2 workers"]
)
def test_parallel_requests_of_one_client_leave_the_server_to_others(
    workers: int, threads: int, most: int, tmp_path: Path
) -> None:
    for name in ("held", "leave"):
        os.mkfifo(tmp_path / name)
    env = {"PIPES": str(tmp_path), "LOCKED_SILO_STORE_URL": f"sqlite:///{tmp_path / 'sessions.db'}"}
    env["LOCKED_SILO_LOCK_TIMEOUT"] = "600"
    args = (f"--workers={workers}", f"--threads={threads}", "--graceful-timeout=1", "--timeout=600")
    here, found = Path(__file__).parent / "support", queue.SimpleQueue[Found]()
    with Gunicorn(
        "locked_app:application()", *args, folder=tmp_path / "server", cwd=here, env=env, path="/api/count"
    ) as server:
        port = server.port
        sid = ask(port, "POST", "/api/increment")[2].headers[HEADER]
        holder = threading.Thread(target=lambda: found.put(ask(port, "POST", "/api/hold", sid)))
        holder.start()
        (tmp_path / "held").open().close()
        others = [
            threading.Thread(target=lambda: found.put(ask(port, "POST", "/api/increment", sid)))
            for _ in range(PARALLEL - 1)
        ]
        for thread in others:
            thread.start()
        refused = [found.get(timeout=DEADLINE) for _ in range(PARALLEL - 1 - workers * most)]
        for status, body, answer in refused:
            assert (status, body["error"], answer.headers["Retry-After"]) == (503, "session_locked", "1")
        for _ in range(3):  # of another client, while the session is still held and waited for
            assert ask(port, "POST", "/api/increment")[:2] == (200, {"value": 1})
        assert ask(port, "GET", "/api/count", sid)[:2] == (200, {"value": 1})
        assert holder.is_alive()
        (tmp_path / "leave").open("w").close()
        for thread in (holder, *others):
            thread.join(DEADLINE)
        rest = [found.get(timeout=DEADLINE)[0] for _ in range(PARALLEL - len(refused))]
        written = rest.count(200)
        assert 2 <= written <= 1 + workers * most
        assert set(rest) <= {200, 503}
        assert ask(port, "GET", "/api/count", sid)[1] == {"value": 1 + written}
        if workers == 1:
            assert written == 1 + most
