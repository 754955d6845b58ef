"""The demo, and a test client for it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo, track
from werkzeug.test import TestResponse

DEMO = Path(__file__).parents[2] / "examples" / "data_processor"
sys.path.insert(0, str(DEMO))

import forms  # noqa: E402
import processing  # noqa: E402
from app import create_app as create_app  # noqa: E402

DEADLINE = 30.0
MB = 1024 * 1024
SMALL = b"city,size\nOslo,3\nRome,5\nOslo,4\n"


@pytest.fixture(scope="module", autouse=True)
def one_database() -> Iterator[None]:
    """Let the demo open connections to one database, as opening a new one takes longer than most tests do with it."""
    with duckdb.connect(config=forms.CONFIG) as database, pytest.MonkeyPatch.context() as patch:

        def connect(config: dict[str, Any]) -> duckdb.DuckDBPyConnection:
            assert config == forms.CONFIG, "the database of the tests has other settings"
            return database.cursor()

        patch.setattr(duckdb, "connect", connect)
        yield


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Flask]:
    app = create_app(DATA_DIR=str(tmp_path / "data"), MAX_UPLOAD_MB=0.25)
    yield app
    silo_of(app).stop()


@pytest.fixture
def client(demo: Flask) -> Client:
    return Client(demo)


def silo_of(app: Flask) -> Silo:
    silo = app.extensions["silo"]
    assert isinstance(silo, Silo)
    return silo


def expire_all(app: Flask) -> None:
    """Let every session expire now, unless a task works for it."""
    store = silo_of(app).store
    for sid in store.all_sids:
        store.expire(sid)


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return seen


class Client:
    """A client that keeps its session id, as the page does."""

    def __init__(self, app: Flask) -> None:
        self._http: FlaskClient = app.test_client()
        self.sid: str | None = None

    def ask(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"X-Session-ID": self.sid} if self.sid else {}
        answer = self._http.open(path, method=method, headers=headers, buffered=True, **options)
        self.sid = answer.headers.get("X-Session-ID", self.sid)
        return answer

    def upload(self, data: bytes, name: str = "data.csv") -> TestResponse:
        return self.ask("POST", "/api/upload", data=data, query_string={"name": name})

    def start(self, by: object, how: object = "count", value: object = None) -> TestResponse:
        return self.ask("POST", "/api/start", json={"by": by, "how": how, "value": value})

    def finish(self) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            task: dict[str, Any] = self.ask("GET", "/api/task").get_json()
            return None if task["running"] else task

        task: dict[str, Any] = until(look)
        return task

    def summary(self, data: bytes, by: str, how: str = "count", value: str | None = None) -> list[list[Any]]:
        assert self.upload(data).status_code == 200
        assert self.start(by, how, value).status_code == 202
        task = self.finish()
        assert task["complete"], task
        shown: list[list[Any]] = self.ask("GET", "/api/result").get_json()["shown"]
        return shown

    def failure(self, data: bytes, by: str, how: str = "count", value: str | None = None) -> str:
        assert self.upload(data).status_code == 200
        assert self.start(by, how, value).status_code == 202
        task = self.finish()
        assert task["status"] == "failed"
        # nothing is lost, and the same client can go on
        assert self.ask("GET", "/api/status").get_json()["source"]["name"] == "data.csv"
        assert self.summary(SMALL, "city") == [["Oslo", 2, 2], ["Rome", 1, 1]]
        return str(task["error"])


class Gate:
    """Stops the work before one of its steps until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()
        real = getattr(processing, name)

        def gated(*args: Any) -> Any:
            self.reached.set()
            while not self._opened.wait(0.005):
                for _ in track(()):  # raises if the task was cancelled
                    pass
            return real(*args)

        monkeypatch.setattr(processing, name, gated)

    def wait(self) -> None:
        assert self.reached.wait(DEADLINE)

    def open(self) -> None:
        self._opened.set()


def problem(answer: TestResponse, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.is_json
    message = answer.get_json()["message"]
    assert isinstance(message, str)
    assert message
    return message
