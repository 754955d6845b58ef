"""The routes of a file store on real servers."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from app_servers import on_gunicorn, on_werkzeug
from flask_silo_helpers import HEADER
from servers import until

pytestmark = pytest.mark.slow

MIB = 1024 * 1024


def ask(port: int, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, Any, Any]:
    """Make a request, and return the status, the headers and the JSON of its answer."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, answer.headers, json.loads(content) if content else None


def is_staged(folder: Path) -> bool:
    """Return whether a file is being written below ``folder``, whose folders come and go meanwhile."""
    return any(name.endswith(".part") for _, _, names in os.walk(folder) for name in names)


SERVERS = {
    "gunicorn gthread": on_gunicorn("-k=gthread", "--threads=4"),
    "gunicorn gevent": on_gunicorn("-k=gevent"),
    "werkzeug": on_werkzeug,
}


@pytest.fixture(params=SERVERS)
def port(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv("FILES_APP_FOLDER", str(tmp_path / "uploads"))
    with SERVERS[request.param]("files_app", tmp_path) as port:
        yield port


def test_a_slow_upload_keeps_no_other_request_of_its_session_waiting(port: int, tmp_path: Path) -> None:
    status, headers, _ = ask(port, "POST", "/api/increment", {})
    assert status == 200
    mine = {HEADER: headers[HEADER]}
    with closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as slow:
        head = f"PUT /api/files/uploads/slow.bin HTTP/1.1\r\nHost: x\r\n{HEADER}: {mine[HEADER]}\r\n"
        slow.sendall(f"{head}Content-Length: {4 * MIB}\r\nConnection: close\r\n\r\n".encode())
        slow.sendall(bytes(2 * MIB))
        until(lambda: is_staged(tmp_path), "the upload does not begin")
        assert ask(port, "POST", "/api/increment", mine)[2] == {"value": 2}
        assert ask(port, "PUT", "/api/files/uploads/quick.bin", mine, b"1")[0] == 201
        assert [each["name"] for each in ask(port, "GET", "/api/files/uploads", mine)[2]["files"]] == ["quick.bin"]
        slow.sendall(bytes(2 * MIB))
        with slow.makefile("rb") as answer:
            assert answer.readline().split()[1] == b"201"
    assert len(ask(port, "GET", "/api/files/uploads", mine)[2]["files"]) == 2


def test_a_client_that_sends_all_before_it_reads_learns_why_its_upload_is_refused(port: int) -> None:
    status, headers, _ = ask(port, "PUT", "/api/files/uploads/a.bin", {}, b"1")
    assert status == 201
    only_new = {HEADER: headers[HEADER], "If-None-Match": "*"}
    refused = ask(port, "PUT", "/api/files/uploads/a.bin", only_new, bytes(16 * MIB))
    assert (refused[0], refused[2]["error"]) == (412, "precondition_failed")
    refused = ask(port, "PUT", "/api/files/uploads/a%2Fb", {}, bytes(16 * MIB))
    assert (refused[0], refused[2]["error"]) == (400, "invalid_file_name")
