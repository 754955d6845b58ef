"""Requests, files and state that are too large are answered in JSON that gives the limit."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, abort, jsonify, request
from flask_silo import Silo
from flask_silo_helpers import as_, counter_app
from silo_store.testing import SID
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.test import TestResponse
from werkzeug.wsgi import get_input_stream

LIMIT = 2000


@pytest.fixture
def app(silo: Silo) -> Flask:
    app = counter_app(silo)
    app.config["MAX_CONTENT_LENGTH"] = LIMIT

    def read() -> Any:
        return jsonify(len(request.get_data()))

    def read_blocks() -> Any:  # Werkzeug's ``get_data()`` cuts off what is beyond the limit
        return jsonify(sum(map(len, iter(lambda: request.stream.read(100), b""))))

    def read_form() -> Any:
        request.max_form_memory_size, request.max_form_parts = 1000, 2
        return jsonify(sorted(request.form))

    def read_more() -> Any:
        return jsonify(len(get_input_stream(request.environ, max_content_length=3 * LIMIT).read()))

    app.add_url_rule("/api/read", view_func=read, methods=["POST"])
    app.add_url_rule("/page/read", "elsewhere", view_func=read, methods=["POST"])
    app.add_url_rule("/api/blocks", view_func=read_blocks, methods=["POST"])
    app.add_url_rule("/api/form", view_func=read_form, methods=["POST"])
    app.add_url_rule("/api/more", view_func=read_more, methods=["POST"])
    app.add_url_rule("/api/abort", view_func=lambda: abort(413, "Not more than three."), methods=["POST"])
    return app


def chunked(data: bytes) -> dict[str, Any]:
    """Return the test client's arguments for a body without a Content-Length."""
    environ = {"wsgi.input_terminated": True, "CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
    return {"input_stream": io.BytesIO(data), "environ_overrides": environ}


def fields(**sizes: int) -> dict[str, Any]:
    return {"data": {name: "x" * size for name, size in sizes.items()}, "content_type": "multipart/form-data"}


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        ("/api/read", {"data": b"x" * (LIMIT + 1)}, {"max_bytes": LIMIT}),
        ("/api/blocks", lambda: chunked(b"x" * (LIMIT + 1)), {"max_bytes": LIMIT}),
        ("/api/form", {"data": {"a": "x" * LIMIT}}, {"max_bytes": LIMIT}),
        ("/api/form", fields(a=LIMIT), {"max_bytes": LIMIT}),
        ("/api/form", fields(a=1001), {"max_bytes": 1000}),
        ("/api/form", fields(a=1, b=1, c=1), {"max_parts": 2}),
        ("/api/more", {"data": b"x" * (3 * LIMIT + 1)}, {"max_bytes": 3 * LIMIT}),
    ],
    ids=["a body", "without a length", "a form", "a form with parts", "a field", "too many parts", "a limit of a view"],
)
def test_a_request_that_is_too_large_is_told_the_limit(
    app: Flask, silo: Silo, path: str, body: Any, limit: dict[str, int]
) -> None:
    options = body() if callable(body) else body
    answer = app.test_client().post(path, headers=as_(SID), **options)
    said = answer.json or {}
    assert (answer.status_code, said["error"]) == (413, "request_too_large")
    assert {name: value for name, value in said.items() if name.startswith("max_")} == limit
    assert f"{next(iter(limit.values())):,} " in said["message"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Vary"] == "X-Session-ID"
    assert not silo.store.exists(SID)


def test_a_request_within_the_limit_is_read(app: Flask) -> None:
    client = app.test_client()
    assert client.post("/api/read", data=b"x" * LIMIT).json == LIMIT
    assert client.post("/api/form", **fields(a=1, b=100)).json == ["a", "b"]


def test_a_limit_that_cannot_be_known_is_not_made_up(app: Flask) -> None:
    def refuse() -> Any:
        raise RequestEntityTooLarge

    app.add_url_rule("/api/refuse", view_func=refuse, methods=["POST"])
    answer = app.test_client().post("/api/refuse")
    assert (answer.status_code, answer.json) == (
        413,
        {"error": "request_too_large", "message": "The request is too large."},
    )


def refused(app: Flask, path: str = "/api/read") -> TestResponse:
    return app.test_client().post(path, data=b"x" * (LIMIT + 1))


def own(error: HTTPException) -> tuple[str, int]:
    return "mine", 413


def same(error: Exception) -> Any:
    return own(error) if isinstance(error, HTTPException) else abort(500)


@pytest.mark.parametrize("kind", [413, RequestEntityTooLarge, HTTPException, Exception])
@pytest.mark.parametrize("early", [False, True])
def test_a_handler_of_the_application_wins(kind: Any, early: bool) -> None:
    app = Flask("own")
    app.config["MAX_CONTENT_LENGTH"] = LIMIT
    if early:
        app.register_error_handler(kind, same)
    Silo(app, auto_cleanup=False)
    app.add_url_rule("/api/read", view_func=lambda: request.get_data(), methods=["POST"])
    if not early:
        app.register_error_handler(kind, same)
    assert refused(app).text == "mine"


def test_requests_outside_the_prefix_and_answers_of_views_stay_as_they_are(app: Flask) -> None:
    assert refused(app).json
    assert refused(app, "/page/read").mimetype == "text/html"
    assert "Not more than three." in refused(app, "/api/abort").text
    assert app.test_client().get("/api/none").mimetype == "text/html"


def test_a_hook_that_reads_the_body_first_changes_nothing() -> None:
    app = Flask("hook")
    app.config["MAX_CONTENT_LENGTH"] = LIMIT
    app.before_request(lambda: request.get_data() and None)
    Silo(app, auto_cleanup=False)
    app.add_url_rule("/api/read", view_func=dict, methods=["POST"])
    for _ in range(2):
        assert refused(app).json == {
            "error": "request_too_large",
            "message": "The request is too large. The limit is 2,000 bytes.",
            "max_bytes": LIMIT,
        }


def test_a_file_that_is_too_large_is_told_the_limit(app: Flask, silo: Silo, tmp_path: Path) -> None:
    silo.add_file_store(
        "uploads", tmp_path / "uploads", max_file_bytes=1000, max_session_bytes=1500, max_store_bytes=1600, max_files=3
    )
    client = app.test_client()

    def upload(name: str, size: int, sid: str = SID) -> Any:
        answer = client.post("/api/upload", headers=as_(sid), data={"file": (io.BytesIO(b"x" * size), name)})
        return answer.status_code, answer.json

    assert upload("a", 1001) == (
        413,
        {"error": "file_too_large", "message": "The file is too large. The limit is 1,000 bytes.", "max_bytes": 1000},
    )
    assert upload("a", 1000)[0] == 200
    assert upload("b", 501) == (
        413,
        {
            "error": "session_quota",
            "message": "This session has no room for the file. The limit is 1,500 bytes.",
            "max_bytes": 1500,
        },
    )
    assert [upload(name, 1)[0] for name in "bc"] == [200, 200]
    status, said = upload("d", 1)
    assert (status, said["error"], said.get("max_files"), said.get("max_bytes")) == (413, "session_quota", 3, None)
    assert said["message"].endswith("The limit is 3 files.")
    status, said = upload("a", 700, "b" * 32)
    assert (status, said) == (507, {"error": "store_quota", "message": "The server has no room for the file."})


def test_a_file_that_is_longer_than_announced_is_told_no_limit(app: Flask, silo: Silo, tmp_path: Path) -> None:
    files = silo.add_file_store("uploads", tmp_path / "uploads", max_file_bytes=1000)

    @app.post("/api/announced")
    def announced() -> Any:
        files.save(silo.sid, "a", io.BytesIO(b"xx"), size=1)

    said = app.test_client().post("/api/announced", headers=as_(SID)).json
    assert said == {"error": "file_too_large", "message": "The file is too large."}


def test_state_that_is_too_large_is_told_the_limit() -> None:
    silo = Silo(store_url="memory://?copy=1", max_state_bytes=200, auto_cleanup=False)
    silo.register("counter", lambda: {"value": 0})
    app = counter_app(silo)

    @app.post("/api/fill")
    def fill() -> Any:
        silo.state("counter")["text"] = "x" * 300
        return {}

    answer = app.test_client().post("/api/fill")
    assert (answer.status_code, (answer.json or {})["max_bytes"]) == (413, 200)
    assert (answer.json or {})["message"] == "This session has no room for that. The limit is 200 bytes."
