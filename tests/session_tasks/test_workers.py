"""Tasks of sessions on workers and queues: cancels, losses, missing applications."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from flask import Blueprint, Flask
from flask_silo import Silo
from flask_silo.tasks.records import TaskRecords
from redis import Redis
from rq import Queue
from rq.registry import FailedJobRegistry
from servers import RedisServer, until
from session_workers import ENGINES, KINDS, SUPPORT, Scene, Web, deliver, needs_workers, raised, sent, web_of
from silo_tasks import (
    Runner,
    TaskCancelled,
    TaskFailed,
    TaskLost,
    TaskRunning,
)
from silo_tasks.runners.celery import CeleryRunner
from silo_tasks.runners.rq import RQRunner

pytestmark = needs_workers


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
    other, uid = web.in_another_process(), web.uid
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
    assert isinstance(queued.get(lambda: raised(task.start, "")), TaskRunning)
    other = queued.in_another_process()
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
    assert web.value == 112  # the changes of a task that succeeded stay
    reading = web.get(lambda: web.task("add").start(1))
    assert reading is None
    assert web.value == 113


def test_progress_is_seen_while_a_request_has_the_write_lock(far: Web, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = far.start("hold", str(gate))
    other = far.in_another_process()

    def view() -> str:
        other.silo.state("counter")["value"] = 1
        watcher = far.in_another_process()
        until(lambda: "first line" in watcher.state(watcher.task("hold")).logs, "its progress is not seen")
        gate.touch()
        until(lambda: watcher.status(watcher.task("hold")).is_final, "its end is not seen")
        return str(watcher.status(watcher.task("hold")).value)

    assert other.post(view) == "succeeded"
    assert far.result(task) == "went on"


def small_app(name: str, url: str, runner: Runner, task: str = "give") -> Web:
    """Return an application with one task."""
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
    assert not isinstance(web.get(lambda: raised(web.task("give").start)), TaskRunning)
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
    queue = Queue(runners.UNWATCHED, connection=runners.redis)
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
    assert web.status(task) == "queued"  # the worker does not know which store has the record
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
