"""One application in many processes and threads, on a store that they share."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from children import Child
from flask import Flask, jsonify
from flask_silo import Silo
from servers import DEADLINE, HOST, Gunicorn, until
from serving import served
from silo_store import SessionExpired, SessionStore
from silo_store.testing import in_threads

pytestmark = pytest.mark.slow

SID = "a" * 32
OTHER = "b" * 32

gunicorn = pytest.mark.skipif(not hasattr(os, "fork"), reason="Gunicorn needs POSIX")

APP = """
import os, time
from pathlib import Path
from flask import Flask, jsonify
from flask_silo import Silo

FOLDER = Path(os.environ["FOLDER"])
app = Flask("counting")
silo = Silo(
    app,
    store_url=os.environ["STORE_URL"],
    cleanup_interval=0.1,
    data_endpoints=["/api/report"],
    accept_client_ids=True,
)
silo.register("counter", lambda: {"value": 0})
silo.register("text", lambda: {"value": ""})
silo.register("twin", lambda: {"value": ""})

@app.after_request
def named(response):
    response.headers["X-Pid"] = str(os.getpid())
    return response

@app.get("/")
def hello():
    return "hello"

@app.post("/api/increment")
def increment():
    counter = silo.state("counter")
    seen = counter["value"]
    time.sleep(0.001)
    counter["value"] = seen + 1
    return jsonify(counter)

@app.get("/api/count")
@app.get("/api/report", endpoint="report")
def count():
    return jsonify(silo.state("counter"))

@app.post("/api/hold")
def hold():
    silo.state("counter")["value"] += 100
    (FOLDER / "entered.part").write_text(str(os.getpid()))
    (FOLDER / "entered.part").rename(FOLDER / "entered")
    while not (FOLDER / "leave").exists():
        time.sleep(0.005)
    return {}

@app.post("/api/fail/<int:status>")
def fail(status):
    silo.state("counter")["value"] += 1000
    if status == 500:
        raise RuntimeError("on purpose")
    return {}, status

@app.post("/api/write/<letter>")
def write(letter):
    for name in ("text", "twin"):
        silo.state(name)["value"] = letter * 200_000
    return {}

@app.get("/api/whole")
def whole():
    state = silo.state()  # all at one moment: by name, these large namespaces may be of different commits
    text, twin = state["text"]["value"], state["twin"]["value"]
    return {"whole": text == twin and len(set(text)) == 1, "letter": text[:1]}

if os.environ.get("USE"):  # before any worker is forked
    client = app.test_client()
    for _ in range(3):
        assert client.post("/api/increment", headers={"X-Session-ID": "a" * 32}).status_code == 200
"""


class Client:
    """A client that keeps its connection."""

    def __init__(self, port: int, sid: str = SID) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=DEADLINE)
        self._sid = sid
        self.pid = 0

    def ask(self, method: str, path: str) -> tuple[int, Any]:
        """Return the status and the body, whose ``pid`` is that of the worker that answered."""
        self._connection.request(method, path, headers={"X-Session-ID": self._sid})
        answer = self._connection.getresponse()
        body = answer.read()
        self.pid = int(answer.headers.get("X-Pid", 0))
        return answer.status, json.loads(body) if answer.headers.get_content_type() == "application/json" else body

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()


def ask(server: Gunicorn, method: str, path: str, sid: str = SID) -> tuple[int, Any]:
    with Client(server.port, sid) as client:
        return client.ask(method, path)


def asked_of_all(server: Gunicorn, path: str) -> list[tuple[int, Any]]:
    """Return the answer of each worker. Opens connections until each worker has answered."""
    answers: dict[int, tuple[int, Any]] = {}

    def all_have() -> bool:
        with Client(server.port) as client:
            answer = client.ask("GET", path)
            answers.setdefault(client.pid, answer)
        return set(server.worker_pids()) <= set(answers)

    until(all_have, f"not every worker answers: {answers}")
    return list(answers.values())


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Gunicorn]:
    (tmp_path / "counting.py").write_text(APP)

    def start(url: str, *args: str, workers: int = 2, **env: str) -> Gunicorn:
        words = [f"--workers={workers}", "--threads=8", "--worker-class=gthread", "--keep-alive=30", *args]
        variables = {"STORE_URL": url, "FOLDER": str(tmp_path), **env}
        server = Gunicorn("counting:app", *words, folder=tmp_path / "log", cwd=tmp_path, env=variables)
        until(lambda: len(server.worker_pids()) == workers, "a worker does not start")
        return server

    return start


def short_lease(url: str) -> str:
    return f"{url}?lease=1" if url.startswith("redis") else url


def open_store(url: str) -> SessionStore:
    store = SessionStore(backend=url)
    store.register_namespace("counter", lambda: {"value": 0})
    return store


@contextmanager
def held(server: Gunicorn, folder: Path) -> Iterator[int]:
    """Let a request hold the session's write lock during the block; yield the pid of its worker."""

    def hold() -> None:
        with suppress(OSError, http.client.HTTPException):  # the worker of the request may be killed
            ask(server, "POST", "/api/hold")

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        until((folder / "entered").exists, "the request that takes the write lock does not arrive")
        yield int((folder / "entered").read_text())
    finally:
        (folder / "leave").touch()
        thread.join(DEADLINE)
    assert not thread.is_alive()


