"""The interface of release 0.1.0, as a contract: names, signatures, defaults, return values and errors.

Code written for 0.1.0 must keep working: no test leaves this file, while parameters, members and keys may be added.
``test_compat_requests`` has the behaviour of requests.
"""

from __future__ import annotations

import importlib
import inspect
import io
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask_silo
import pytest
from flask import Flask
from flask_silo import (
    BackgroundTask,
    CleanupDaemon,
    FileStore,
    NamespaceError,
    SessionBusy,
    SessionExpired,
    SessionStore,
    Silo,
    SiloError,
    TaskState,
)
from flask_silo.settings import Settings
from silo_store.testing import SID, TTL, Clock
from silo_tasks import ThreadRunner

NoneType = type(None)

# Names

NAMES = {
    "flask_silo": "Silo SessionStore CleanupDaemon BackgroundTask TaskState FileStore "
    "SiloError SessionExpired SessionBusy NamespaceError __version__",
    "flask_silo.ext": "Silo",
    "flask_silo.store": "SessionStore",
    "flask_silo.cleanup": "CleanupDaemon",
    "flask_silo.tasks.task": "BackgroundTask TaskState",
    "flask_silo.files": "FileStore",
    "flask_silo.errors": "SiloError SessionExpired SessionBusy NamespaceError",
}


@pytest.mark.parametrize(("module", "names"), NAMES.items(), ids=NAMES)
def test_every_name_is_where_it_was(module: str, names: str) -> None:
    found = importlib.import_module(module)
    for name in names.split():
        assert getattr(found, name) is getattr(flask_silo, name)


def test_a_star_import_gives_every_name() -> None:
    given: dict[str, Any] = {}
    exec("from flask_silo import *", given)  # the only way to read its result
    assert [name for name in NAMES["flask_silo"].split() if name not in given] == []
    assert isinstance(given["__version__"], str)


# Signatures: a parameter keeps its name, position, kind and default. Parameters that were added since are optional.

# The default of a setting is None, because it can also be in the config. Another test checks the resulting values.
SETTINGS: dict[str, Any] = {
    "ttl": 3600,
    "cleanup_interval": 60,
    "expired_retain": 7200,
    "header": "X-Session-ID",
    "query_param": "_sid",
    "min_sid_length": 16,
    "auto_cleanup": True,
    "api_prefix": "/api/",
}

Shape = Callable[..., object]


def made_with_settings(
    self: object,
    app: Flask | None = None,
    *,
    ttl: None = None,
    cleanup_interval: None = None,
    expired_retain: None = None,
    header: None = None,
    query_param: None = None,
    min_sid_length: None = None,
    data_endpoints: None = None,
    auto_cleanup: None = None,
    api_prefix: None = None,
) -> None:
    """The shape of ``Silo()``, too long for a lambda."""


SIGNATURES: dict[type, dict[str, Shape]] = {
    Silo: {
        "__init__": made_with_settings,
        "init_app": lambda self, app: ...,
        "register": lambda self, namespace, factory: ...,
        "add_file_store": lambda self, name, base_dir: ...,
        "file_store": lambda self, name: ...,
        "add_data_endpoints": lambda self, *paths: ...,
        "state": lambda self, namespace=None: ...,
        "reset_current": lambda self: ...,
        "stop": lambda self: ...,
    },
    SessionStore: {
        "__init__": lambda self, *, ttl=3600, cleanup_interval=60, expired_retain=7200, sid_generator=None: ...,
        "register_namespace": lambda self, name, factory: ...,
        "get": lambda self, sid: ...,
        "get_namespace": lambda self, sid, namespace: ...,
        "touch": lambda self, sid: ...,
        "exists": lambda self, sid: ...,
        "is_expired": lambda self, sid: ...,
        "cleanup": lambda self: ...,
        "reset": lambda self, sid: ...,
        "destroy": lambda self, sid: ...,
        "set_busy_check": lambda self, predicate: ...,
        "on_expire": lambda self, callback: ...,
        "on_create": lambda self, callback: ...,
        "generate_sid": lambda self: ...,
    },
    CleanupDaemon: {
        "__init__": lambda self, store, interval=None: ...,
        "start": lambda self: ...,
        "stop": lambda self: ...,
    },
    BackgroundTask: {
        "__init__": lambda self, name="task": ...,
        "start": lambda self, target, *args, **kwargs: ...,
        "reset": lambda self: ...,
        "update": lambda self, progress=None, message=None: ...,
        "log": lambda self, message: ...,
        "complete": lambda self, message="Done": ...,
        "fail": lambda self, error: ...,
    },
    TaskState: {
        "to_dict": lambda self, *, max_logs=50: ...,
    },
    FileStore: {
        "__init__": lambda self, base_dir, *, auto_create=True: ...,
        "session_dir": lambda self, sid: ...,
        "save": lambda self, sid, filename, data: ...,
        "get_path": lambda self, sid, filename: ...,
        "list_files": lambda self, sid: ...,
        "cleanup": lambda self, sid: ...,
        "cleanup_all": lambda self: ...,
    },
    SessionExpired: {"__init__": lambda self, sid, message=None: ...},
    SessionBusy: {"__init__": lambda self, sid, message=None: ...},
    NamespaceError: {"__init__": lambda self, namespace: ...},
}

