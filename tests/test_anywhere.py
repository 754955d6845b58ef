"""The example ``anywhere``: one line decides whether its job runs in a thread, a process or a worker."""

from __future__ import annotations

import http.client
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from engines.harness import Worker
from server_fixtures import redis_server, redis_url
from servers import DEADLINE, HOST, Gunicorn, until

__all__ = ["redis_server", "redis_url"]

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="Gunicorn needs POSIX"), pytest.mark.slow]

EXAMPLE = Path(__file__).parents[1] / "examples" / "anywhere"
LINE = "runner = runners.thread()"
WORKERS = {
    "thread": None,
    "process": None,
    "rq": (["-m", "rq.cli", "worker", "--url"], "Listening on"),
    "celery": (["-m", "celery", "--app", "celery_worker", "worker", "--concurrency=1", "--loglevel=INFO"], " ready."),
}


class Client:
    """A client of the example, with one session."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.sid = ""

    def ask(self, method: str, path: str, body: str | None = None) -> Any:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=DEADLINE)
        connection.request(method, path, body, {"X-Session-ID": self.sid} if self.sid else {})
        answer = connection.getresponse()
        self.sid = answer.getheader("X-Session-ID") or self.sid
        data = answer.read()
        connection.close()
        assert answer.status < 300, (answer.status, data)
        return json.loads(data)

    def over(self) -> dict[str, Any]:
        """Wait for the end of the task and return its state."""
        until(lambda: not self.ask("GET", "/api/tasks/count")["running"], "the task does not end")
        state: dict[str, Any] = self.ask("GET", "/api/tasks/count")
        return state


@contextmanager
def serving(kind: str, folder: Path, store_url: str, redis_url: str) -> Iterator[Client]:
    """Serve the example with that line changed by two processes, and start a worker if the runner needs one."""
    home = folder / "example"
    shutil.copytree(EXAMPLE, home, ignore=shutil.ignore_patterns("__pycache__", "instance"))
    text = (home / "words.py").read_text()
    assert text.count(LINE) == 1
    (home / "words.py").write_text(text.replace(LINE, f"runner = runners.{kind}()"))
    env = {"SILO_STORE_URL": store_url, "REDIS_URL": redis_url, "ANYWHERE_FILES": str(folder), "FLASK_APP": "words"}
    with ExitStack() as stack:
        worker = WORKERS[kind]
        if worker is not None:
            command, ready = worker
            more = [redis_url] if kind == "rq" else []
            stack.enter_context(Worker([*command, *more], ready, folder=folder / "worker", imports=home, env=env))
        server = stack.enter_context(
            Gunicorn("words:app", "--workers=2", "--threads=4", folder=folder / "server", cwd=home, env=env)
        )
        yield Client(server.port)


@pytest.mark.parametrize(
    ("kind", "store"), [("thread", "sqlite"), ("process", "sqlite"), ("rq", "redis"), ("celery", "redis")]
)
def test_one_line_decides_where_the_job_runs(kind: str, store: str, tmp_path: Path, redis_url: str) -> None:
    url = f"sqlite:///{tmp_path / 'sessions.db'}" if store == "sqlite" else redis_url
    with serving(kind, tmp_path, url, redis_url) as client:
        assert client.ask("POST", "/api/count", "to be or not to be") == {"watch": "tasks/count"}
        state = client.over()
        assert state["error"] is None
        assert (state["status"], state["progress"], state["n"], state["total"]) == ("succeeded", 100.0, 6, 6)
        assert state["logs"] == ["6 words, 4 different ones"]
        assert client.ask("GET", "/api/counts") == {"to": 2, "be": 2, "or": 1, "not": 1}
        assert client.ask("GET", "/api/file") == {"to": 2, "be": 2, "or": 1, "not": 1}
        client.ask("POST", "/api/count", "to")
        assert client.over()["run"] == 2
        assert client.ask("GET", "/api/counts")["to"] == 3
