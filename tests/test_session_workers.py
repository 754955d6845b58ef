"""A session's tasks in threads, in processes, on RQ workers and on Celery workers: one text says what holds for all."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from engines.harness import Worker
from flask import Blueprint, Flask
from flask_silo import SessionTask, Silo
from flask_silo.tasks.records import TaskRecords, stored_run
from redis import Redis
from rq import Queue
from rq.registry import FailedJobRegistry
from server_fixtures import own_redis
from servers import RedisServer, redis_binary, until
from silo_store import Hold, Life, SessionConflict
from silo_tasks import (
    BackgroundTask,
    Runner,
    Status,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskRunning,
    TaskState,
    TaskTimeout,
)
from silo_tasks.runners.celery import CeleryRunner
from silo_tasks.runners.message import Message
from silo_tasks.runners.queue import QueueRunner
from silo_tasks.runners.rq import RQRunner

__all__ = ["own_redis"]

pytestmark = pytest.mark.skipif(
    redis_binary() is None or not hasattr(os, "fork"), reason="needs a redis-server, and POSIX"
)

SUPPORT = Path(__file__).parent / "support"
ENGINES = ["rq", "celery"]
ELSEWHERE = ["process", *ENGINES]
KINDS = ["thread", *ELSEWHERE]
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
        """A worker of an engine."""
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
        """See to it that somebody takes the runs of a kind."""
        if kind in ENGINES and kind not in self.workers:
            self.workers[kind] = self.worker(kind)


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("session-workers")
    with RedisServer(folder / "redis") as redis:
        scene = Scene(folder, redis)
        before = {name: os.environ.pop(name, None) for name in VARIABLES}
        os.environ.update(scene.env)
        try:
            yield scene
        finally:
            for worker in scene.workers.values():
                worker.kill()
            runners = sys.modules.get("session_app.runners")
            if runners is not None:
                for runner in runners.RUNNERS.values():
                    runner.shutdown(5)
                runners.celery.close()
                runners.redis.close()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


class Web:
    """A client of the application, in this process: each request does what a test says."""

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
        """The status and the JSON of a request that does this."""
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
        """What a view of a reading request gives, any object."""
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
        """What is stored of the newest run."""
        record = self.silo.store.attached(self.sid, uid)
        return None if record is None else stored_run(record, task.name)

    def elsewhere(self) -> Web:
        """The same client at another process: an application object that shares nothing but the sessions."""
        making = import_module("session_app.making")
        url = self.app.extensions["flask_silo.binding"].settings.store_url
        return Web(making.make_app(self.app.import_name, url), self.kind, self.sid)


def web_of(scene: Scene, module: str, kind: str) -> Web:
    scene.need(kind)
    found = import_module(f"session_app.{module}")
    return Web(found.app if hasattr(found, "app") else found.create_app(), kind)


@pytest.fixture(params=["on_sqlite", "on_redis"])
def module(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=KINDS)
def web(request: pytest.FixtureRequest, scene: Scene, module: str) -> Web:
    """A client whose tasks run in each place."""
    return web_of(scene, module, request.param)


@pytest.fixture(params=ELSEWHERE)
def far(request: pytest.FixtureRequest, scene: Scene, module: str) -> Web:
    """A client whose tasks run in other processes."""
    return web_of(scene, module, request.param)


@pytest.fixture(params=ENGINES)
def queued(request: pytest.FixtureRequest, scene: Scene, module: str) -> Web:
    """A client whose tasks wait in a queue that nobody looks at."""
    return web_of(scene, module, f"waits-{request.param}")


def sent(web: Web, monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """What goes to the queue from now on."""
    runner, messages = web.task("note").runner, []
    assert isinstance(runner, QueueRunner)
    send = runner.send

    def noting(message: Message) -> None:
        send(message)
        messages.append(message)

    monkeypatch.setattr(runner, "send", noting)
    return messages


def deliver(scene: Scene, web: Web, messages: list[Message]) -> None:
    """Give messages to a worker that works, and wait until it has seen them."""
    kind = web.kind.removeprefix("waits-")
    scene.need(kind)
    runner: Any = web.task("note", kind).runner
    for message in list(messages):
        runner.send(message)
    behind = Web(web.app, kind)
    assert behind.result(behind.start("give", "the worker is through")) == "the worker is through"


# What is seen of a run.


def test_a_run_is_seen_here_and_elsewhere(web: Web, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = web.start("hold", str(gate))
    other = web.elsewhere()
    there = other.task("hold")
    for client, each in ((web, task), (other, there)):
        until(lambda: "first line" in client.state(each).logs, "nothing is seen")  # noqa: B023 - called at once
        state = client.state(each)
        assert (state.status, state.running, state.progress, state.message) == ("running", True, 40.0, "holding")
        line = client.get(lambda: each.task.logs()[-1])  # type: ignore[union-attr]  # noqa: B023
        assert (line.text, line.level) == ("first line", "warning")
        assert client.get(lambda: each.task is not None and each.task.is_running)  # noqa: B023
        assert isinstance(client.result(each, 0.01), TimeoutError)
        assert isinstance(client.get(lambda: _raised(each.start, "")), TaskRunning)  # noqa: B023
    gate.touch()
    assert web.result(task) == "went on"
    assert other.result(there) == "went on"
    assert other.over(there).progress == web.over(task).progress == 100.0
    assert (web.state(task).run, other.state(there).run) == (1, 1)


def _raised(function: Callable[..., Any], *args: Any) -> Exception | None:
    try:
        function(*args)
    except Exception as error:
        return error
    return None


def test_a_run_is_cancelled_from_elsewhere(web: Web, tmp_path: Path) -> None:
    began, stopped = tmp_path / "began", tmp_path / "stopped"
    task = web.start("endless", str(began), str(stopped))
    until(began.exists, "it does not begin")
    other = web.elsewhere()
    assert other.cancel(other.task("endless"))
    assert isinstance(other.result(other.task("endless")), TaskCancelled)
    until(stopped.exists, "its code does not stop")
    assert isinstance(web.result(task), TaskCancelled)
    assert not web.cancel(task)
    assert web.over(task).message == "Cancelled"


def test_how_a_run_ends_is_told_everywhere(web: Web) -> None:
    given = {"plain": [1, 2.5, None, "ä"]}
    task = web.start("give", given)
    other = web.elsewhere()
    assert web.result(task) == other.result(other.task("give")) == given
    task = web.start("fail", "no such thing")
    for client in (web, other):
        error = client.result(client.task("fail"))
        assert isinstance(error, TaskFailed)
        assert (str(error), error.error_type) == ("no such thing", "LookupError")
        state = client.over(client.task("fail"))
        assert (state.status, state.error, state.error_type) == ("failed", "no such thing", "LookupError")
    task = web.start("give_set")
    assert isinstance(other.result(other.task("give_set")), TaskError)
    assert other.over(other.task("give_set")).status == "succeeded"
    found = web.result(task)
    assert isinstance(found, TaskError) if web.kind in ENGINES else found == {1}


def test_a_run_has_its_time_wherever_it_runs(web: Web, tmp_path: Path) -> None:
    began, stopped = tmp_path / "began", tmp_path / "stopped"
    task = web.start("overdue", str(began), str(stopped))
    other = web.elsewhere()
    error = other.result(other.task("overdue"))
    assert isinstance(error, TaskTimeout), error
    assert "0.2 seconds" in str(error)
    assert isinstance(web.result(task), TaskTimeout)
    until(stopped.exists, "its code does not stop")


# What a run can do.


@pytest.mark.parametrize("name", ["on_sqlite", "on_redis", "factory"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_task_works_for_its_session_wherever_it_runs(scene: Scene, name: str, kind: str) -> None:
    web = web_of(scene, name, kind)
    torn_down = scene.folder / f"torn-down-session_app.{name}"
    torn_down.unlink(missing_ok=True)

    def view() -> None:
        web.silo.state("counter")["value"] = 5
        web.silo.state("words")["said"] = "by the view"
        web.silo.file_store("made").save(web.silo.sid, "given.txt", b"given by the view")
        web.task("look").start()

    web.post(view)
    found = web.result(web.task("look"))
    assert isinstance(found, dict), found
    pid = found.pop("pid")
    assert (pid == os.getpid()) == (kind == "thread")
    assert found == {
        "sid": web.sid,
        "uid": web.uid,
        "counter": 6,
        "handle": 6,
        "words": {"said": "by the view", "whole": "session"},
        "config": f"configured for session_app.{name}",
        "name": f"session_app.{name}",
        "read": "given by the view",
        "files": ["given.txt", "made.txt"],
    }
    assert web.value == 6
    with web.get(lambda: web.silo.file_store("made").open(web.silo.sid, "made.txt")) as file:
        assert file.read() == b"made by a task"
    assert torn_down.read_text() == "in the task"


def test_edits_of_a_task_and_of_requests_lose_nothing(web: Web) -> None:
    times = 30
    task = web.start("add", times)

    def increment() -> None:
        counter = web.silo.state("counter")
        seen = counter["value"]
        time.sleep(0.001)
        counter["value"] = seen + 1

    for _ in range(times):
        web.post(increment)
    assert web.result(task) is None
    assert web.value == 2 * times


# When it is handed over.


def test_what_a_failed_request_started_is_never_sent(web: Web, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    task = web.task("note")
    web.post(lambda: web.silo.state("counter").update(value=1))
    uid = web.uid

    def fails() -> None:
        task.start(str(ran))
        raise RuntimeError("on purpose")

    def conflicts() -> None:
        web.silo.state("counter")["value"] = 2
        task.start(str(ran))
        raise SessionConflict(web.sid)

    def aborts() -> Any:
        task.start(str(ran))
        return {}, 503

    def changed() -> None:
        task.start(str(ran))
        web.silo.state("counter")["value"] = object()  # cannot be saved

    def forgets() -> None:
        task.start(str(ran))
        assert task.state.status == "queued"
        assert task.cancel()

    web.app.config["PROPAGATE_EXCEPTIONS"] = False
    assert [web.ask(view)[0] for view in (fails, conflicts, aborts, changed, forgets)] == [500, 409, 503, 500, 200]
    assert web.stored(uid, task) is None
    assert web.status(task) == "idle"
    assert web.value == 1
    assert web.result(web.start("give", "behind them all")) == "behind them all"
    assert not ran.exists()


def test_an_ordinary_edit_meets_a_task_that_sees_what_the_view_saved(web: Web) -> None:
    def view() -> None:
        web.task("add").start(1)
        web.silo.state("counter")["value"] = 41

    web.post(view)
    assert web.result(web.task("add")) is None
    assert web.value == 42


def test_who_waited_for_a_task_sees_what_it_did(web: Web) -> None:
    task = web.start("add", 2)
    assert web.get(lambda: (task.result(20), web.silo.state("counter")["value"])) == (None, 2)


def test_wrong_arguments_are_told_in_the_view(web: Web) -> None:
    task = web.task("give")
    errors = web.get(lambda: [_raised(task.start), _raised(task.start, 1, 2)])
    assert [type(error) for error in errors] == [TypeError, TypeError]
    assert web.status(task) == "idle"


def test_an_argument_that_cannot_be_sent_is_named(far: Web) -> None:
    task = far.task("give")
    error = far.get(lambda: _raised(task.start, threading.Lock()))
    assert isinstance(error, TypeError)
    assert "'value'" in str(error)
    if far.kind in ENGINES:
        error = far.get(lambda: _raised(far.task("endless").start, "small", "large" * 300_000))
        assert isinstance(error, ValueError)
        assert "'stopped' takes 15000" in str(error)
    assert far.status(task) == "idle"


def test_sessions_in_memory_cannot_be_reached_by_workers(scene: Scene) -> None:
    web = Web(import_module("session_app.in_memory").app)
    for kind in ENGINES:
        error = web.get(partial(_raised, web.task("give", kind).start, 1))
        assert isinstance(error, RuntimeError)
        assert "SILO_STORE_URL" in str(error)
    web.kind = "process"
    task = web.start("give", [1])
    assert web.result(task) == [1]
    error = web.result(web.start("edit"))
    assert isinstance(error, TaskFailed)
    assert "only if processes share sessions (set SILO_STORE_URL)" in str(error)


# A task and the life of its session.


def sweep(web: Web, ttl: float = 0.02) -> None:
    """Sweep as another process would, once sessions have lived for so long."""
    store = web.elsewhere().silo.store
    store.ttl, store.touch_interval = ttl, 0.0
    now = store.moment().now
    until(lambda: store.moment().now > now + 2 * ttl, "the clock stands still")
    store.cleanup()
    store.close()


def alive(web: Web, uid: str) -> bool:
    return web.silo.store.backend.alive(uid)


def test_a_running_task_holds_its_session(web: Web, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = web.start("hold", str(gate))
    until(lambda: "first line" in web.state(task).logs, "it does not begin")
    uid = web.uid
    sweep(web)
    assert alive(web, uid)
    before = web.silo.store.moment().now
    gate.touch()
    backend = web.silo.store.backend
    until(lambda: not backend.held(uid), "the session is held for ever")
    record = backend.peek(web.sid)
    assert record is not None
    assert record.active >= before  # it has its whole ttl again
    assert web.result(task) == "went on"
    sweep(web)
    assert not alive(web, uid)


def test_a_queued_task_holds_nothing_and_dies_with_its_session(
    queued: Web, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, messages = tmp_path / "ran", sent(queued, monkeypatch)
    task = queued.start("note", str(ran))
    uid = queued.uid
    assert queued.status(task) == "queued"
    sweep(queued)
    assert not alive(queued, uid)
    assert queued.status(task) == "idle"
    deliver(scene, queued, messages)
    assert not ran.exists()


def end(web: Web, how: str) -> None:
    if how == "reset":
        web.post(web.silo.reset_current)
    elif how == "destroy":
        web.post(lambda: web.silo.destroy_current())
    else:
        assert web.silo.store.expire(web.sid)


def test_the_end_of_a_session_stops_its_task(web: Web, module: str, tmp_path: Path) -> None:
    how = "reset" if module == "on_sqlite" else "destroy"
    began, stopped = tmp_path / "began", tmp_path / "stopped"
    web.start("endless", str(began), str(stopped))
    until(began.exists, "it does not begin")
    other = web.elsewhere()
    end(other, how)
    until(stopped.exists, "it goes on")


@pytest.mark.parametrize("how", ["reset", "destroy", "expire"])
def test_the_end_of_a_session_takes_its_queued_task_along(
    queued: Web, how: str, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, messages = tmp_path / "ran", sent(queued, monkeypatch)
    task, sid = queued.start("note", str(ran)), queued.sid
    end(queued, how)
    queued.sid = sid
    queued.post(lambda: queued.silo.state("counter").update(value=1))  # the next life
    assert queued.status(task) == "idle"
    deliver(scene, queued, messages)
    assert not ran.exists()
    assert queued.status(task) == "idle"


@pytest.mark.parametrize("how", ["reset", "destroy"])
def test_a_late_task_writes_nothing_into_the_next_life(web: Web, how: str, tmp_path: Path) -> None:
    began, gate, done = tmp_path / "began", tmp_path / "gate", tmp_path / "done"
    web.start("late", str(began), str(gate), str(done))
    until(began.exists, "it does not begin")
    sid, uid = web.sid, web.uid
    end(web, how)
    web.sid = sid
    web.post(lambda: web.silo.state("words").update(next="life"))
    assert web.uid != uid
    gate.touch()
    until(done.exists, "it does not come to its end")
    assert done.read_text() == "SessionExpired SessionExpired SessionExpired"
    assert web.value == 0
    assert web.get(lambda: web.silo.file_store("made").list_files(web.silo.sid)) == []


def test_a_task_follows_its_session_to_a_new_id(web: Web, tmp_path: Path) -> None:
    began, gate = tmp_path / "began", tmp_path / "gate"
    task = web.start("follow", str(began), str(gate))
    until(began.exists, "it does not begin")
    old, uid = web.sid, web.uid
    other = web.elsewhere()
    new = other.post(other.silo.rotate)
    web.sid = new
    assert web.uid == uid
    gate.touch()
    assert web.result(task) == new
    assert web.value == 1
    files = web.get(lambda: sorted(web.silo.file_store("made").list_files(web.silo.sid)))
    assert files == ["first.txt", "then.txt"]
    assert web.silo.store.backend.peek(old) is None


def test_a_queued_task_follows_its_session_to_a_new_id(
    queued: Web, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages, task = sent(queued, monkeypatch), queued.task("put")
    queued.post(lambda: task.start(queued.silo.sid))
    old = queued.sid
    queued.sid = queued.post(queued.silo.rotate)
    assert queued.status(task) == "queued"
    deliver(scene, queued, messages)
    assert isinstance(queued.result(task), str)
    assert queued.value == 1
    assert queued.get(lambda: queued.silo.file_store("made").list_files(queued.silo.sid)) == ["put.txt"]
    assert queued.silo.store.backend.peek(old) is None


def test_a_session_that_moves_just_when_its_task_begins(
    scene: Scene, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = web_of(scene, module, "thread")
    web.post(lambda: web.silo.state("counter").update(value=1))
    binding, store, life = web.app.extensions["flask_silo.binding"], web.silo.store, Life(web.sid, web.uid)
    hold, moved = store.hold, list[str]()

    def moving(sid: str) -> Hold:
        if not moved:
            moved.append(store.rotate(sid))
        return hold(sid)

    monkeypatch.setattr(store, "hold", moving)
    assert binding.runs.executor.execute_sent(BackgroundTask(), life, web.task("put").call((life.sid,), {}))
    (web.sid,) = moved
    assert web.value == 2


@pytest.mark.parametrize(
    ("kind", "name"), [("thread", "in_memory"), *((kind, name) for kind in KINDS for name in ("on_sqlite", "on_redis"))]
)
def test_a_view_may_start_a_task_and_rotate(scene: Scene, kind: str, name: str) -> None:
    web = web_of(scene, name, kind)
    task = web.task("put")

    def view() -> None:
        task.start(web.silo.sid)
        web.silo.rotate()

    web.post(lambda: web.silo.state("counter").update(value=1))
    web.post(view)
    assert isinstance(web.result(task), str)
    assert web.value == 2


@pytest.mark.parametrize("kind", ["thread", "process", "waits-rq", "waits-celery"])
def test_what_a_session_that_is_over_starts_is_gone(scene: Scene, module: str, kind: str, tmp_path: Path) -> None:
    web, ran = web_of(scene, module, kind), tmp_path / "ran"
    web.post(lambda: web.silo.state("counter").update(value=1))
    sid, other = web.sid, web.elsewhere()

    def view() -> None:
        web.task("note").start(str(ran))
        other.silo.store.destroy(sid)

    status, answer = web.ask(view, "GET")
    assert (status, answer["error"]) == (410, "session_expired")
    assert not ran.exists()


# Engines and what happens to them.


@pytest.mark.parametrize(("kind", "name"), [("process", "on_redis"), ("rq", "on_sqlite"), ("celery", "on_sqlite")])
def test_a_killed_worker_loses_its_run(
    scene: Scene, kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskRecords, "lease", 1.5)
    web, began = web_of(scene, name, kind), tmp_path / "began"
    task = web.start("die", str(began))
    until(began.exists, "it does not begin")
    error = web.result(task)
    assert isinstance(error, TaskLost), error
    assert web.over(task).error_type == "TaskLost"
    other, uid = web.elsewhere(), web.uid
    assert isinstance(other.result(other.task("die")), TaskLost)
    if name == "on_sqlite":  # on Redis it takes ten seconds
        until(lambda: not web.silo.store.backend.held(uid), "the session is held for ever")

    def again() -> None:
        task.start(str(began))
        web.silo.commit()
        assert task.cancel()

    web.post(again)


@pytest.mark.parametrize("kind", ENGINES)
def test_a_message_that_comes_twice_runs_once(
    scene: Scene, module: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web, ran = web_of(scene, module, kind), tmp_path / "ran"
    messages = sent(web, monkeypatch)
    task = web.start("note", str(ran))
    deliver(scene, web, messages)
    assert web.over(task).status == "succeeded"
    deliver(scene, web, messages)
    assert ran.read_text() == "ran\n"
    assert web.over(task).run == 1


def test_what_is_cancelled_in_the_queue_never_runs(
    queued: Web, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, messages = tmp_path / "ran", sent(queued, monkeypatch)
    task = queued.start("note", str(ran))
    assert isinstance(queued.get(lambda: _raised(task.start, "")), TaskRunning)
    other = queued.elsewhere()
    assert other.cancel(other.task("note"))
    assert queued.status(task) == "cancelled"
    assert isinstance(queued.result(task), TaskCancelled)
    deliver(scene, queued, messages)
    assert not ran.exists()
    assert queued.status(task) == "cancelled"


def test_inline_tasks_see_and_save(scene: Scene, module: str) -> None:
    web = web_of(scene, module, "inline")
    web.silo.store.lock_timeout = 5.0

    def view() -> None:
        web.silo.state("counter")["value"] = 1
        web.task("add").start(1)

    web.post(view)
    assert (web.value, web.status(web.task("add"))) == (2, "succeeded")

    def middle() -> int:
        web.silo.state("counter")["value"] = 10
        web.task("add").start(1)
        web.silo.commit()
        value: int = web.silo.state("counter")["value"]
        web.silo.state("counter")["value"] += 100
        return value

    assert web.post(middle) == 11
    assert web.value == 111

    def fails() -> None:
        web.task("add").start(1)
        web.silo.commit()
        raise RuntimeError("on purpose")

    web.app.config["PROPAGATE_EXCEPTIONS"] = False
    assert web.ask(fails)[0] == 500
    assert web.state(web.task("add")).status == "succeeded"
    assert web.value == 112  # what a task that succeeded has done stays
    reading = web.get(lambda: web.task("add").start(1))
    assert reading is None
    assert web.value == 113


def test_who_has_the_turn_keeps_no_progress_from_being_seen(far: Web, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = far.start("hold", str(gate))
    other = far.elsewhere()

    def view() -> str:
        other.silo.state("counter")["value"] = 1
        watcher = far.elsewhere()
        until(lambda: "first line" in watcher.state(watcher.task("hold")).logs, "its progress is not seen")
        gate.touch()
        until(lambda: watcher.status(watcher.task("hold")).is_final, "its end is not seen")
        return str(watcher.status(watcher.task("hold")).value)

    assert other.post(view) == "succeeded"
    assert far.result(task) == "went on"


def small_app(name: str, url: str, runner: Runner, task: str = "give") -> Web:
    """An application of one task."""
    app = Flask(name)
    silo = Silo(app, store_url=url, auto_cleanup=False)
    counter = silo.register("counter", lambda: {"value": 0})
    found = silo.task(name=task, runner=runner)(_give)
    app.extensions["tasks"] = SimpleNamespace(by={("give", ""): found})
    making = import_module("session_app.making")
    blueprint = Blueprint("parts", name)

    @blueprint.route("/api/<key>", methods=["GET", "POST"])
    async def view(key: str) -> Any:
        await asyncio.sleep(0)
        assert counter is not None
        return {"value": making.views[key]()}

    app.register_blueprint(blueprint)
    return Web(app)


def _give(value: str) -> str:
    return value


@pytest.mark.usefixtures("scene")
@pytest.mark.parametrize("kind", ENGINES)
def test_a_queue_that_is_away_is_told_and_the_views_changes_stay(
    kind: str, own_redis: RedisServer, sqlite_url: str
) -> None:
    if kind == "rq":
        connection = Redis.from_url(own_redis.url)
        runner: Runner = RQRunner(Queue(connection=connection))
    else:
        connection = celery = Celery("away", broker=own_redis.url, set_as_current=False)
        runner = CeleryRunner(celery)
    web = small_app("away", sqlite_url, runner)
    task = web.task("give")

    def view() -> None:
        web.silo.state("counter")["value"] += 1
        task.start("value")

    own_redis.stop()
    status, answer = web.ask(view)
    assert (status, answer["error"]) == (503, "task_queue_unavailable")
    assert (web.value, web.status(task)) == (1, "idle")
    assert web.stored(web.uid, task) is None
    own_redis.restart()
    assert web.ask(view)[0] == 200
    assert (web.value, web.status(task)) == (2, "queued")
    assert web.cancel(task)
    web.silo.store.close()
    connection.close()


@pytest.mark.parametrize("kind", KINDS)
def test_async_views_of_blueprints_start_tasks_too(scene: Scene, kind: str, sqlite_url: str) -> None:
    runners = import_module("session_app.runners").RUNNERS
    web = small_app("parts", sqlite_url, runners[f"waits-{kind}" if kind in ENGINES else kind])
    if kind == "process":
        assert isinstance(web.result(web.start("give", 1)), TaskFailed)  # the process cannot import this application
    else:
        assert web.status(web.start("give", 1)) in ("queued", "running", "succeeded")
    assert not isinstance(web.get(lambda: _raised(web.task("give").start)), TaskRunning)
    web.silo.store.close()


@pytest.mark.parametrize("kind", ENGINES)
def test_a_worker_without_the_task_says_so(scene: Scene, module: str, kind: str) -> None:
    scene.need(kind)
    app = import_module(f"session_app.{module}").app
    url = app.extensions["flask_silo.binding"].settings.store_url
    runner = import_module("session_app.runners").RUNNERS[kind]
    web = small_app(app.import_name, url, runner, "brand-new")
    error = web.result(web.start("give", 1))
    assert isinstance(error, TaskFailed)
    assert "has no task 'brand-new'" in str(error)
    until(lambda: "has no task 'brand-new'" in scene.workers[kind].log(), "the worker's log says nothing")
    web.silo.store.close()


def test_a_worker_without_the_application_says_what_to_do(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    web = web_of(scene, "factory", "waits-rq")
    runners, messages = import_module("session_app.runners"), sent(web, monkeypatch)
    queue = Queue(runners.NOBODY, connection=runners.redis)
    queue.empty()  # type: ignore[no-untyped-call]  # of what other tests have left there
    task = web.start("give", 1)

    def work(flask_app: str) -> str:
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(SUPPORT)]))
        done = subprocess.run(
            [sys.executable, "-m", "rq.cli", "worker", "--burst", "--url", scene.env["QUEUES_URL"], queue.name],
            capture_output=True,
            text=True,
            cwd=scene.folder,
            env={**os.environ, "FLASK_APP": flask_app, "PYTHONPATH": path},
            timeout=60,
            check=True,
        )
        return done.stdout + done.stderr

    said = work("no.such:place")
    assert "this worker has no application 'session_app.factory' and cannot load 'no.such:place'" in said
    assert "Let FLASK_APP name it" in said
    assert web.status(task) == "queued"  # the worker does not know where to report to
    FailedJobRegistry(queue=queue).requeue(messages[0].token)
    work("session_app.factory:create_app")
    assert web.result(task) == 1


SCRIPT = """
import sys, time
from pathlib import Path
from flask import Flask
from flask_silo import Silo
from silo_tasks import ProcessRunner

app = Flask(__name__)
silo = Silo(app, store_url=sys.argv[1], auto_cleanup=False)
silo.register("counter", lambda: {"value": 0})

@silo.task(runner=ProcessRunner(workers=1))
def count():
    with silo.edit("counter") as counter:
        counter["value"] += 1
    return app.import_name

@app.post("/api/start")
def start():
    count.start()
    return {}

@app.get("/api/result")
def result():
    return {"said": count.result(30), **silo.state("counter")}

if __name__ == "__main__":
    client = app.test_client()
    sid = client.post("/api/start").headers["X-Session-ID"]
    print(client.get("/api/result", headers={"X-Session-ID": sid}).get_json())
"""


def test_a_script_that_is_the_application_has_tasks_in_processes(sqlite_url: str, tmp_path: Path) -> None:
    script = tmp_path / "counting.py"
    script.write_text(SCRIPT)
    env = {name: value for name, value in os.environ.items() if name != "FLASK_APP"}
    command = [sys.executable, str(script), sqlite_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=60)
    assert done.stdout == "{'said': '__mp_main__', 'value': 1}\n", done.stderr
