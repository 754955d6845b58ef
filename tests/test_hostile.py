"""Hostile ids and names get a normal answer with a new id, or a 4xx, and no other file is touched.

The files that the ids would reach, if one of them became a path, are made under the test's own folder.
"""

from __future__ import annotations

import http.client
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask, jsonify, request
from flask_silo import Silo
from serving import served

pytestmark = pytest.mark.hostile

HEADER = "X-Session-ID"
VICTIM = "f" * 32
LONG = 10_000

NAMES = [
    "../victim",
    "..\\victim",
    "../../victim/keep.txt",
    "victim/../../victim",
    "./victim",
    ".",
    "..",
    "...",
    "/",
    "//",
    "\\",
    "C:\\victim",
    "C:victim",
    "\\\\server\\victim",
    "~",
    "~root",
    "*",
    "?",
    "keep.txt\x00.csv",
    "\x00",
    "a\r\nX-Injected: yes",
    "a\nb",
    "\t",
    " ",
    "a" * LONG,
    "é" * LONG,
    "\u202egnp.exe",
    "\u2066abc\u2069",
    "👩\u200d🚀" * 9,
    "CON",
    "nul.txt",
    "COM1",
    "aux.csv",
    "file:///victim",
    "%2e%2e%2fvictim",
    "..%00/victim",
    "${HOME}",
    "$(touch victim)",
    "'; DROP TABLE sessions; --",
    "<script>alert(1)</script>",
    "{0.__class__}",
    "%s%s%n",
]


def decorated(sid: str) -> list[str]:
    """Return variants of another session's id, with slashes, dots, spaces or quotes beside it."""
    return [
        f"{sid}/", f"/{sid}", f"{sid}/.", f"./{sid}", f"../{sid}", f"{sid}\\", f"{sid}\x00", f"{sid}%00", f"{sid}.",
        f"{sid} x", f"{sid},{sid}", f"{sid};a", f'"{sid}"', f"{sid}\u200b", f"{sid}\u202e", f"{sid}*",
    ]  # fmt: skip


class Site:
    """An application on a real server, beside folders that it must not touch."""

    port: int

    def __init__(self, folder: Path, url: str) -> None:
        self.outside = folder / "outside"
        for path in (self.outside / "victim", folder / "site" / "victim", folder / "site" / "uploads" / "victim"):
            path.mkdir(parents=True)
            (path / "keep.txt").write_text("keep")
        os.chdir(folder / "site")
        self.folder = folder
        self.silo = Silo(store_url=url, auto_cleanup=False, expired_retain=100)
        self.silo.register("counter", lambda: {"value": 0})
        self.uploads = self.silo.add_file_store("uploads", str(folder / "site" / "uploads"), max_file_bytes=1000)
        self.silo.add_data_endpoints("/api/data")
        self.silo.store.get(VICTIM)
        self.app = self.build()

    def build(self) -> Flask:
        app = Flask("site")
        self.silo.init_app(app)
        silo, uploads = self.silo, self.uploads

        @app.post("/api/increment")
        def increment() -> Any:
            silo.state("counter")["value"] += 1
            return jsonify(silo.state("counter"))

        @app.get("/api/data")
        def data() -> Any:
            return jsonify(silo.state("counter"))

        @app.post("/api/upload")
        def upload() -> Any:
            uploads.save(silo.sid, request.args["name"], request.stream)
            return jsonify(uploads.list_files(silo.sid))

        @app.get("/api/download")
        def download() -> Any:
            path = uploads.get_path(silo.sid, request.args["name"])
            return (Path(path).read_bytes(), 200) if path else ("", 404)

        @app.post("/api/reset")
        def reset() -> Any:
            silo.reset_current()
            return {}

        @app.post("/api/destroy")
        def destroy() -> Any:
            silo.destroy_current()
            return {}

        @app.post("/api/rotate")
        def rotate() -> Any:
            silo.rotate()
            return {}

        return app

    def ask(self, method: str, path: str, sid: bytes | None = None, body: bytes = b"") -> http.client.HTTPResponse:
        """Send a request whose header can hold any bytes, which http.client would refuse."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.connect()
        head = [f"{method} {path} HTTP/1.1".encode(), b"Host: here", b"Connection: close"]
        head += [b"Content-Length: %d" % len(body)] if body or method == "POST" else []
        if sid is not None:
            head.append(HEADER.encode() + b": " + sid)
        connection.sock.sendall(b"\r\n".join(head) + b"\r\n\r\n" + body)
        response = http.client.HTTPResponse(connection.sock, method=method)
        response.begin()
        response.body = response.read()  # type: ignore[attr-defined]
        connection.close()
        return response

    def untouched(self) -> dict[str, str]:
        """Return every file and folder, with its content, except those that the file store made."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if not name.startswith(tuple(f"site/uploads/{own}" for own in ("areas", "owners", "trash"))):
                found[name] = path.read_text() if path.is_file() else "folder"
        return found


