"""Uploads to a server whose disk is full. Runs in a process of its own, on a small disk: with the name of a server."""

from __future__ import annotations

import http.client
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from app_servers import SERVERS
from silo_store.testing import SID
from small_disk import run_named

BOUNDARY = "----boundary"
BIG, SMALL = 2_500_000, 100_000


def ask(port: int, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:
        client.request(method, path, body, {"X-Session-ID": SID, "Content-Type": kind})
        response = client.getresponse()
        return response.status, json.loads(response.read())


def put(port: int, name: str, size: int) -> tuple[int, Any]:
    return ask(port, "PUT", f"/api/files/{name}", b"x" * size, "application/octet-stream")


def post(port: int, name: str, size: int) -> tuple[int, Any]:
    """Send a form with two files, of which the second is large."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="'
    first = f'{head}first.bin"\r\n\r\nfirst\r\n'.encode()
    second = f'{head}{name}"\r\n\r\n'.encode() + b"x" * size + b"\r\n"
    body = first + second + f"--{BOUNDARY}--\r\n".encode()
    return ask(port, "POST", "/api/files", body, f"multipart/form-data; boundary={BOUNDARY}")


def parts(disk: Path) -> list[Path]:
    return list(disk.rglob("*.part"))


def upload(kind: str, disk: Path) -> None:
    os.environ["UPLOAD_FOLDER"] = str(disk / "files")
    with SERVERS[kind]("upload_app", Path(tempfile.mkdtemp())) as port:
        for send in (put, post):
            send_all(send, port, disk)


def send_all(send: Callable[[int, str, int], tuple[int, Any]], port: int, disk: Path) -> None:
    """Fill the disk, be refused, make room and be served again."""
    filler = disk / "filler"
    filler.write_bytes(bytes(BIG))
    before = ask(port, "GET", "/api/files")
    for _ in range(3):
        status, said = send(port, "new.bin", BIG)
        assert (status, said["error"]) == (507, "storage_full"), said
        assert ask(port, "GET", "/api/files") == before
        assert not parts(disk)
    filler.unlink()
    status, said = send(port, f"{send.__name__}.bin", SMALL)
    assert status == 200, said
    names = {*before[1], f"{send.__name__}.bin"} | ({"first.bin"} if send is post else set())
    assert ask(port, "GET", "/api/files") == (200, sorted(names))
    assert not parts(disk)


if __name__ == "__main__":
    run_named({kind: partial(upload, kind) for kind in SERVERS})
