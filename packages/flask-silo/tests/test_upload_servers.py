"""Uploads on real servers: a body that is cut short is refused, and a client that sends too much reads why."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from app_servers import SERVERS
from silo_store.testing import SID
from upload_app import MAX_FILE

pytestmark = pytest.mark.slow

BOUNDARY = "----boundary"
RAW = ("PUT", "/api/files/a.bin", "application/octet-stream")
FORM = ("POST", "/api/files", f"multipart/form-data; boundary={BOUNDARY}")
KINDS = {"raw": RAW, "form": FORM}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A port on which each kind of server serves the application of ``upload_app``."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPLOAD_FOLDER", str(folder / "files"))
        with SERVERS[request.param]("upload_app", folder / "log") as port:
            yield Server(request.param, port, folder / "files")


class Server:
    """A server, and the folder of its files."""

    def __init__(self, kind: str, port: int, folder: Path) -> None:
        self.kind = kind
        self.port = port
        self.folder = folder

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.settimeout(30)
        return connection

    def names(self) -> Any:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as client:
            client.request("GET", "/api/files", headers={"X-Session-ID": SID})
            return json.load(client.getresponse())

    def unfinished(self) -> list[Path]:
        return list(self.folder.rglob("*.part"))


def head(kind: tuple[str, str, str], length: int | None, *more: str) -> bytes:
    """Return the head of a request; without a length the body is chunked."""
    method, path, content_type = kind
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"X-Session-ID: {SID}", f"Content-Type: {content_type}"]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return "\r\n".join([*lines, *more, "", ""]).encode()


def body(kind: tuple[str, str, str], size: int, name: str = "a.bin") -> bytes:
    """Return a body with a file of this size."""
    if kind is RAW:
        return b"x" * size
    start = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return start.encode() + b"x" * size + f"\r\n--{BOUNDARY}--\r\n".encode()


def chunks(data: bytes, size: int = 50_000) -> bytes:
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def answer(connection: socket.socket) -> tuple[int, Any]:
    """Read a response, and what it says in JSON."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


@pytest.mark.parametrize("length", ["length", "chunked"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_is_saved(server: Server, kind: str, length: str) -> None:
    data = body(KINDS[kind], 2_000_000)
    with closing(server.connect()) as connection:
        if length == "length":
            connection.sendall(head(KINDS[kind], len(data)) + data)
        else:
            connection.sendall(head(KINDS[kind], None) + chunks(data) + b"0\r\n\r\n")
        status, said = answer(connection)
    (info,) = said if kind == "raw" else said["files"]
    assert (status, info["name"], info["size"]) == (200, "a.bin", 2_000_000)
    assert server.names() == ["a.bin"]


@pytest.mark.filterwarnings(
    "ignore:.*FileIO:pytest.PytestUnraisableExceptionWarning"
)  # Waitress closes no cut spool file
@pytest.mark.parametrize("sent", [0, 1, 70_000, 1_500_000, -3], ids=lambda sent: f"{sent} bytes")
@pytest.mark.parametrize("length", ["length", "chunked"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_body_that_is_cut_short_is_refused(server: Server, kind: str, length: str, sent: int) -> None:
    data = body(KINDS[kind], 2_000_000, "cut.bin")
    target = (RAW[0], "/api/files/cut.bin", RAW[2]) if kind == "raw" else FORM
    start = head(target, len(data) if length == "length" else None)
    wire = data if length == "length" else chunks(data) + b"0\r\n\r\n"
    with closing(server.connect()) as connection:
        connection.sendall(start + wire[:sent])
        connection.shutdown(socket.SHUT_WR)
        if server.kind != "waitress":
            status, said = answer(connection)
            assert (status, said["error"]) == (400, "truncated_upload")
        else:
            connection.recv(1000)
    assert "cut.bin" not in server.names()
    assert server.unfinished() == []


@pytest.mark.parametrize("length", ["length", "chunked"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_sends_everything_first_reads_that_it_was_too_much(
    server: Server, kind: str, length: str
) -> None:
    data = body(KINDS[kind], 20_000_000, "large.bin")
    with closing(server.connect()) as connection:
        if length == "length":
            connection.sendall(head(KINDS[kind], len(data)))
            connection.sendall(data)
        else:
            connection.sendall(head(KINDS[kind], None))
            connection.sendall(chunks(data) + b"0\r\n\r\n")
        assert answer(connection) == (
            413,
            {
                "error": "file_too_large",
                "max_bytes": MAX_FILE,
                "message": "The file is too large. The limit is 3,000,000 bytes.",
            },
        )
    assert "large.bin" not in server.names()
    assert server.unfinished() == []
