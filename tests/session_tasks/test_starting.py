"""A task that a request starts begins once the request has succeeded."""

from __future__ import annotations

import threading
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from session_workers import ENGINES, Scene, Web, needs_workers, raised
from silo_store import SessionConflict
from silo_tasks import (
    TaskFailed,
)

pytestmark = needs_workers


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


def test_a_view_that_waited_for_a_task_sees_its_changes(web: Web) -> None:
    task = web.start("add", 2)
    assert web.get(lambda: (task.result(20), web.silo.state("counter")["value"])) == (None, 2)


def test_wrong_arguments_are_told_in_the_view(web: Web) -> None:
    task = web.task("give")
    errors = web.get(lambda: [raised(task.start), raised(task.start, 1, 2)])
    assert [type(error) for error in errors] == [TypeError, TypeError]
    assert web.status(task) == "idle"


def test_an_argument_that_cannot_be_sent_is_named(far: Web) -> None:
    task = far.task("give")
    error = far.get(lambda: raised(task.start, threading.Lock()))
    assert isinstance(error, TypeError)
    assert "'value'" in str(error)
    if far.kind in ENGINES:
        error = far.get(lambda: raised(far.task("endless").start, "small", "large" * 300_000))
        assert isinstance(error, ValueError)
        assert "'stopped' takes 15000" in str(error)
    assert far.status(task) == "idle"


def test_sessions_in_memory_cannot_be_reached_by_workers(scene: Scene) -> None:
    web = Web(import_module("session_app.in_memory").app)
    for kind in ENGINES:
        error = web.get(partial(raised, web.task("give", kind).start, 1))
        assert isinstance(error, RuntimeError)
        assert "SILO_STORE_URL" in str(error)
    web.kind = "process"
    task = web.start("give", [1])
    assert web.result(task) == [1]
    error = web.result(web.start("edit"))
    assert isinstance(error, TaskFailed)
    assert "only if processes share sessions (set SILO_STORE_URL)" in str(error)
