"""A task holds its session, ends with it, and follows it to a new id."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import until
from session_workers import KINDS, Scene, Web, deliver, needs_workers, sent, web_of
from silo_store import Hold, Life
from silo_tasks import (
    BackgroundTask,
)

pytestmark = needs_workers


def sweep(web: Web, ttl: float = 0.02) -> None:
    """Sweep the sessions as another process would, at a later time."""
    store = web.in_another_process().silo.store
    store.ttl, store.touch_interval = ttl, 0.0
    now = store.moment().now
    until(lambda: store.moment().now > now + 2 * ttl, "the clock stands still")
    store.cleanup()
    store.close()


def alive(web: Web, uid: str) -> bool:
    return web.silo.store.has_life(uid)


def test_a_running_task_holds_its_session(web: Web, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = web.start("hold", str(gate))
    until(lambda: "first line" in web.state(task).logs, "it does not begin")
    uid = web.uid
    sweep(web)
    assert alive(web, uid)
    before = web.silo.store.moment()
    gate.touch()
    backend = web.silo.store.backend
    until(lambda: not backend.held(uid), "the session is held for ever")
    record = backend.peek(web.sid)
    assert record is not None
    # The session has its whole ttl again; a use within the touch_interval is not recorded.
    assert record.active >= before.now - before.touch_interval
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
    other = web.in_another_process()
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
    other = web.in_another_process()
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
    sid, other = web.sid, web.in_another_process()

    def view() -> None:
        web.task("note").start(str(ran))
        other.silo.store.destroy(sid)

    status, answer = web.ask(view, "GET")
    assert (status, answer["error"]) == (410, "session_expired")
    assert not ran.exists()
