"""A large file on its way through a server: each byte is written once, and none is kept in memory.

The file has 100 MiB, and with ``SILO_LARGE_MIB`` as many as that says.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from servers import Gunicorn

MIB = 1024 * 1024
BLOCKS = int(os.environ.get("SILO_LARGE_MIB", "100"))
SIZE = BLOCKS * MIB
FILES = "/api/files/uploads"
FORM = {"Content-Type": "multipart/form-data; boundary=edge"}
START = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="form.bin"\r\n\r\n'
END = b"\r\n--edge--\r\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120 + BLOCKS),
    pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="reads from /proc what a process has written"),
]


def blocks() -> Iterator[bytes]:
    """Yield the bytes of the file. No two blocks are alike."""
    for number in range(BLOCKS):
        yield number.to_bytes(8, "big") * (MIB // 8)


def part(start: int, stop: int) -> bytes:
    """Return the bytes of the file from one position to another."""
    found = b"".join(number.to_bytes(8, "big") * (MIB // 8) for number in range(start // MIB, (stop - 1) // MIB + 1))
    return found[start % MIB :][: stop - start]


def form() -> Iterator[bytes]:
    yield START
    yield from blocks()
    yield END


class Client:
    """Asks a server for one session."""

    def __init__(self, server: Gunicorn) -> None:
        self._port = server.port
        self._sid: dict[str, str] = {}

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}, into: Path | None = None
    ) -> Any:
        """Return the status, the headers and the body of a response; its digest, if a file is to take it."""
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=300)) as connection:
            connection.request(method, path, body=body, headers={**self._sid, **headers})
            response = connection.getresponse()
            found = response.headers["X-Session-ID"]
            if found:
                self._sid = {"X-Session-ID": found}
            if into is None:
                return response.status, response.headers, response.read()
            digest = hashlib.sha1()
            with into.open("wb") as file:
                while block := response.read(MIB):
                    file.write(block)
                    digest.update(block)
            return response.status, response.headers, digest.hexdigest()

    def worker(self) -> tuple[int, int]:
        """Return the bytes that the worker has written to files, and the most memory that it has had."""
        process = Path("/proc", str(json.loads(self.ask("GET", "/pid")[2])["pid"]))
        written = re.search(r"^wchar: (\d+)", process.joinpath("io").read_text(), re.M)
        peak = re.search(r"^VmHWM:\s*(\d+) kB", process.joinpath("status").read_text(), re.M)
        assert written is not None
        assert peak is not None
        return int(written[1]), int(peak[1]) * 1024


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("large")
    with Gunicorn(
        "files_app:application()",
        "-k=gthread",
        "--threads=2",
        folder=folder / "log",
        cwd=Path(__file__).with_name("support"),
        env={"FILES_APP_FOLDER": str(folder / "files")},
        path="/pid",
    ) as server:
        client = Client(server)
        client.ask("PUT", f"{FILES}/small.bin", b"1")
        client.ask("POST", FILES, START + b"1" + END, FORM)
        yield client


@pytest.mark.parametrize("kind", ["raw", "form"])
def test_a_large_file_comes_and_goes(client: Client, kind: str, tmp_path: Path) -> None:
    written_before, peak_before = client.worker()
    if kind == "raw":
        path = f"{FILES}/raw.bin"
        length = {"Content-Length": str(SIZE)}
        status, _, said = client.ask("PUT", path, blocks(), length)
    else:
        path = f"{FILES}/form.bin"
        length = {"Content-Length": str(len(START) + SIZE + len(END))}
        status, _, said = client.ask("POST", FILES, form(), {**length, **FORM})
    assert status in (200, 201), said
    written, peak = client.worker()
    # Beside the file: the counts, a name, the log, and answers to this client.
    assert SIZE <= written - written_before < SIZE + 64 * 1024
    assert peak - peak_before < 16 * MIB

    whole = hashlib.sha1()
    for block in blocks():
        whole.update(block)
    status, headers, digest = client.ask("GET", path, into=tmp_path / "whole")
    assert (status, headers["Content-Length"], digest) == (200, str(SIZE), whole.hexdigest())
    (tmp_path / "whole").unlink()
    for start, stop in ((0, 1), (SIZE // 2 - 5, SIZE // 2 + MIB), (SIZE - 3 * MIB - 1, SIZE)):
        status, headers, found = client.ask("GET", path, headers={"Range": f"bytes={start}-{stop - 1}"})
        assert (status, headers["Content-Range"]) == (206, f"bytes {start}-{stop - 1}/{SIZE}")
        assert found == part(start, stop)
    assert client.worker()[1] - peak_before < 16 * MIB


def test_a_large_file_in_an_archive(client: Client, tmp_path: Path) -> None:
    pytest.importorskip("zipstream")
    client.ask("PUT", f"{FILES}/raw.bin", blocks(), {"Content-Length": str(SIZE)})
    client.ask("DELETE", f"{FILES}/form.bin")
    peak = client.worker()[1]
    status, headers, _ = client.ask("GET", f"{FILES}.zip", into=tmp_path / "all.zip")
    assert (status, int(headers["Content-Length"])) == (200, (tmp_path / "all.zip").stat().st_size)
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.getinfo("raw.bin").file_size == SIZE
        assert archive.testzip() is None
    assert client.worker()[1] - peak < 16 * MIB
