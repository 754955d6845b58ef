"""Downloads on real servers: the right bytes, whatever happens to the file, and no descriptor that stays open."""

from __future__ import annotations

import http.client
import io
import json
import random
import shutil
import socket
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from app_servers import SERVERS, on_gunicorn
from flask_silo.files.archive import OPEN_FILES
from flask_silo_helpers import as_
from open_files import open_files
from servers import until
from silo_store.testing import SID

pytestmark = pytest.mark.slow

SMALL = random.Random(1).randbytes(1_000_003)
BIG = 24 * 1024 * 1024
"""More bytes than the sockets between client and server hold."""

on_windows = sys.platform == "win32"


class Client:
    """A client with one session."""

    def __init__(self, port: int) -> None:
        self.port = port

    @contextmanager
    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and yield its response."""
        named = headers or {}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, {**as_(SID), **named})
            with connection.getresponse() as answer:
                yield answer

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Return status, body and headers."""
        with self.ask(method, path, {key.replace("_", "-"): value for key, value in headers.items()}) as answer:
            return answer.status, answer.read(), answer.headers

    def put(self, name: str, body: bytes) -> None:
        """Save a file."""
        with self.ask("PUT", f"/api/files/{name}", body=body) as answer:
            assert answer.status == 200

    def delete(self, name: str) -> None:
        """Delete a file."""
        assert json.loads(self.get(f"/api/files/{name}", "DELETE")[1]) == {"deleted": True}

    def until_all_are_closed(self) -> None:
        """Wait until the server has no file of the store open. It may close one just after the last byte came.

        Where open files cannot be counted, nothing is checked.
        """
        until(lambda: json.loads(self.get("/api/open")[1])["open"] in (0, None), "a file stays open")


KINDS = {**SERVERS, "gunicorn without sendfile": on_gunicorn("-k=gthread", "--threads=4", "--no-sendfile")}


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("DOWNLOAD_FOLDER", str(tmp_path / "files"))
    with KINDS[request.param]("download_app", tmp_path) as port:
        yield Client(port)


def test_every_byte_is_right(client: Client) -> None:
    size = len(SMALL)
    for name, data in {"small": SMALL, "empty": b"", "one": b"1"}.items():
        client.put(name, data)
        status, body, headers = client.get(f"/api/files/{name}")
        assert (status, body, headers["Content-Length"]) == (200, data, str(len(data)))
        etag = headers["ETag"]
        for method in ("GET", "HEAD"):
            assert client.get(f"/api/files/{name}", method, If_None_Match=etag)[:2] == (304, b"")
        status, body, headers = client.get(f"/api/files/{name}", "HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(len(data)))
        status, body, headers = client.get(f"/api/files/{name}", Range=f"bytes={len(data)}-")
        assert (status, headers["Content-Range"]) == (416, f"bytes */{len(data)}")
    assert client.get("/api/files/one", Range="bytes=0-0")[:2] == (206, b"1")
    rng = random.Random(2)
    starts = [0, 1, 4095, 8193, 262_143, 262_145, size - 1, *(rng.randrange(size) for _ in range(8))]
    lengths = [1, 8191, 262_144, rng.randrange(size), size]
    for start in starts:
        for stop in {min(size, start + length) for length in lengths}:
            status, body, headers = client.get("/api/files/small", Range=f"bytes={start}-{stop - 1}")
            assert (status, headers["Content-Range"]) == (206, f"bytes {start}-{stop - 1}/{size}")
            assert headers["Content-Length"] == str(stop - start)
            assert body == SMALL[start:stop]
    assert client.get("/api/files/small", Range="bytes=-1")[1] == SMALL[-1:]
    client.until_all_are_closed()


def test_a_connection_goes_on_after_each_answer(client: Client) -> None:
    client.put("small", SMALL)
    with closing(http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)) as connection:
        for method, asked, status, body in [
            ("GET", "bytes=3-9", 206, SMALL[3:10]),
            ("HEAD", "bytes=3-9", 200, b""),
            ("GET", "bytes=-7", 206, SMALL[-7:]),
            ("GET", "bytes=9999999-", 416, None),
            ("GET", "bytes=0-0", 206, SMALL[:1]),
        ]:
            connection.request(method, "/api/files/small", headers={**as_(SID), "Range": asked})
            with connection.getresponse() as answer:
                found = answer.read()
            assert answer.status == status
            assert body in (found, None)
    client.until_all_are_closed()


@pytest.mark.skipif(on_windows, reason="Windows does not replace or delete an open file")
@pytest.mark.parametrize("end", ["replace", "delete"])
def test_an_open_file_goes_on_when_it_changes(client: Client, end: str, request: pytest.FixtureRequest) -> None:
    if "sync" in request.node.name:
        pytest.skip("the one worker answers the next request only after the download")
    data = random.Random(3).randbytes(BIG)
    client.put("big", data)
    for asked, start in ((None, 0), ("bytes=12345-", 12345)):
        client.put("big", data)
        with client.ask("GET", "/api/files/big", {"Range": asked} if asked else None) as answer:
            begun = answer.read(1000)
            if end == "replace":
                client.put("big", b"new")
            else:
                client.delete("big")
            assert begun + answer.read() == data[start:]
    client.until_all_are_closed()


@pytest.mark.skipif(open_files() is None, reason="open descriptors are counted in /proc")
def test_a_client_that_goes_away_leaves_no_descriptor(client: Client) -> None:
    client.put("big", bytes(BIG))
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", client.port)) as connection:
            connection.sendall(f"GET /api/files/big HTTP/1.1\r\nHost: x\r\nX-Session-ID: {SID}\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    client.until_all_are_closed()


def test_an_archive_has_its_announced_length_or_ends_early(client: Client, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("zipstream")
    data = random.Random(4).randbytes(BIG // 32)
    names = [f"{number:02}" for number in range(OPEN_FILES + 4)]
    for name in names:
        client.put(name, data)
    status, body, headers = client.get("/api/all")
    assert (status, headers["Content-Length"]) == (200, str(len(body)))
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == names
    assert client.get("/api/all", "HEAD")[1] == b""
    client.until_all_are_closed()
    if "sync" in request.node.name or on_windows:
        return  # the one worker answers the next request only after the download; Windows deletes no open file
    with client.ask("GET", "/api/all") as answer:
        begun = answer.read(1000)
        client.delete(names[0])
        client.put(names[-1], b"another")
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            begun += answer.read()
    client.until_all_are_closed()


def test_curl_resumes_a_download(client: Client, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    client.put("small", SMALL)
    part = tmp_path / "small"
    for begun in (SMALL[:123_457], SMALL):
        part.write_bytes(begun)
        command = [curl, "--fail-with-body", "-sS", "-C", "-", "-o", str(part), "-H", f"X-Session-ID: {SID}"]
        done = subprocess.run([*command, f"http://127.0.0.1:{client.port}/api/files/small"], check=False)
        assert part.read_bytes() == SMALL
        assert done.returncode == (22 if begun == SMALL else 0), "curl fails at a 416, and nothing is lost"