PROPERTIES = {
    Silo: "sid",
    SessionStore: "active_count expired_count all_sids",
    CleanupDaemon: "running",
    BackgroundTask: "state is_running is_complete is_failed",
    FileStore: "total_size_bytes",
}

EACH = [(kind, name, shape) for kind, shapes in SIGNATURES.items() for name, shape in shapes.items()]


@pytest.mark.parametrize(("kind", "name", "shape"), EACH, ids=[f"{kind.__name__}.{name}" for kind, name, _ in EACH])
def test_a_signature_only_grew(kind: type, name: str, shape: Shape) -> None:
    old, new = inspect.signature(shape).parameters, inspect.signature(getattr(kind, name)).parameters
    in_place = [each for each in old.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert list(new)[: len(in_place)] == [each.name for each in in_place]
    for parameter in old.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            assert [each.kind for each in new.values()].count(parameter.kind) == 1, "its name is no caller's to know"
            continue
        found = new[parameter.name]
        assert (found.kind, found.default) == (parameter.kind, parameter.default)
    variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    added = [each for each in new.values() if each.name not in old and each.kind not in variable]
    assert [each.name for each in added if each.default is each.empty] == []


@pytest.mark.parametrize(("kind", "names"), PROPERTIES.items(), ids=[kind.__name__ for kind in PROPERTIES])
def test_what_was_a_property_is_one(kind: type, names: str) -> None:
    assert [name for name in names.split() if not isinstance(getattr(kind, name), property)] == []


def test_a_setting_that_is_not_given_is_what_it_was() -> None:
    settings = Settings.collect({}, {})
    assert {name: getattr(settings, name) for name in SETTINGS} == SETTINGS
    assert Settings.collect(SETTINGS, {}) == settings
    store = Silo(**SETTINGS, data_endpoints={"/api/report"}).store
    assert (store.ttl, store.cleanup_interval, store.expired_retain) == (3600, 60, 7200)


# Sessions


@pytest.fixture
def store(clock: Clock) -> Iterator[SessionStore]:
    store = SessionStore(ttl=int(TTL), clock=clock)
    store.register_namespace("cart", lambda: {"items": []})
    store.get(SID)
    yield store
    store.close()


OF_A_STORE: dict[str, tuple[Callable[[SessionStore], object], type]] = {
    "register_namespace": (lambda store: store.register_namespace("late", dict), NoneType),
    "get": (lambda store: store.get(SID), dict),
    "get_namespace": (lambda store: store.get_namespace(SID, "cart"), dict),
    "touch": (lambda store: store.touch(SID), NoneType),
    "exists": (lambda store: store.exists(SID), bool),
    "is_expired": (lambda store: store.is_expired(SID), bool),
    "cleanup": (lambda store: store.cleanup(), list),
    "reset": (lambda store: store.reset(SID), NoneType),
    "destroy": (lambda store: store.destroy(SID), NoneType),
    "set_busy_check": (lambda store: store.set_busy_check(lambda _sid, _session: False), NoneType),
    "on_expire": (lambda store: store.on_expire(print), NoneType),
    "on_create": (lambda store: store.on_create(print), NoneType),
    "generate_sid": (lambda store: store.generate_sid(), str),
    "active_count": (lambda store: store.active_count, int),
    "expired_count": (lambda store: store.expired_count, int),
    "all_sids": (lambda store: store.all_sids, list),
    "ttl": (lambda store: store.ttl, int),
    "cleanup_interval": (lambda store: store.cleanup_interval, int),
    "expired_retain": (lambda store: store.expired_retain, int),
}


@pytest.mark.parametrize(("call", "kind"), OF_A_STORE.values(), ids=OF_A_STORE)
def test_a_store_gives_what_it_gave(store: SessionStore, call: Callable[[SessionStore], object], kind: type) -> None:
    assert isinstance(call(store), kind)


def test_a_session_has_its_namespaces_and_meta(store: SessionStore, clock: Clock) -> None:
    began = clock.now
    clock.advance(1)
    session = store.get(SID)
    assert "_meta" in session
    assert "cart" in session
    assert "typo" not in session
    assert session["_meta"] == session.get("_meta") == {"created_at": began, "last_active": clock.now, "sid": SID}
    assert session["cart"] is store.get_namespace(SID, "cart")
    assert store.get(SID) is session, "the live object"
    with pytest.raises(KeyError, match="typo"):
        session["typo"]


def test_a_new_session_is_made_by_factories_and_told_of(store: SessionStore) -> None:
    told: list[str] = []
    store.on_create(lambda _sid: 1 / 0)
    store.on_create(told.append)
    other = store.generate_sid()
    assert len(other) >= 16
    assert not store.exists(other)
    store.touch(other)
    store.reset(other)
    store.destroy(other)
    assert not store.exists(other)
    assert store.get(other)["cart"] == {"items": []}
    assert store.get(other)["cart"] is not store.get(SID)["cart"]
    store.register_namespace("late", lambda: {"made": "later"})
    assert store.get(other)["late"] == {"made": "later"}
    assert told == [other]
    assert (store.active_count, set(store.all_sids)) == (2, {SID, other})


def test_ids_come_from_the_generator() -> None:
    store = SessionStore(sid_generator=lambda: "made-by-the-application")
    assert store.generate_sid() == "made-by-the-application"


def test_a_stale_session_is_swept_remembered_and_begins_again(store: SessionStore, clock: Clock) -> None:
    told: list[str] = []
    store.on_expire(lambda _sid: 1 / 0)
    store.on_expire(told.append)
    assert store.cleanup() == []
    clock.advance(TTL)
    store.touch(SID)
    clock.advance(TTL)
    assert store.cleanup() == []
    clock.advance(1)
    assert store.cleanup() == told == [SID]
    assert (store.exists(SID), store.is_expired(SID), store.expired_count) == (False, True, 1)
    store.get(SID)
    assert (store.exists(SID), store.is_expired(SID), store.expired_count) == (True, False, 0)


def test_an_expired_id_is_forgotten_in_time(store: SessionStore, clock: Clock) -> None:
    clock.advance(TTL + 1)
    store.cleanup()
    clock.advance(store.expired_retain + 1)
    store.cleanup()
    assert not store.is_expired(SID)


def test_a_busy_session_is_neither_swept_nor_reset(store: SessionStore, clock: Clock) -> None:
    seen: list[object] = []

    def is_busy(sid: str, session: dict[str, Any]) -> bool:
        seen.append((sid, session["cart"], "_meta" in session, session["_meta"]["sid"]))
        return True

    store.set_busy_check(is_busy)
    with pytest.raises(SessionBusy) as caught:
        store.reset(SID)
    assert caught.value.sid == SID
    assert seen == [(SID, {"items": []}, True, SID)]
    clock.advance(TTL + 1)
    assert store.cleanup() == []
    assert store.exists(SID)


def test_reset_gives_fresh_state_and_destroy_is_not_remembered(store: SessionStore) -> None:
    store.get(SID)["cart"]["items"].append("book")
    store.reset(SID)
    assert store.get(SID)["cart"] == {"items": []}
    store.destroy(SID)
    assert (store.exists(SID), store.is_expired(SID)) == (False, False)


def test_a_daemon_sweeps_until_it_is_stopped(store: SessionStore, clock: Clock) -> None:
    swept = threading.Event()
    store.on_expire(lambda _sid: swept.set())
    daemon = CleanupDaemon(store, interval=0.001)
    assert daemon.running is False
    daemon.start()
    daemon.start()
    try:
        assert daemon.running is True
        clock.advance(TTL + 1)
        assert swept.wait(30)
    finally:
        daemon.stop()
    assert daemon.running is False
    daemon.stop()


# Errors

ERRORS: dict[type[SiloError], SiloError] = {
    SiloError: SiloError("words"),
    SessionExpired: SessionExpired(SID),
    SessionBusy: SessionBusy(SID),
    NamespaceError: NamespaceError("cart"),
}


@pytest.mark.parametrize("kind", ERRORS, ids=[kind.__name__ for kind in ERRORS])
def test_errors_have_one_base_and_say_something(kind: type[SiloError]) -> None:
    error = ERRORS[kind]
    assert isinstance(error, SiloError)
    assert str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("kind", [SessionExpired, SessionBusy])
def test_an_error_of_a_session_has_its_id_and_takes_a_text(kind: type[SessionExpired | SessionBusy]) -> None:
    assert kind(SID).sid == SID
    assert str(kind(SID, "words of mine")) == str(kind(SID, message="words of mine")) == "words of mine"


def test_an_unknown_namespace_is_named(store: SessionStore) -> None:
    with pytest.raises(NamespaceError, match=r"orders.*register\(\)") as caught:
        store.get_namespace(SID, "orders")
    assert caught.value.namespace == "orders"


# Tasks


class Held:
    """A task that runs until it is told to go on, or one that waits in a queue meanwhile."""

    def __init__(self, *, queued: bool) -> None:
        self._leave, entered = threading.Event(), threading.Event()
        runner = ThreadRunner(workers=1)
        first = BackgroundTask("first", runner=runner)
        first.start(self._work, entered)
        assert entered.wait(30)
        self.task = BackgroundTask("second", runner=runner) if queued else first
        if queued:
            self.task.start(self._work, threading.Event())

    def _work(self, _task: BackgroundTask, entered: threading.Event) -> None:
        entered.set()
        assert self._leave.wait(30)

    def end(self) -> None:
        self._leave.set()
        assert self.task.wait(30)


@pytest.fixture(params=["running", "queued"])
def held(request: pytest.FixtureRequest) -> Iterator[BackgroundTask]:
    held = Held(queued=request.param == "queued")
    yield held.task
    held.end()


@pytest.fixture
def task() -> BackgroundTask:
    return BackgroundTask("job")


def test_start_on_a_running_task_is_a_runtime_error(held: BackgroundTask) -> None:
    with pytest.raises(RuntimeError, match="already running"):
        held.start(print)
    assert held.is_running


def test_reset_on_a_running_task_is_a_runtime_error(held: BackgroundTask) -> None:
    with pytest.raises(RuntimeError, match="Cannot reset"):
        held.reset()
    assert held.is_running


def test_a_task_has_its_name() -> None:
    assert BackgroundTask().name == "task"
    assert BackgroundTask("job").name == BackgroundTask(name="job").name == "job"


def test_update_clamps_and_follows(task: BackgroundTask) -> None:
    seen: list[float] = []

    def work(task: BackgroundTask) -> None:
        for progress in (150, -10, 40, 30.5, None):
            task.update(progress=progress)
            seen.append(task.state.progress)

    task.start(work)
    assert task.wait(30)
    assert seen == [100.0, 0.0, 40.0, 30.5, 30.5]
    assert task.state.progress == 100.0


def test_what_a_task_reports_is_seen(task: BackgroundTask) -> None:
    seen: list[TaskState] = []

    def work(task: BackgroundTask, first: int, *, second: int) -> None:
        task.update(first, "half way")
        task.log("a line")
        seen.append(task.state)
        assert task.is_running
        assert second == 2

    before = time.time()
    task.start(work, 50, second=2)
    assert task.wait(30)
    (state,) = seen
    assert (state.running, state.complete, state.error, state.finished_at) == (True, False, None, None)
    assert (state.progress, state.message, state.logs) == (50.0, "half way", ["a line"])
    state = task.state
    assert (task.is_running, task.is_complete, task.is_failed) == (False, True, False)
    assert (state.progress, state.logs) == (100.0, ["a line"])
    assert state.logs is not task.state.logs
    assert state.started_at is not None
    assert state.finished_at is not None
    assert before <= state.started_at <= state.finished_at <= time.time()


@pytest.mark.parametrize(("given", "message"), [((), "Done"), (("all is done",), "all is done")])
def test_a_task_ends_itself(task: BackgroundTask, given: tuple[str, ...], message: str) -> None:
    task.start(lambda task: task.complete(*given))
    assert task.wait(30)
    assert task.is_complete
    assert (task.state.message, task.state.progress) == (message, 100.0)


@pytest.mark.parametrize("raising", [False, True])
def test_a_task_fails(task: BackgroundTask, raising: bool) -> None:
    def work(task: BackgroundTask) -> None:
        if raising:
            raise ValueError("no such thing")
        task.fail("no such thing")

    task.start(work)
    assert task.wait(30)
    assert (task.is_running, task.is_complete, task.is_failed) == (False, False, True)
    assert (task.state.error, task.state.message) == ("no such thing", "Failed: no such thing")


def test_a_task_is_reset_and_runs_again(task: BackgroundTask) -> None:
    task.start(lambda task: task.log("first"))
    assert task.wait(30)
    task.reset()
    assert (task.is_running, task.is_complete, task.state.progress, task.state.logs) == (False, False, 0.0, [])
    task.start(lambda task: task.log("second"))
    assert task.wait(30)
    assert (task.is_complete, task.state.logs) == (True, ["second"])


STATE: dict[str, Any] = {
    "running": False,
    "progress": 0.0,
    "message": "",
    "logs": [],
    "complete": False,
    "error": None,
    "started_at": None,
    "finished_at": None,
}


def test_a_state_has_its_fields_in_their_order() -> None:
    state = TaskState()
    assert {name: getattr(state, name) for name in STATE} == STATE
    assert state.logs is not TaskState().logs
    values: list[Any] = [True, 12.34, "half way", ["a", "b", "c"], False, "words", 1.5, 2.5]
    given = TaskState(*values)
    assert [getattr(given, name) for name in STATE] == values
    assert TaskState(**dict(zip(STATE, values, strict=True))) == given
    document = given.to_dict(max_logs=2)
    assert [document[name] for name in STATE] == [True, 12.3, "half way", ["b", "c"], False, "words", 1.5, 2.5]
    assert len(TaskState(logs=["line"] * 60).to_dict()["logs"]) == 50


# Files


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FileStore]:
    files = FileStore(str(tmp_path / "files"))
    yield files
    files.close()