@gunicorn
def test_no_increment_is_lost_among_workers(shared_url: str, serve: Callable[..., Gunicorn]) -> None:
    with serve(shared_url, "--threads=16") as server:  # of which half may wait: as many as there are clients

        def many(number: int) -> None:
            with Client(server.port) as client:
                for lock in range(200):
                    assert client.ask("POST", "/api/increment")[0] == 200
                    if lock % 20 == number:
                        assert client.ask("GET", "/api/count")[0] == 200

        in_threads(8, many)
        assert [body["value"] for _, body in asked_of_all(server, "/api/count")] == [1600, 1600]


@gunicorn
def test_reads_are_answered_while_a_writer_has_the_write_lock(
    shared_url: str, serve: Callable[..., Gunicorn], tmp_path: Path
) -> None:
    with serve(shared_url) as server:
        assert ask(server, "POST", "/api/increment")[0] == 200
        with held(server, tmp_path):
            assert asked_of_all(server, "/api/count") == [(200, {"value": 1})] * 2
            assert asked_of_all(server, "/api/report") == [(200, {"value": 1})] * 2
            assert ask(server, "POST", "/api/increment", OTHER) == (200, {"value": 1})
            for _ in range(20):
                assert ask(server, "GET", "/api/count") == (200, {"value": 1})
        assert asked_of_all(server, "/api/count") == [(200, {"value": 101})] * 2


@gunicorn
def test_an_application_made_and_used_before_the_fork(any_url: str, serve: Callable[..., Gunicorn]) -> None:
    """It has connections, locks and threads that a worker must not use as its own."""
    workers = 1 if any_url.startswith("memory") else 2
    with serve(any_url, "--preload", workers=workers, USE="1") as server:

        def many(_: int) -> None:
            with Client(server.port) as client:
                for _ in range(25):
                    assert client.ask("POST", "/api/increment")[0] == 200

        in_threads(4, many)
        assert asked_of_all(server, "/api/count") == [(200, {"value": 103})] * workers


@gunicorn
def test_every_worker_knows_what_has_expired(shared_url: str, serve: Callable[..., Gunicorn]) -> None:
    with serve(shared_url) as server:
        assert ask(server, "POST", "/api/increment")[0] == 200
        assert asked_of_all(server, "/api/report") == [(200, {"value": 1})] * 2
        store = open_store(shared_url)
        assert store.expire(SID)
        assert [status for status, _ in asked_of_all(server, "/api/report")] == [410, 410]
        assert ask(server, "POST", "/api/increment") == (200, {"value": 1})
        assert asked_of_all(server, "/api/report") == [(200, {"value": 1})] * 2
        store.close()


@gunicorn
def test_a_view_that_fails_saves_nothing(shared_url: str, serve: Callable[..., Gunicorn]) -> None:
    with serve(shared_url) as server:
        assert ask(server, "POST", "/api/increment")[0] == 200
        for status in (500, 503, 500):
            assert ask(server, "POST", f"/api/fail/{status}")[0] == status
        assert ask(server, "POST", "/api/fail/404")[0] == 404
        assert asked_of_all(server, "/api/count") == [(200, {"value": 1001})] * 2


@gunicorn
def test_a_worker_that_is_killed_in_a_view_saves_nothing_and_does_not_block_others_for_long(
    shared_url: str, serve: Callable[..., Gunicorn], tmp_path: Path
) -> None:
    with serve(short_lease(shared_url)) as server:
        assert ask(server, "POST", "/api/increment")[0] == 200
        with held(server, tmp_path) as pid:
            os.kill(pid, signal.SIGKILL)
            until(lambda: pid not in server.worker_pids(), "the worker does not die")
            assert ask(server, "POST", "/api/increment") == (200, {"value": 2})
        until(lambda: len(server.worker_pids()) == 2, "no worker takes its place")
        assert asked_of_all(server, "/api/count") == [(200, {"value": 2})] * 2


