"""``flask silo doctor`` finds mistakes in the set-up."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_silo import Silo
from silo_files import FileBackend, LocalFileBackend
from silo_store import Finding
from silo_tasks import MemoryTaskStore
from silo_tasks.runners.message import Message
from silo_tasks.runners.queue import QueueRunner


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS", "SILO_STORE_URL"):
        monkeypatch.delenv(name, raising=False)


def examined(app: Flask) -> tuple[int, dict[str, Any]]:
    result = app.test_cli_runner().invoke(args=["silo", "doctor", "--json"])
    return result.exit_code, json.loads(result.output)


def made(**options: Any) -> tuple[Flask, Silo]:
    app = Flask("ill")
    silo = Silo(app, **options)
    app.add_url_rule("/api/data", view_func=dict)
    return app, silo


def troubles(app: Flask) -> list[tuple[str, str]]:
    return [(each["level"], each["topic"]) for each in examined(app)[1]["findings"] if each["level"] != "ok"]


def test_a_new_application_is_well(tmp_path: Path) -> None:
    app, silo = made()
    silo.add_file_store("uploads", tmp_path / "uploads")
    status, found = examined(app)
    assert (status, found["errors"], found["warnings"]) == (0, 0, 0)
    assert [each["topic"] for each in found["findings"]] == [
        "settings",
        "requests",
        "ids",
        "memory",
        "capacity",
        "workers",
        "files: uploads",
    ]
    text = app.test_cli_runner().invoke(args=["silo", "doctor"]).output.splitlines()
    assert text[0].startswith("ok  settings")
    assert text[-1] == "0 errors, 0 warnings"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"ttl": 30}, "SILO_CLEANUP_INTERVAL"),
        ({"expired_retain": 30}, "SILO_EXPIRED_RETAIN"),
        ({"auto_cleanup": False}, "SILO_AUTO_CLEANUP"),
        ({"min_sid_length": 8}, "SILO_MIN_SID_LENGTH"),
        ({"accept_client_ids": True}, "SILO_ACCEPT_CLIENT_IDS"),
    ],
)
def test_a_doubtful_setting_is_a_warning(options: dict[str, Any], word: str) -> None:
    app, _ = made(**options)
    status, found = examined(app)
    assert (status, found["warnings"]) == (0, 1)
    (warning,) = [each for each in found["findings"] if each["level"] == "warning"]
    assert word in warning["message"]


@pytest.mark.parametrize(
    ("prefix", "rule", "well"),
    [
        ("/api/", "/api/<int:number>", True),
        ("/api/", "/<lang>/x", True),
        ("/", "/x", True),
        ("/api/", "/other/<x>", False),
        ("/v1/", "/api/x", False),
    ],
)
def test_a_prefix_that_no_url_has_is_a_warning(prefix: str, rule: str, well: bool) -> None:
    app = Flask("prefix", static_folder=None)
    Silo(app, api_prefix=prefix)
    app.add_url_rule(rule, "view", view_func=lambda **_: {})
    assert troubles(app) == ([] if well else [("warning", "requests")])


@pytest.mark.parametrize(
    ("arguments", "concurrency", "number"),
    [
        ("", "4", 4),
        ("-w 3", "", 3),
        ("--bind=:80 -w3", "", 3),
        ("--workers 3", "1", 3),
        ("--workers=3 --threads=8", "", 3),
        ("--threads 8", "1", 1),
        ("--threads 8", "", None),
        ("--worker-class gthread", "many", None),
        ("--workers", "", None),
        ("-w 'unclosed", "2", 2),
        ("-w 1", "4", 1),
    ],
)
def test_workers_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str, concurrency: str, number: int | None
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", arguments)
    monkeypatch.setenv("WEB_CONCURRENCY", concurrency)
    app, _ = made()
    several = number is not None and number > 1
    status, found = examined(app)
    assert status == (1 if several else 0)
    (finding,) = [each for each in found["findings"] if each["topic"] == "workers"]
    assert finding["level"] == ("error" if several else "ok")
    assert (f"{number} worker" in finding["message"]) is (number is not None)
    shared, _ = made(store_url=f"sqlite:///{tmp_path}/sessions.db")
    assert troubles(shared) == []


class Queue(QueueRunner):
    """A task queue that the doctor can only read."""

    def dumps(self, value: Any) -> bytes:
        return b""

    def send(self, message: Message) -> None:
        raise AssertionError("the doctor must start no run")


def test_tasks_on_a_queue_need_sessions_that_workers_reach(tmp_path: Path) -> None:
    queue = Queue(MemoryTaskStore())
    for options, level in (({}, "error"), ({"store_url": f"sqlite:///{tmp_path}/sessions.db"}, "ok")):
        app, silo = made(**options)
        silo.task(name="report", runner=queue)(made)
        (finding,) = [each for each in examined(app)[1]["findings"] if each["topic"] == "tasks"]
        assert (finding["level"], "report" in finding["message"]) == (level, True)


def test_a_queue_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    # no server listens on port 1
    stores = pytest.importorskip("silo_tasks.stores.redis", exc_type=ImportError)
    app, silo = made(store_url=f"sqlite:///{tmp_path}/sessions.db")
    silo.task(name="report", runner=Queue(stores.RedisTaskStore("redis://127.0.0.1:1/0")))(made)
    status, found = examined(app)
    errors = [each["message"] for each in found["findings"] if each["level"] == "error"]
    assert (status, len(errors)) == (1, 1)
    assert errors[0].startswith("the queue of report: the task store in Redis cannot be reached: ")
    assert "127.0.0.1:1" in errors[0]


def test_a_limit_of_state_is_told(tmp_path: Path) -> None:
    live, _ = made(max_state_bytes=5000)
    assert troubles(live) == [("warning", "state")]
    for options, words in (({"max_state_bytes": 5000}, "5,000 bytes"), ({}, "any size")):
        app, _ = made(store_url="memory://?copy=1", **options)
        (finding,) = [each for each in examined(app)[1]["findings"] if each["topic"] == "state"]
        assert finding["level"] == "ok"
        assert words in finding["message"]


def test_the_number_of_sessions_is_told_beside_the_limit(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"
    for options, words in (({}, "any number of sessions"), ({"max_sessions": 20}, "at most 20 sessions may live (")):
        (finding,) = of(made(store_url=url, **options)[0], "capacity")
        assert finding["level"] == "ok"
        assert words in finding["message"]
        assert "proxy" in finding["message"], "limits for each address are not ours"
    (finding,) = of(made(max_sessions=20)[0], "capacity")
    assert "in each process" in finding["message"]
    app, silo = made(store_url=url, max_sessions=20)
    for number, level in ((17, "ok"), (18, "warning"), (20, "warning")):
        while silo.store.active_count < number:
            silo.store.ensure(silo.store.get(f"{silo.store.active_count:032}"))
        (finding,) = of(app, "sessions")
        assert (finding["level"], f"{number} sessions of at most" in finding["message"]) == (level, True)
        assert "of at most 20 (" in finding["message"]
    (finding,) = of(made(store_url=url)[0], "sessions")
    assert (finding["level"], finding["message"]) == ("ok", "can be reached: 20 sessions")


def of(app: Flask, topic: str) -> list[dict[str, str]]:
    return [each for each in examined(app)[1]["findings"] if each["topic"] == topic]


def test_a_relative_database_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app, _ = made(store_url="sqlite:///sessions.db")
    assert ("warning", "store_url") in troubles(app)


def test_an_environment_that_says_nothing_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILO_STORE_URL", "memory://?copy=1")
    assert troubles(made()[0]) == []
    app, _ = made(store_url="memory://")
    assert troubles(app) == [("warning", "store_url")]
    monkeypatch.setenv("SILO_STORE_URL", "")
    assert troubles(app) == []


def test_a_setting_in_the_environment_that_is_not_used_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILO_TTL", "600")
    assert troubles(made()[0]) == []
    app, _ = made(ttl=700)
    assert troubles(app) == [("warning", "settings")]
    (finding, _) = of(app, "settings")
    assert finding["message"] == "SILO_TTL in the environment is not used: the application sets ttl itself"


def test_what_a_backend_finds_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    app, silo = made()
    monkeypatch.setattr(silo.store.backend, "check", lambda now: [Finding("error", "eviction", f"at {now > 0}")])
    assert examined(app)[0] == 1
    assert {"level": "error", "topic": "eviction", "message": "at True"} in examined(app)[1]["findings"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    app, silo = made()
    silo.add_file_store("uploads", tmp_path / "uploads")
    (tmp_path / "uploads").rmdir()
    assert troubles(app) == [("error", "files: uploads")]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, silo = made()
    silo.add_file_store("uploads", tmp_path / "uploads")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert troubles(app) == [("error", "files: uploads")]


def test_a_relative_folder_is_a_warning_that_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app, silo = made()
    silo.add_file_store("uploads", "uploads")
    (finding,) = of(app, "files: uploads")
    assert finding["level"] == "warning"
    assert finding["message"].startswith(f"{tmp_path / 'uploads'} was given as a relative path")


def test_files_of_another_backend_are_not_checked(tmp_path: Path) -> None:
    class OtherBackend(LocalFileBackend):
        pass

    class Proxy:
        def __init__(self, inner: FileBackend) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    app, silo = made()
    proxy: Any = Proxy(OtherBackend(str(tmp_path / "there")))
    silo.add_file_store("uploads", tmp_path / "nowhere", backend=proxy)
    status, found = examined(app)
    assert status == 0
    assert "kept by Proxy" in found["findings"][-1]["message"]


def test_the_routes_of_files_are_told_and_those_that_are_hidden(tmp_path: Path) -> None:
    app, silo = made()
    silo.add_file_store("plain", tmp_path / "plain")
    silo.add_file_store("uploads", tmp_path / "uploads", routes=("download", "list"))
    assert of(app, "routes: plain") == []
    (told,) = of(app, "routes: uploads")
    assert told["message"] == "clients may list, download without a view of the application"
    app.add_url_rule("/<path:file>", "page", lambda file: file)
    assert len(of(app, "routes: uploads")) == 1
    app.add_url_rule("/api/files/<name>", "own", lambda name: name)
    _, hidden = of(app, "routes: uploads")
    assert hidden["level"] == "warning"
    assert hidden["message"].startswith("GET /api/files/uploads goes to the endpoint own of the application")


def test_links_need_a_secret_key(tmp_path: Path) -> None:
    app, silo = made()
    silo.add_file_store("uploads", tmp_path / "uploads", routes="link")
    assert troubles(app) == [("warning", "routes: uploads")]
    assert "SECRET_KEY" in of(app, "routes: uploads")[1]["message"]
    app.secret_key = "secret"
    assert troubles(app) == []
