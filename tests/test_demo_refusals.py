"""The demo refuses what is too large or wrong."""

from __future__ import annotations

import http.client
import io
import json
import select
import socket
from pathlib import Path
from typing import Any

import pytest
from demo_client import DEADLINE, MB, SMALL, Client, client, create_app, demo, problem, silo_of
from flask import Flask
from serving import served
from werkzeug.test import TestResponse

__all__ = ["client", "demo"]

pytestmark = pytest.mark.slow


def test_too_large_is_refused_before_it_is_sent(demo: Flask) -> None:
    with served(demo) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        connection.putrequest("POST", "/api/upload?name=huge.csv")
        connection.putheader("Content-Length", str(500 * MB))
        connection.endheaders(b"a,b\n")
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
    assert answer.status == 413
    assert said["message"] == "The file is too large. Up to 0.25 MB can be uploaded."
    assert silo_of(demo).file_store("uploads").total_size_bytes == 0


def test_too_large_without_a_length_is_refused_on_the_way(demo: Flask) -> None:
    block = b"10000\r\n" + b"x,1\n" * 0x4000 + b"\r\n"
    sent = 0
    with served(demo) as port, socket.create_connection(("127.0.0.1", port), DEADLINE) as connection:
        head = b"POST /api/upload?name=huge.csv HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head)
        while not select.select([connection], [], [], 0)[0]:
            sent += len(block)
            assert sent < 500 * MB, "the server takes whatever comes"
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert silo_of(demo).file_store("uploads").total_size_bytes == 0
    assert Client(demo).summary(SMALL, "city")


def raw_upload(client: Client, body: Any, **environ: Any) -> TestResponse:
    overrides = {"wsgi.input": body, "CONTENT_LENGTH": "", **environ}
    return client.ask("POST", "/api/upload", query_string={"name": "a.csv"}, environ_overrides=overrides)


def test_an_upload_without_end_is_refused(demo: Flask, client: Client) -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.taken += len(buffer)
            return len(buffer)

    body = Endless()
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    problem(raw_upload(client, body, **chunked), 413)
    assert body.taken < MB
    assert silo_of(demo).file_store("uploads").total_size_bytes == 0


def test_a_broken_off_upload_leaves_nothing(demo: Flask, client: Client) -> None:
    problem(raw_upload(client, io.BytesIO(SMALL), CONTENT_LENGTH=str(len(SMALL) + 100)), 400)
    assert silo_of(demo).file_store("uploads").total_size_bytes == 0
    assert client.summary(SMALL, "city")


def test_a_session_holds_one_file(demo: Flask, client: Client) -> None:
    for number in range(5):
        assert client.upload(b"a,b\n" + b"x,1\n" * 60_000, f"{number}.csv").status_code == 200
    assert silo_of(demo).file_store("uploads").total_size_bytes == 240_004


@pytest.mark.parametrize("store", ["uploads", "results"])
def test_a_session_that_ends_before_its_file_is_opened_has_expired(
    demo: Flask, client: Client, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.summary(SMALL, "city")
    silo = silo_of(demo)
    files = silo.file_store(store)
    open_file = files.open

    def late(sid: str, name: str) -> Any:
        silo.store.expire(sid)
        silo.store.cleanup()
        return open_file(sid, name)

    monkeypatch.setattr(files, "open", late)
    answer = client.upload(SMALL) if store == "uploads" else client.ask("GET", "/api/download")
    assert (answer.status_code, (answer.json or {})["error"]) == (410, "session_expired")
    assert "X-Session-ID" not in answer.headers


def test_a_large_question_is_refused(client: Client) -> None:
    client.upload(SMALL)
    problem(client.ask("POST", "/api/start", data=b" " * 100_000, content_type="application/json"), 413)


@pytest.mark.hostile
@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "a\\b.csv",
        "a\0b.csv",
        "a\nb.csv",
        "a\u202evsc.csv",
        "x" * 300,
        "a. ",
    ],
)
def test_hostile_names_are_refused(tmp_path: Path, name: str) -> None:
    app = create_app(DATA_DIR=str(tmp_path / "data"))
    try:
        problem(Client(app).upload(SMALL, name), 400)
        assert silo_of(app).file_store("uploads").total_size_bytes == 0
    finally:
        silo_of(app).stop()


@pytest.mark.parametrize(
    "question",
    [
        {"by": "nowhere", "how": "count"},
        {"by": "city", "how": "sum", "value": "nowhere"},
        {"by": "city", "how": "sum"},
        {"by": "city", "how": "median", "value": "size"},
        {"by": ["city"], "how": {}},
        {"by": None, "how": "count"},
        {},
        [],
        "city",
        None,
    ],
)
def test_wrong_questions_are_refused(client: Client, question: Any) -> None:
    client.upload(SMALL)
    problem(client.ask("POST", "/api/start", data=json.dumps(question), content_type="application/json"), 400)
    assert client.ask("GET", "/api/status").get_json()["task"]["status"] == "idle"


def test_other_wrong_requests(client: Client) -> None:
    assert problem(client.start("city"), 409) == "Upload a file first."
    client.upload(SMALL)
    problem(client.ask("POST", "/api/start", data="{", content_type="application/json"), 400)
    problem(client.ask("POST", "/api/start", data="by=city"), 415)
    problem(client.ask("GET", "/api/nothing"), 404)
    problem(client.ask("GET", "/api/start"), 405)


def test_an_error_of_the_server_is_json(demo: Flask, client: Client) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("secret")

    demo.view_functions["upload"] = broken
    answer = client.upload(SMALL)
    assert "secret" not in problem(answer, 500)
