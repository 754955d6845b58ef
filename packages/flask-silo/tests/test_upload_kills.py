"""Workers of a server that are killed while they receive an upload leave the old file or the new one.

It kills 4 workers, and with ``SILO_KILLS`` one for each 10 of that number. ``SILO_KILLS_SEED`` repeats the choices.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from servers import Gunicorn, until
from silo_store.testing import SID

HERE = Path(__file__).with_name("support")
KILLS = int(os.environ.get("SILO_KILLS", "50")) // 20
SEED = os.environ.get("SILO_KILLS_SEED")
SIZE = 2_000_000
BOUNDARY = "----boundary"
HEADERS = {"X-Session-ID": SID}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="Gunicorn needs POSIX"),
]


def ask(port: int, path: str) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:
        client.request("GET", path, headers=HEADERS)
        response = client.getresponse()
        return response.status, json.loads(response.read())


def answers(port: int) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return ask(port, "/api/pid")[0] == 200
    return False


def request_of(kind: str, data: bytes) -> bytes:
    """Return a request that uploads ``data`` as a.bin."""
    if kind == "raw":
        line, body, media = "PUT /api/files/a.bin", data, "application/octet-stream"
    else:
        line, media = "POST /api/files", f"multipart/form-data; boundary={BOUNDARY}"
        start = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
        body = start.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    lines = [f"{line} HTTP/1.1", "Host: localhost", f"X-Session-ID: {SID}", f"Content-Type: {media}"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def saved(folder: Path) -> bytes | None:
    """Return the only finished file of the store; None if there is none."""
    paths = list(folder.glob("areas/??/*/*.bin"))
    return paths[0].read_bytes() if paths else None


def unfinished(folder: Path) -> list[Path]:
    return list(folder.glob("areas/??/*/w-*/*.part"))


@pytest.mark.timeout(60 + 10 * KILLS)
@pytest.mark.parametrize("kind", ["raw", "form"])
def test_a_killed_worker_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(SEED or random.SystemRandom().getrandbits(32))
    print(f"SILO_KILLS_SEED={seed}")
    choose = random.Random(seed)
    folder = tmp_path / "files"
    monkeypatch.setenv("UPLOAD_FOLDER", str(folder))
    monkeypatch.setenv("UPLOAD_SILO_STORE_URL", f"sqlite:///{tmp_path}/sessions.db")
    old: bytes | None = None
    args = ("upload_app:application()", "-k=gthread", "--threads=2")
    with Gunicorn(*args, folder=tmp_path / "log", cwd=HERE, path="/api/none") as server:
        for number in range(KILLS):
            new = bytes([ord("a") + number % 26]) * SIZE
            data = request_of(kind, new)
            # Within the body, or when the rest of it arrives. A form is looked at once 1 MiB of it is there.
            sent = choose.randrange(len(data) - SIZE + 1_100_000, len(data))
            is_whole = choose.random() < 0.5
            _, worker = ask(server.port, "/api/pid")
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
                connection.sendall(data[:sent])
                # Otherwise the next worker could take the connection.
                until(lambda: unfinished(folder) != [], "no upload has begun")
                if is_whole:
                    connection.sendall(data[sent:])
                os.kill(worker, signal.SIGKILL)
            until(lambda: answers(server.port), "no new worker answers")
            found = saved(folder)
            assert found in ((old, new) if is_whole else (old,)), f"killed after {sent} of {len(data)} bytes"
            old = found
            swept = subprocess.run(
                [sys.executable, "-m", "silo_files", "sweep", str(folder)], capture_output=True, text=True, timeout=60
            )
            assert swept.returncode == 0, swept.stdout + swept.stderr
            assert not unfinished(folder)
            names = ["a.bin"] if old is not None else []
            assert ask(server.port, "/api/files") == (200, names)
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(request_of(kind, b"last" * (SIZE // 4)))
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 200
    assert saved(folder) == b"last" * (SIZE // 4)
