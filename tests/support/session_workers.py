"""The application of ``session_app`` with its servers and workers, and a test client for it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from engines.harness import Worker
from flask import Flask
from flask_silo import SessionTask, Silo
from flask_silo.tasks.records import stored_run
from servers import RedisServer, redis_binary, until
from silo_tasks import (
    Status,
    TaskState,
)
from silo_tasks.runners.message import Message
from silo_tasks.runners.queue import QueueRunner

needs_workers = [
    pytest.mark.skipif(redis_binary() is None or not hasattr(os, "fork"), reason="needs a redis-server, and POSIX"),
    pytest.mark.slow,
]

SUPPORT = Path(__file__).parent
ENGINES = ["rq", "celery"]
REMOTE = ["process", *ENGINES]
KINDS = ["thread", *REMOTE]
VARIABLES = ("QUEUES_URL", "SESSIONS_ON_SQLITE", "SESSIONS_ON_REDIS", "SESSION_FILES", "FLASK_APP")

_numbers = itertools.count()


class Scene:
    """The servers that all tests share, and the workers that they need."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.folder = folder
        self.env = {
            "QUEUES_URL": redis.url,
            "SESSIONS_ON_SQLITE": f"sqlite:///{folder / 'sessions.db'}",
            "SESSIONS_ON_REDIS": f"redis://127.0.0.1:{redis.port}/1",
            "SESSION_FILES": str(folder),
        }
        self.workers: dict[str, Worker] = {}

    def worker(self, kind: str) -> Worker:
        """Start a worker of a task queue."""
        command, ready = {
            "rq": ("-m rq.cli worker -c session_app.rq_worker", "Listening on"),
            "celery": (
                "-m celery -A session_app.celery_worker worker --concurrency=1 --loglevel=INFO "
                "--without-mingle --without-gossip",
                " ready.",
            ),
        }[kind]
        env = {**self.env, "FLASK_APP": "session_app.factory"}
        return Worker(command.split(), ready, folder=self.folder / kind, imports=SUPPORT, env=env)

    def need(self, kind: str) -> None:
        """Start a worker for the runs of a kind, unless one is running."""
        if kind in ENGINES and kind not in self.workers:
            self.workers[kind] = self.worker(kind)


class Web:
    """A client of the application, in this process. A test says what the view of each request does."""

    def __init__(self, app: Flask, kind: str = "", sid: str = "") -> None:
        self.app = app
        self.kind = kind
        self.sid = sid
        self.silo: Silo = app.extensions["silo"]
        self._client = app.test_client()
        self.views: dict[str, Callable[[], Any]] = import_module("session_app.making").views

    def task(self, function: str, kind: str = "") -> SessionTask[..., Any]:
        found: SessionTask[..., Any] = self.app.extensions["tasks"].by[function, kind or self.kind]
        return found

    def ask(self, view: Callable[[], Any], method: str = "POST") -> tuple[int, Any]:
        """Make a request whose view calls a function, and return the status and the JSON."""
        key = f"do-{next(_numbers)}"
        self.views[key] = view
        try:
            answer = self._client.open(
                f"/api/{key}", method=method, headers={"X-Session-ID": self.sid} if self.sid else {}
            )
        finally:
            del self.views[key]
        self.sid = answer.headers.get("X-Session-ID", self.sid)
        return answer.status_code, answer.get_json(silent=True)

    def post(self, view: Callable[[], Any]) -> Any:
        status, value = self.ask(view)
        assert status == 200, (status, value)
        return value

    def get(self, view: Callable[[], Any]) -> Any:
        """Call a function in the view of a GET, and return its value, which can be any object."""
        found: list[Any] = []
        status, value = self.ask(lambda: found.append(view()), "GET")
        assert status == 200, (status, value)
        return found[0]

    def start(self, function: str, *args: Any, **kwargs: Any) -> SessionTask[..., Any]:
        task = self.task(function)
        self.post(lambda: task.start(*args, **kwargs))
        return task

    def state(self, task: SessionTask[..., Any]) -> TaskState:
        state: TaskState = self.get(lambda: task.state)
        return state

    def status(self, task: SessionTask[..., Any]) -> Status:
        return self.state(task).status

    def over(self, task: SessionTask[..., Any]) -> TaskState:
        until(lambda: self.status(task).is_final, f"{task.name} does not end")
        return self.state(task)

    def result(self, task: SessionTask[..., Any], timeout: float | None = 20) -> Any:
        def view() -> Any:
            try:
                return task.result(timeout)
            except Exception as error:
                return error

        return self.get(view)

    def cancel(self, task: SessionTask[..., Any]) -> bool:
        return bool(self.post(task.cancel))

    @property
    def uid(self) -> str:
        uid = self.get(lambda: self.silo.uid)
        assert uid
        return str(uid)

    @property
    def value(self) -> int:
        value: int = self.get(lambda: self.silo.state("counter")["value"])
        return value

    def stored(self, uid: str, task: SessionTask[..., Any]) -> Any:
        """Return the stored record of the newest run."""
        record = self.silo.store.attached(self.sid, uid)
        return None if record is None else stored_run(record, task.name)

    def in_another_process(self) -> Web:
        """Return the same client at another application object that shares only the sessions, like another process."""
        making = import_module("session_app.making")
        url = self.app.extensions["flask_silo.binding"].settings.store_url
        return Web(making.make_app(self.app.import_name, url), self.kind, self.sid)


def web_of(scene: Scene, module: str, kind: str) -> Web:
    scene.need(kind)
    found = import_module(f"session_app.{module}")
    return Web(found.app if hasattr(found, "app") else found.create_app(), kind)


def sent(web: Web, monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """Return the messages that are sent to the queue from now on."""
    runner, messages = web.task("note").runner, []
    assert isinstance(runner, QueueRunner)
    send = runner.send

    def noting(message: Message) -> None:
        send(message)
        messages.append(message)

    monkeypatch.setattr(runner, "send", noting)
    return messages


def deliver(scene: Scene, web: Web, messages: list[Message]) -> None:
    """Send messages to a running worker, and wait until the worker has handled them."""
    kind = web.kind.removeprefix("waits-")
    scene.need(kind)
    runner: Any = web.task("note", kind).runner
    for message in list(messages):
        runner.send(message)
    behind = Web(web.app, kind)
    assert behind.result(behind.start("give", "the worker is through")) == "the worker is through"


def raised(function: Callable[..., Any], *args: Any) -> Exception | None:
    try:
        function(*args)
    except Exception as error:
        return error
    return None