@gunicorn
def test_a_kill_while_state_is_saved_tears_nothing(shared_url: str, serve: Callable[..., Gunicorn]) -> None:
    with serve(short_lease(shared_url)) as server:
        stop = threading.Event()
        written = []

        def write(number: int) -> None:
            while not stop.is_set():
                with suppress(OSError, http.client.HTTPException), Client(server.port) as client:
                    while not stop.is_set():
                        assert client.ask("POST", f"/api/write/{'xy'[number]}")[0] == 200
                        written.append(number)

        def kill(_: int) -> None:
            try:
                for _ in range(3):
                    before = len(written)
                    until(lambda before=before: len(written) > before + 5, "no request writes")  # type: ignore[misc]
                    pid = server.worker_pids()[0]
                    os.kill(pid, signal.SIGKILL)
                    until(lambda pid=pid: pid not in server.worker_pids(), "the worker does not die")  # type: ignore[misc]
                    status, body = ask(server, "GET", "/api/whole")
                    assert (status, body["whole"]) == (200, True)
            finally:
                stop.set()

        in_threads(3, lambda number: write(number) if number < 2 else kill(number))
        until(lambda: len(server.worker_pids()) == 2, "no worker takes its place")
        answers = asked_of_all(server, "/api/whole")
        assert [body["whole"] for _, body in answers] == [True, True]
        assert len({body["letter"] for _, body in answers}) == 1


# Threads of one process


def counting_app(url: str) -> tuple[Flask, Silo]:
    app = Flask("counting")
    silo = Silo(app, store_url=url, auto_cleanup=False, accept_client_ids=True)
    silo.register("counter", lambda: {"value": 0})

    @app.post("/api/increment")
    def increment() -> Any:
        counter = silo.state("counter")
        counter["value"] += 1
        return jsonify(counter)

    return app, silo


def by_edit(app: Flask, silo: Silo) -> None:
    for _ in range(200):
        with silo.store.edit(SID, "counter") as counter:
            counter["value"] += 1


def by_update(app: Flask, silo: Silo) -> None:
    for _ in range(200):
        silo.store.update(SID, "counter", lambda counter: {"value": counter["value"] + 1})


def by_post(app: Flask, silo: Silo) -> None:
    client = app.test_client()
    for _ in range(200):
        assert client.post("/api/increment", headers={"X-Session-ID": SID}).status_code == 200


@pytest.mark.parametrize("way", [by_edit, by_update, by_post])
def test_no_increment_is_lost_among_threads(any_url: str, way: Callable[[Flask, Silo], None]) -> None:
    app, silo = counting_app(any_url)
    in_threads(8, lambda _: way(app, silo))
    assert silo.store.get(SID)["counter"]["value"] == 1600
    silo.store.close()


def test_no_increment_is_lost_on_a_threaded_server(any_url: str) -> None:
    app, silo = counting_app(any_url)
    with served(app) as port:

        def many(_: int) -> None:
            for _ in range(50):
                with Client(port) as client:
                    assert client.ask("POST", "/api/increment")[0] == 200

        in_threads(8, many)
    assert silo.store.get(SID)["counter"]["value"] == 400
    silo.store.close()


# Late writers

LATE = """
store = open_store(sys.argv[1])
session = store.open(sys.argv[2])
session["counter"]["value"] = 99
hold = store.hold(sys.argv[2]) if sys.argv[3] == "held" else None
say("read")
hear()
for late in (
    lambda: store.save(session.sid, session),
    lambda: store.open(session.sid, session.uid),
    lambda: store.edit(session.sid, uid=session.uid).__enter__(),
):
    try:
        late()
    except SessionExpired:
        say("over")
    else:
        say("revived")
if hold:
    hold.release()
say(store.exists(session.sid))
"""


@pytest.mark.parametrize("end", ["reset", "destroy", "expire"])
def test_a_late_writer_revives_nothing(shared_url: str, end: str) -> None:
    store, peer = open_store(shared_url), open_store(shared_url)
    with store.edit(SID, "counter") as counter:
        counter["value"] = 1
    late = peer.open(SID)
    late["counter"]["value"] = 99
    with Child(LATE, shared_url, SID, "held" if end != "expire" else "") as child:
        assert child.hear() == "read"
        getattr(store, end)(SID)
        child.tell()
        assert [child.hear() for _ in range(4)] == ["over", "over", "over", str(end == "reset")]
    with pytest.raises(SessionExpired):
        peer.save(SID, late)
    with pytest.raises(SessionExpired), peer.edit(SID, uid=late.uid):
        pass
    for each in (store, peer):
        assert each.exists(SID) is (end == "reset")
        assert each.is_expired(SID) is (end == "expire")
    assert peer.get(SID)["counter"]["value"] == 0
    for each in (store, peer):
        each.close()