@pytest.fixture(params=["memory://", "memory://?copy=1"])
def store_url(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = Path.cwd()
    yield tmp_path
    os.chdir(before)


@pytest.fixture
def site(folder: Path, store_url: str) -> Iterator[Site]:
    site = Site(folder, store_url)
    with served(site.app) as site.port:
        yield site


def test_hostile_ids_get_a_fresh_session_or_a_4xx(site: Site) -> None:
    site.ask("POST", "/api/increment", VICTIM.encode())
    site.ask("POST", "/api/upload?name=mine.csv", VICTIM.encode(), b"1,2")
    before = site.untouched()
    for text in [*NAMES, *decorated(VICTIM)]:
        for sid, query in ((text.encode("utf-8", "surrogatepass"), ""), (None, f"?_sid={quote(text)}")):
            for method, path in (
                ("POST", "/api/increment"),
                ("GET", "/api/data"),
                ("POST", "/api/reset"),
                ("POST", "/api/rotate"),
                ("POST", "/api/destroy"),
                ("POST", "/api/upload?name=x.csv"),
                ("GET", "/api/download?name=mine.csv"),
            ):
                target = path + (query.replace("?", "&") if "?" in path else query)
                answer = site.ask(method, target, sid, b"x" if "upload" in path else b"")
                assert answer.status == 200 or 400 <= answer.status < 500, (text[:40], path, answer.status)
                given = answer.getheader(HEADER)
                assert answer.getheader("X-Injected") is None
                if given is not None:
                    assert given != VICTIM, text[:40]
                    assert len(given) == 32
                if "download" in path:
                    assert answer.status != 200, text[:40]
    assert site.untouched() == before
    assert site.ask("GET", "/api/data", VICTIM.encode()).body.strip() == b'{"value":1}'  # type: ignore[attr-defined]
    assert site.uploads.list_files(VICTIM) == ["mine.csv"]
    site.silo.store.ttl = 0.000001
    site.silo.store.cleanup()
    site.uploads.purge()
    assert site.untouched() == before


def test_hostile_file_names_are_kept_as_names_or_refused(site: Site) -> None:
    before = site.untouched()
    for text in [*NAMES, *decorated("keep.txt")]:
        answer = site.ask("POST", f"/api/upload?name={quote(text)}", VICTIM.encode(), b"data")
        assert answer.status in (200, 400), text[:40]
        if answer.status == 200:
            back = site.ask("GET", f"/api/download?name={quote(text)}", VICTIM.encode())
            assert (back.status, back.body) == (200, b"data")  # type: ignore[attr-defined]
        else:
            assert b"invalid_file_name" in answer.body  # type: ignore[attr-defined]
    assert site.untouched() == before
    site.ask("POST", "/api/destroy", VICTIM.encode())
    site.uploads.purge()
    assert site.untouched() == before


def test_a_multipart_upload_with_a_hostile_name(site: Site) -> None:

    @site.app.post("/api/form")
    def form() -> Any:
        file = request.files["file"]
        site.uploads.save(site.silo.sid, file.filename or "", file.stream)
        return jsonify(site.uploads.list_files(site.silo.sid))

    before = site.untouched()
    client = site.app.test_client()
    for text in NAMES:
        answer = client.post(
            "/api/form", headers={HEADER: VICTIM}, data={"file": (io.BytesIO(b"data"), text)}
        )  # fmt: skip
        assert answer.status_code in (200, 400), text[:40]
    assert site.untouched() == before
