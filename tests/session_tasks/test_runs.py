"""A run of a session's task can do the same, and its state shows the same, wherever it runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from servers import until
from session_workers import ENGINES, KINDS, Scene, Web, needs_workers, raised, web_of
from silo_tasks import (
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskRunning,
    TaskTimeout,
)

pytestmark = needs_workers


def test_a_run_is_seen_in_this_and_another_process(web: Web, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = web.start("hold", str(gate))
    other = web.in_another_process()
    there = other.task("hold")
    for client, each in ((web, task), (other, there)):
        until(lambda: "first line" in client.state(each).logs, "nothing is seen")  # noqa: B023 - called at once
        state = client.state(each)
        assert (state.status, state.running, state.progress, state.message) == ("running", True, 40.0, "holding")
        line = client.get(lambda: each.task.logs()[-1])  # type: ignore[union-attr]  # noqa: B023
        assert (line.text, line.level) == ("first line", "warning")
        assert client.get(lambda: each.task is not None and each.task.is_running)  # noqa: B023
        assert isinstance(client.result(each, 0.01), TimeoutError)
        assert isinstance(client.get(lambda: raised(each.start, "")), TaskRunning)  # noqa: B023
    gate.touch()
    assert web.result(task) == "went on"
    assert other.result(there) == "went on"
    assert other.over(there).progress == web.over(task).progress == 100.0
    assert (web.state(task).run, other.state(there).run) == (1, 1)


def test_a_run_is_cancelled_from_another_process(web: Web, tmp_path: Path) -> None:
    began, stopped = tmp_path / "began", tmp_path / "stopped"
    task = web.start("endless", str(began), str(stopped))
    until(began.exists, "it does not begin")
    other = web.in_another_process()
    assert other.cancel(other.task("endless"))
    assert isinstance(other.result(other.task("endless")), TaskCancelled)
    until(stopped.exists, "its code does not stop")
    assert isinstance(web.result(task), TaskCancelled)
    assert not web.cancel(task)
    assert web.over(task).message == "Cancelled"


def test_how_a_run_ends_is_told_everywhere(web: Web) -> None:
    given = {"plain": [1, 2.5, None, "ä"]}
    task = web.start("give", given)
    other = web.in_another_process()
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
    other = web.in_another_process()
    error = other.result(other.task("overdue"))
    assert isinstance(error, TaskTimeout), error
    assert "0.2 seconds" in str(error)
    assert isinstance(web.result(task), TaskTimeout)
    until(stopped.exists, "its code does not stop")


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
