"""Uploads on real servers: a body that is cut short is refused, and a client that sends too much reads why."""

from __future__ import annotations

import http.client
import json
import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from app_servers import SERVERS
from silo_store.testing import SID
from upload_app import MAX_BODY, MAX_FILE

pytestmark = pytest.mark.slow

BOUNDARY = "----boundary"
RAW = ("PUT", "/api/files/a.bin", "application/octet-stream")
FORM = ("POST", "/api/files", f"multipart/form-data; boundary={BOUNDARY}")
KINDS = {"raw": RAW, "form": FORM}


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


@contextmanager
def serving(kind: str, folder: Path, **settings: str) -> Iterator[Server]:
    """Serve the application of ``upload_app``, with these settings in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"UPLOAD_FOLDER": str(folder / "files"), **settings}.items():
            patch.setenv(name, value)
        with SERVERS[kind]("upload_app", folder / "log") as port:
            yield Server(kind, port, folder / "files")


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each kind of server."""
    with serving(request.param, tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(params=["gunicorn sync", "gunicorn gthread", "gunicorn gevent"])
def impatient(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Each kind of Gunicorn, which reads the rest of a refused body for a short time."""
    with serving(request.param, tmp_path, UPLOAD_LINGER="0.2") as server:
        yield server


def head(kind: tuple[str, str, str], length: int | None, *more: str) -> bytes:
    """Return the head of a request; without a length the body is chunked."""
    method, path, content_type = kind
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"X-Session-ID: {SID}", f"Content-Type: {content_type}"]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return "\r\n".join([*lines, *more, "", ""]).encode()


def named(name: str) -> tuple[str, str, str]:
    """Return a raw upload of this name."""
    return RAW[0], f"/api/files/{name}", RAW[2]


def body(kind: tuple[str, str, str], size: int, name: str = "a.bin") -> bytes:
    """Return a body with a file of this size."""
    if kind is not FORM:
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
@pytest.mark.parametrize("sent", [0, 70_000, 1_500_000, -3], ids=lambda sent: f"{sent} bytes")
@pytest.mark.parametrize("length", ["length", "chunked"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_body_that_is_cut_short_is_refused(server: Server, kind: str, length: str, sent: int) -> None:
    data = body(KINDS[kind], 2_000_000, "cut.bin")
    target = named("cut.bin") if kind == "raw" else FORM
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


REFUSALS = {
    "file": (20_000_000, "large.bin", 413, "file_too_large"),
    "body": (MAX_BODY + 1, "large.bin", 413, "request_too_large"),
    "name": (20_000_000, "NUL.bin", 400, "invalid_file_name"),
    "extension": (MAX_FILE, "large.exe", 415, "extension_refused"),
}


@pytest.mark.parametrize("length", ["length", "chunked"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_client_that_sends_everything_first_reads_why_it_was_refused(
    server: Server, refusal: str, kind: str, length: str
) -> None:
    size, name, expected, error = REFUSALS[refusal]
    target = named(name) if kind == "raw" else FORM
    data = body(target, size, name)
    with closing(server.connect()) as connection:
        if length == "length":
            connection.sendall(head(target, len(data)))
            connection.sendall(data)
        else:
            connection.sendall(head(target, None))
            connection.sendall(chunks(data) + b"0\r\n\r\n")
        status, said = answer(connection)
    # Of a body without a length, the file is found too large before the body is.
    errors = {error, "file_too_large"} if refusal == "body" else {error}
    assert status == expected
    assert said["error"] in errors
    if said["error"] == "file_too_large":
        assert said["max_bytes"] == MAX_FILE
    assert name not in server.names()
    assert server.unfinished() == []


def test_a_client_of_the_standard_library_reads_why_it_was_refused(server: Server) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as client:
        for _ in range(2):  # the second on the same connection, if the server keeps it
            client.request("PUT", "/api/files/large.bin", b"x" * 20_000_000, {"X-Session-ID": SID})
            response = client.getresponse()
            assert (response.status, json.load(response)["error"]) == (413, "file_too_large")
        if server.kind == "gunicorn gthread" and int(version("gunicorn").split(".")[0]) < 27:
            client.close()  # it loses a small request that it has read with the end of the body before
        client.request("PUT", "/api/files/small.bin", b"x", {"X-Session-ID": SID})
        assert client.getresponse().status == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_reads_while_it_sends_is_refused_early(server: Server, kind: str) -> None:
    if server.kind == "waitress":
        pytest.skip("Waitress reads the whole body before it calls the application")
    target = KINDS[kind]
    data = body(target, 20_000_000)
    with closing(server.connect()) as connection:
        connection.sendall(head(target, len(data)) + data[: MAX_FILE + 2_000_000])
        assert answer(connection)[0] == 413


def test_a_client_that_waits_to_be_asked_for_the_body_is_refused_before(server: Server) -> None:
    """``Expect: 100-continue``. Most servers ask at once: then the client sends, and reads the answer."""
    with closing(server.connect()) as connection:
        connection.sendall(head(RAW, 20_000_000, "Expect: 100-continue"))
        first = connection.recv(25, socket.MSG_PEEK)
        if server.kind == "gevent":
            assert first.startswith(b"HTTP/1.1 413")
        else:
            assert first == connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"x" * 20_000_000)
        assert answer(connection)[0] == 413
    assert server.unfinished() == []


def test_a_client_that_waits_to_be_asked_for_the_body_sends_it(server: Server) -> None:
    with closing(server.connect()) as connection:
        connection.sendall(head(RAW, 10, "Expect: 100-continue"))
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"x" * 10)
        assert answer(connection)[0] == 200


def test_a_refused_client_that_sends_no_more_is_not_waited_for_long(impatient: Server) -> None:
    with ExitStack() as stack:
        for _ in range(2 if impatient.kind == "gunicorn sync" else 5):  # more than the server has threads
            connection = stack.enter_context(closing(impatient.connect()))
            connection.sendall(head(RAW, 20_000_000))
            assert answer(connection)[0] == 413
        assert impatient.names() == []


def test_a_refused_client_that_goes_on_slowly_is_cut_off(impatient: Server) -> None:
    """Otherwise it holds a thread for as long as it likes: bytes keep coming, so no read of the server times out."""
    with closing(impatient.connect()) as connection:
        connection.sendall(head(RAW, 20_000_000))
        assert answer(connection)[0] == 413
        for _ in range(200):
            if select.select([connection], [], [], 0.05)[0]:
                break
            connection.sendall(b"x")
        else:
            pytest.fail("the client is still served")
    assert impatient.names() == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(
    "arguments", [["-T", "{}", "{}/api/files/c.bin"], ["-F", "file=@{}", "{}/api/files"]], ids=KINDS
)
@pytest.mark.parametrize("size", [1_000_000, 20_000_000])
def test_curl_uploads(server: Server, arguments: list[str], size: int, tmp_path: Path) -> None:
    file = tmp_path / "c.bin"
    file.write_bytes(b"x" * size)
    *first, url = arguments
    command = [
        "curl",
        "-sS",
        "-H",
        f"X-Session-ID: {SID}",
        "-w",
        "%{http_code}",
        "-o",
        str(tmp_path / "answer"),
        "--max-time",
        "30",
    ]
    done = subprocess.run(
        [*command, *(each.format(file) for each in first), url.format(f"http://127.0.0.1:{server.port}")],
        capture_output=True,
        text=True,
        check=False,
    )
    expected = "200" if size < MAX_FILE else "413"
    assert (done.stdout, done.returncode, done.stderr) == (expected, 0, "")
