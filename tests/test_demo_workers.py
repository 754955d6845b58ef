"""The demo under Gunicorn with four workers, which share sessions in SQLite or Redis."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from demo_client import DEMO, SMALL
from server_fixtures import redis_server, redis_url
from servers import DEADLINE, Gunicorn, until

__all__ = ["redis_server", "redis_url"]

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="Gunicorn needs POSIX"), pytest.mark.slow]

WORKERS = 4
QUESTION = {"by": "city", "how": "sum", "value": "size"}
SUMS = [["Oslo", 2, 7.0], ["Rome", 1, 5.0]]

# The demo, which says who answers, and whose work waits at its third step for a file.
GATED = """
import os, sys, time
sys.path.insert(0, os.environ["DEMO"])
import flask_silo.tasks.records
import processing
from app import create_app
from silo_tasks import current_task, default_runner

flask_silo.tasks.records.TaskRecords.lease = float(os.environ.get("LOST_AFTER", "15"))
default_runner().drain_timeout = 0
aggregate = processing.aggregate

def gated(*args):
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.005)
        current_task().checkpoint()
    return aggregate(*args)

processing.aggregate = gated
app = create_app()

@app.after_request
def say_who(response):
    response.headers["X-Worker"] = os.getpid()
    return response
"""


class Answer(NamedTuple):
    status: int
    worker: str
    sid: str | None
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Line:
    """A connection that stays open, so that one worker answers all of its requests."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=DEADLINE)
        self.worker = self.ask("GET", "/api/status").worker

    def ask(self, method: str, path: str, sid: str | None = None, body: bytes | None = None) -> Answer:
        headers = {"X-Session-ID": sid} if sid else {}
        if body is not None and path != "/api/upload":
            headers["Content-Type"] = "application/json"
        self._connection.request(method, path if path != "/api/upload" else "/api/upload?name=data.csv", body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        worker, sid = answer.getheader("X-Worker"), answer.getheader("X-Session-ID")
        assert worker is not None, text
        return Answer(answer.status, worker, sid, text)

    def close(self) -> None:
        self._connection.close()


class Site:
    """A server with one connection to each of its workers."""

    def __init__(self, server: Gunicorn) -> None:
        self.server = server
        self._lines: dict[str, Line] = {}
        until(lambda: len(server.worker_pids()) == WORKERS, "a worker does not start")
        until(self._reach_more, "a worker never answers")
        self.lines = list(self._lines.values())
        assert {int(line.worker) for line in self.lines} == set(server.worker_pids())

    def _reach_more(self) -> bool:
        """Open many connections at once, so that a busy worker leaves some of them to other workers."""
        found: list[Line] = []
        threads = [threading.Thread(target=lambda: found.append(Line(self.server.url))) for _ in range(2 * WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        for line in found:
            if self._lines.setdefault(line.worker, line) is not line:
                line.close()
        return len(self._lines) == WORKERS

    def each(self, path: str, sid: str) -> list[Answer]:
        return [line.ask("GET", path, sid) for line in self.lines]

    def close(self) -> None:
        for line in self.lines:
            line.close()


class Demo:
    """The demo on one store. It can be started several times."""

    def __init__(self, folder: Path, store_url: str, *args: str) -> None:
        self._folder = folder
        self._args = args
        self.gate = folder / "gate"
        self.data = folder / "data"
        (folder / "gated.py").write_text(GATED)
        self._env = {
            "DEMO": str(DEMO),
            "DEMO_DATA_DIR": str(self.data),
            "GATE": str(self.gate),
            "SILO_STORE_URL": store_url,
        }
        self._sites = ExitStack()
        self.site = self.start()

    def start(self, **env: str) -> Site:
        # A worker of Gunicorn 23 sees SIGTERM within a second. Killed by then, it would not record the tasks it leaves.
        args = [f"--workers={WORKERS}", "--threads=8", "--keep-alive=75", "--graceful-timeout=5", *self._args]
        server = Gunicorn("gated:app", *args, folder=self._folder / "log", cwd=self._folder, env={**self._env, **env})
        self._sites.enter_context(server)
        self.site = Site(server)
        self._sites.callback(self.site.close)
        return self.site

    def restart(self, *, kill: bool = False, **env: str) -> None:
        self.site.close()
        if kill:
            self.site.server.kill()
        else:
            self.site.server.stop()
        self.start(**env)

    def close(self) -> None:
        self.gate.touch()
        self._sites.close()

    def ask(self, worker: int, method: str, path: str, sid: str | None = None, **given: Any) -> Answer:
        return self.site.lines[worker].ask(method, path, sid, json.dumps(given).encode() if given else None)

    def upload(self, worker: int) -> str:
        answer = self.site.lines[worker].ask("POST", "/api/upload", None, SMALL)
        assert answer.status == 200, answer
        assert answer.sid is not None
        return answer.sid

    def states(self, sid: str) -> list[Any]:
        return [answer.json() for answer in self.site.each("/api/task", sid)]

    def files(self) -> int:
        return sum(1 for path in self.data.glob("*/areas/*/*/*") if path.is_file())


@pytest.fixture(params=["sqlite", "redis"])
def demo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Demo]:
    if request.param == "sqlite":
        url, args = f"sqlite:///{tmp_path / 'sessions.db'}", []
    else:
        url, args = request.getfixturevalue("redis_url"), ["--preload"] if "fork" in request.param else []
    demo = Demo(tmp_path, url, *args)
    yield demo
    demo.close()


class Poller(threading.Thread):
    """A client that polls a task, each time through another worker."""

    def __init__(self, demo: Demo, sid: str, first: int) -> None:
        super().__init__()
        self._lines = [Line(demo.site.server.url) for _ in range(3)]
        self._sid = sid
        self._first = first
        self.states: list[Any] = []
        self.result: Answer | None = None
        self.stop = threading.Event()
        self.start()

    def run(self) -> None:
        turn = self._first
        while not self.stop.is_set():
            turn += 1
            state = self._lines[turn % 3].ask("GET", "/api/task", self._sid).json()
            self.states.append(state)
            if not state["running"]:
                self.result = self._lines[(turn + 1) % 3].ask("GET", "/api/result", self._sid)
                break
        for line in self._lines:
            line.close()


@pytest.mark.parametrize("demo", ["sqlite", "redis", "redis, loaded before the fork"], indirect=True)
def test_a_visit_through_all_workers(demo: Demo) -> None:
    sid = demo.upload(0)
    status = demo.ask(1, "GET", "/api/status", sid).json()
    assert [answer.json() for answer in demo.site.each("/api/status", sid)] == [status] * WORKERS
    assert (status["source"]["size"], status["task"]["status"]) == (len(SMALL), "idle")

    assert demo.ask(2, "POST", "/api/start", sid, **QUESTION).status == 202
    assert all(state["running"] for state in demo.states(sid))
    until(lambda: all(state["message"].startswith("Row") for state in demo.states(sid)), "the work does not show")
    for worker in range(WORKERS):
        assert demo.ask(worker, "POST", "/api/start", sid, **QUESTION).json()["error"] == "task_running"
    assert demo.ask(3, "POST", "/api/cancel", sid).json() == {"cancelled": True}
    until(lambda: not any(state["running"] for state in demo.states(sid)), "it is not cancelled")
    assert {state["status"] for state in demo.states(sid)} == {"cancelled"}
    assert demo.ask(0, "POST", "/api/cancel", sid).json() == {"cancelled": False}

    assert demo.ask(0, "POST", "/api/start", sid, **QUESTION).status == 202
    pollers = [Poller(demo, sid, number) for number in range(8)]
    until(lambda: all(len(poller.states) > 5 for poller in pollers), "the pollers got no answers")
    demo.gate.touch()
    for poller in pollers:
        poller.join(DEADLINE)
        assert {state["status"] for state in poller.states[:-1]} <= {"queued", "running"}
        progress = [state["progress"] for state in poller.states]
        assert progress == sorted(progress), "progress never decreases, whichever worker answers"
        assert poller.states[-1]["complete"]
        assert poller.result is not None
        assert poller.result.status == 200, "who sees the end can have the result"
        assert poller.result.json()["shown"] == SUMS
    for answer in demo.site.each("/api/download", sid):
        assert answer.body.splitlines()[1] == b"Oslo,2,7"

    demo.gate.unlink()
    assert demo.ask(1, "POST", "/api/start", sid, **QUESTION).status == 202
    until(lambda: demo.states(sid)[0]["progress"] > 0, "it does not begin")
    assert demo.ask(2, "POST", "/api/reset", sid).status == 200
    assert [answer.status for answer in demo.site.each("/api/status", sid)] == [410] * WORKERS
    assert demo.files() == 0
    assert demo.upload(3) != sid


def test_a_restart_in_the_middle_of_visits(demo: Demo) -> None:
    demo.gate.touch()
    done = demo.upload(0)
    demo.ask(1, "POST", "/api/start", done, **QUESTION)
    until(lambda: demo.states(done)[2]["complete"], "the work does not end")
    demo.gate.unlink()
    at_work = demo.upload(1)
    demo.ask(2, "POST", "/api/start", at_work, **QUESTION)
    until(lambda: demo.states(at_work)[0]["progress"] > 0, "it does not begin")
    waiting = demo.upload(3)
    before = [demo.ask(0, "GET", "/api/status", sid).json() for sid in (done, waiting)]
    files = demo.files()

    demo.restart()
    for line in demo.site.lines:
        assert [line.ask("GET", "/api/status", sid).json() for sid in (done, waiting)] == before
        assert line.ask("GET", "/api/result", done).json()["shown"] == SUMS
        assert line.ask("GET", "/api/download", done).body.splitlines()[1] == b"Oslo,2,7"
        task = line.ask("GET", "/api/task", at_work).json()
        assert (task["status"], task["error_type"], task["running"]) == ("failed", "TaskLost", False)
        assert line.ask("GET", "/api/status", at_work).json()["source"]["size"] == len(SMALL)
    assert demo.files() == files - 1, "the text that was at work is gone, what clients have sent is not"
    demo.gate.touch()
    for worker, sid in enumerate([at_work, waiting, done]):
        assert demo.ask(worker, "POST", "/api/start", sid, **QUESTION).status == 202
        until(lambda sid=sid: demo.states(sid)[3]["complete"], "the work does not end")  # type: ignore[misc]
        assert demo.ask(0, "GET", "/api/result", sid).json()["shown"] == SUMS


def test_a_task_of_a_killed_server_is_lost(demo: Demo) -> None:
    sid = demo.upload(0)
    demo.ask(1, "POST", "/api/start", sid, **QUESTION)
    until(lambda: demo.states(sid)[0]["progress"] > 0, "it does not begin")
    demo.restart(kill=True, LOST_AFTER="1")
    until(lambda: not any(state["running"] for state in demo.states(sid)), "it runs for ever")
    assert {(state["status"], state["error_type"]) for state in demo.states(sid)} == {("failed", "TaskLost")}
    demo.gate.touch()
    assert demo.ask(2, "POST", "/api/start", sid, **QUESTION).status == 202
    until(lambda: demo.ask(3, "GET", "/api/result", sid).status == 200, "the work does not end")
    assert demo.ask(0, "GET", "/api/download", sid).body.splitlines()[1] == b"Oslo,2,7"