def test_a_file_store_has_its_folder(files: FileStore, tmp_path: Path) -> None:
    assert files.base_dir == str(tmp_path / "files")
    assert files.auto_create is True
    assert os.path.isdir(files.base_dir)  # noqa: PTH112 - it is a str
    assert FileStore(str(tmp_path / "none"), auto_create=False).auto_create is False
    assert not (tmp_path / "none").exists()


def test_files_are_saved_found_and_cleaned_up(files: FileStore) -> None:
    assert (files.list_files(SID), files.get_path(SID, "a.txt"), files.total_size_bytes) == ([], None, 0)
    saved = files.save(SID, "a.txt", b"hello")
    assert isinstance(saved, str)
    assert Path(saved).is_absolute()
    assert files.save(SID, filename="b.txt", data=io.BytesIO(b"more")) == files.get_path(SID, "b.txt")
    assert files.get_path(SID, "a.txt") == saved
    assert Path(saved).read_bytes() == b"hello"
    folder = files.session_dir(SID)
    assert isinstance(folder, str)
    assert Path(folder).is_dir()
    assert sorted(files.list_files(SID)) == ["a.txt", "b.txt"]
    assert isinstance(files.list_files(SID), list)
    assert files.total_size_bytes == 9
    assert files.get_path("b" * 32, "a.txt") is None
    files.cleanup(SID)
    files.cleanup("b" * 32)
    assert (files.list_files(SID), Path(folder).exists()) == ([], False)
    files.save(SID, "a.txt", b"hello")
    files.cleanup_all()
    assert (files.list_files(SID), files.total_size_bytes) == ([], 0)
