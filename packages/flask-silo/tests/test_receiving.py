"""``receive()`` saves what a request uploads: a raw body or the files of a form, all of it or nothing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify, request
from flask.testing import FlaskClient
from flask_silo import SessionFileStore, Silo
from flask_silo_helpers import as_
from silo_store.testing import SID

BOUNDARY = "----boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    """Return one part of a form."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'
    head += f'; filename="{filename}"' if filename is not None else ""
    return head.encode() + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


@pytest.fixture
def uploads(silo: Silo, tmp_path: Path) -> SessionFileStore:
    return silo.add_file_store("uploads", tmp_path / "uploads", max_file_bytes=1_000_000, max_session_bytes=1_500_000)


@pytest.fixture
def app(app: Flask, silo: Silo, uploads: SessionFileStore) -> Flask:
    @app.put("/api/files/<name>")
    def put(name: str) -> Any:
        return jsonify([info.name for info in uploads.receive(name)])

    @app.post("/api/files")
    def post() -> Any:
        saved = uploads.receive()
        return jsonify(
            saved=[[info.name, info.size] for info in saved],
            form=list(request.form.items(multi=True)),
            files={field: file.filename for field, file in request.files.items()},
        )

    @app.post("/api/one")
    def one() -> Any:
        (info,) = uploads.receive("input.csv")
        return jsonify(info.name)

    return app


def saved(uploads: SessionFileStore, sid: str = SID) -> dict[str, bytes]:
    """Return the files of a session with their content."""
    found = {}
    for name in uploads.list_files(sid):
        with uploads.open(sid, name) as file:
            found[name] = file.read()
    return found


def left(uploads: SessionFileStore) -> list[Path]:
    """Return the unfinished files anywhere in the store."""
    return list(Path(uploads.base_dir).rglob("*.part"))


def send(client: FlaskClient, body: bytes, content_type: str = FORM, path: str = "/api/files") -> Any:
    return client.post(path, data=body, content_type=content_type, headers=as_(SID))


def test_the_body_of_a_put_is_a_file(client: FlaskClient, uploads: SessionFileStore, silo: Silo) -> None:
    data = bytes(range(256)) * 3000
    for body in (b"old", data, b""):
        answer = client.put("/api/files/a.bin", data=body, headers=as_(SID))
        assert answer.json == ["a.bin"]
        assert answer.headers["X-Session-ID"] == SID
        assert saved(uploads) == {"a.bin": body}
    assert silo.store.exists(SID), "an upload begins the session that it belongs to"
    assert left(uploads) == []


def test_a_new_client_gets_its_session_with_the_answer(client: FlaskClient, uploads: SessionFileStore) -> None:
    answer = client.put("/api/files/a.csv", data=b"1")
    assert saved(uploads, answer.headers["X-Session-ID"]) == {"a.csv": b"1"}


def test_a_form_brings_several_files_and_fields(client: FlaskClient, uploads: SessionFileStore) -> None:
    data = {"first": (io.BytesIO(b"1" * 100_000), "a.csv"), "second": (io.BytesIO(b"2"), "é b.txt"), "note": "ü"}
    answer = client.post("/api/files", data=data, headers=as_(SID))

    assert answer.json == {
        "saved": [["a.csv", 100_000], ["é b.txt", 1]],
        "form": [["note", "ü"]],
        "files": {"first": "a.csv", "second": "é b.txt"},
    }
    assert saved(uploads) == {"a.csv": b"1" * 100_000, "é b.txt": b"2"}
