"""``receive()`` saves what a request uploads: a raw body or the files of a form, all of it or nothing."""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from flask import Flask, jsonify, request
from flask_silo import FileRefused, MalformedUpload, SessionFileStore, Silo
from flask_silo.files import body
from flask_silo.limits import UploadTooLarge
from flask_silo_helpers import as_
from silo_store.testing import SID, TTL, Clock, in_threads
from werkzeug.exceptions import HTTPException

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
def client(app: Flask) -> Any:
    return app.test_client()


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

    @app.post("/api/numbered")
    def numbered() -> Any:
        return jsonify([info.name for info in uploads.receive(on_conflict="rename")])

    @app.post("/api/new")
    def new() -> Any:
        return jsonify([info.name for info in uploads.receive(on_conflict="error")])

    @app.post("/api/not-bad")
    def not_bad() -> Any:
        def validate(name: str, _file: BinaryIO) -> None:
            if name == "bad.csv":
                raise FileRefused("it is bad")

        return jsonify([info.name for info in uploads.receive(validate=validate)])

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


def send(client: Any, body: bytes, content_type: str = FORM, path: str = "/api/files") -> Any:
    return client.post(path, data=body, content_type=content_type, headers=as_(SID))


def test_the_body_of_a_put_is_a_file(client: Any, uploads: SessionFileStore, silo: Silo) -> None:
    data = bytes(range(256)) * 3000
    for content in (b"old", data, b""):
        answer = client.put("/api/files/a.bin", data=content, headers=as_(SID))
        assert answer.json == ["a.bin"]
        assert answer.headers["X-Session-ID"] == SID
        assert saved(uploads) == {"a.bin": content}
    assert silo.store.exists(SID), "an upload begins the session that it belongs to"
    assert left(uploads) == []


def test_a_new_client_gets_its_session_with_the_answer(client: Any, uploads: SessionFileStore) -> None:
    answer = client.put("/api/files/a.csv", data=b"1")
    assert saved(uploads, answer.headers["X-Session-ID"]) == {"a.csv": b"1"}


def test_a_form_brings_several_files_and_fields(client: Any, uploads: SessionFileStore) -> None:
    data = {"first": (io.BytesIO(b"1" * 100_000), "a.csv"), "second": (io.BytesIO(b"2"), "é b.txt"), "note": "ü"}
    answer = client.post("/api/files", data=data, headers=as_(SID))

    assert answer.json == {
        "saved": [["a.csv", 100_000], ["é b.txt", 1]],
        "form": [["note", "ü"]],
        "files": {"first": "a.csv", "second": "é b.txt"},
    }
    assert saved(uploads) == {"a.csv": b"1" * 100_000, "é b.txt": b"2"}


NAMES = {
    "a.csv": "a.csv",
    "C:\\data\\a.csv": "a.csv",
    "\\\\server\\share\\a.csv": "a.csv",
    "folder/sub/a.csv": "a.csv",
    "../../a.csv": "a.csv",
    "C:\\a/b.csv": "b.csv",
    "a%22b.csv": 'a"b.csv',
    "e\u0301.csv": "\u00e9.csv",
    "a:b.csv": "a:b.csv",
}


@pytest.mark.parametrize("sent", NAMES, ids=NAMES.values())
def test_a_file_has_the_name_that_its_user_sees(client: Any, uploads: SessionFileStore, sent: str) -> None:
    """RFC 7578, section 4.2: old browsers send the whole path, and a folder is uploaded with its own."""
    answer = send(client, form(part("file", b"1", sent)))
    assert answer.json["saved"] == [[NAMES[sent], 1]]
    assert uploads.list_files(SID) == [NAMES[sent]]


@pytest.mark.parametrize("sent", ["..", "folder/..", "a/", "NUL.txt", "a\0b", "a\u202eb", " a", "x" * 300])
def test_a_form_with_a_bad_name_is_refused(client: Any, uploads: SessionFileStore, sent: str, silo: Silo) -> None:
    answer = send(client, form(part("file", b"1", "good.csv"), part("file", b"1", sent)))
    assert (answer.status_code, answer.json["error"]) == (400, "invalid_file_name")
    assert uploads.list_files(SID) == []
    assert left(uploads) == []


@pytest.mark.parametrize("name", ["NUL", "a\\b", "..", " "])
def test_a_put_with_a_bad_name_is_refused(client: Any, uploads: SessionFileStore, name: str) -> None:
    answer = client.put(f"/api/files/{name}", data=b"1", headers=as_(SID))
    assert (answer.status_code, answer.json["error"]) == (400, "invalid_file_name")
    assert left(uploads) == []


def test_a_client_reads_why_its_file_name_is_refused(client: Any) -> None:
    answer = client.put("/api/files/NUL.csv", data=b"1", headers=as_(SID))
    assert answer.json["message"] == "The file's name cannot be used: it is a device name on Windows."


def test_a_form_without_a_chosen_file_has_none(client: Any, uploads: SessionFileStore) -> None:
    answer = send(client, form(part("file", b"", ""), part("note", b"1")))
    assert answer.json == {"saved": [], "form": [["note", "1"]], "files": {}}
    assert send(client, form()).json == {"saved": [], "form": [], "files": {}}
    refused = send(client, form(part("file", b"1", "")))
    assert (refused.status_code, refused.json["error"]) == (400, "invalid_file_name")


def test_two_files_of_one_name_are_refused_or_numbered(client: Any, uploads: SessionFileStore) -> None:
    two = form(part("file", b"1", "x/a.csv"), part("file", b"2", "y/a.csv"))
    for path in ("/api/files", "/api/new"):
        answer = send(client, two, path=path)
        assert (answer.status_code, answer.json["error"]) == (400, "malformed_upload")
        assert answer.json["message"] == "The upload cannot be read: two files of the form have the same name."
    assert saved(uploads) == {}

    assert send(client, two, path="/api/numbered").json == ["a.csv", "a (2).csv"]
    assert saved(uploads) == {"a.csv": b"1", "a (2).csv": b"2"}


def test_a_named_file_may_come_raw_or_in_a_form(client: Any, uploads: SessionFileStore) -> None:
    to_one = partial(send, client, path="/api/one")
    assert to_one(b"raw", "text/csv").json == "input.csv"
    assert saved(uploads) == {"input.csv": b"raw"}
    assert to_one(form(part("file", b"", ""), part("note", b"1"), part("file", b"form", "NUL.txt"))).json == "input.csv"
    assert saved(uploads) == {"input.csv": b"form"}

    for parts, reason in {
        (part("file", b"1", "a"), part("file", b"2", "b")): "the form has several files, and one is expected",
        (part("note", b"1"), part("file", b"", "")): "the form has no file, and one is expected",
    }.items():
        answer = to_one(form(*parts))
        assert (answer.status_code, answer.json["error"]) == (400, "malformed_upload")
        assert reason in answer.json["message"]
    assert saved(uploads) == {"input.csv": b"form"}


@pytest.mark.parametrize(
    ("refused", "status", "error"),
    [
        (part("file", b"x" * 1_000_001, "b.csv"), 413, "file_too_large"),
        (part("file", b"x" * 600_000, "b.csv"), 413, "session_quota"),
        (part("file", b"x", "CON"), 400, "invalid_file_name"),
        (part("note", b"x" * 600_000), 413, "request_too_large"),
        (b"--" + BOUNDARY.encode() + b"\r\n\r\n\r\n", 400, "malformed_upload"),
    ],
    ids=["file", "session", "name", "field", "head"],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_if_a_part_is_refused_no_file_of_the_form_is_saved(
    client: Any, uploads: SessionFileStore, refused: bytes, status: int, error: str, first: bool
) -> None:
    send(client, form(part("file", b"old", "a.csv")))
    good = part("file", b"x" * 1_000_000, "a.csv")
    answer = send(client, form(refused, good) if first else form(good, refused))
    assert (answer.status_code, answer.json["error"]) == (status, error)
    assert saved(uploads) == {"a.csv": b"old"}
    assert left(uploads) == []
    assert uploads.usage(SID).bytes == 3


@pytest.mark.parametrize(
    ("parts", "path", "error", "file"),
    [
        ([("a.csv", 5), ("x/b.csv", 1_000_001)], "/api/files", "file_too_large", "b.csv"),
        ([("a.csv", 1_000_000), ("b.csv", 600_000)], "/api/files", "session_quota", "b.csv"),
        ([("a.csv", 5), ("b.csv", 5), ("x/a.csv", 5)], "/api/files", "malformed_upload", "a.csv"),
        ([("a.csv", 5), ("old.csv", 5)], "/api/new", "name_taken", "old.csv"),
        ([("a.csv", 5), ("bad.csv", 5)], "/api/not-bad", "file_refused", "bad.csv"),
        ([("a.csv", 5), ("CON", 5)], "/api/files", "invalid_file_name", None),
        ([("a.csv", 1_000_001)], "/api/one", "file_too_large", None),
    ],
    ids=["file", "session", "twice", "taken", "validator", "name", "named by the view"],
)
def test_the_refusal_of_a_form_names_the_file(
    client: Any, uploads: SessionFileStore, parts: list[tuple[str, int]], path: str, error: str, file: str | None
) -> None:
    """A name that the gate refuses, or that the view gives, is not repeated."""
    send(client, form(part("file", b"old", "old.csv")))
    answer = send(client, form(*(part("file", b"x" * size, name) for name, size in parts)), path=path)
    assert (answer.json["error"], answer.json.get("file")) == (error, file)
    assert uploads.list_files(SID) == ["old.csv"]


def test_a_name_that_is_taken_is_refused_before_the_other_files_are_saved(
    client: Any, uploads: SessionFileStore
) -> None:
    send(client, form(part("file", b"old", "b.csv")))
    answer = send(client, form(part("file", b"1", "a.csv"), part("file", b"2", "b.csv")), path="/api/new")
    assert (answer.status_code, answer.json["error"]) == (409, "name_taken")
    assert saved(uploads) == {"b.csv": b"old"}


def test_validators_see_each_file_before_any_is_saved(app: Flask, client: Any, uploads: SessionFileStore) -> None:
    seen = []

    def look(name: str, file: Any) -> None:
        seen.append((name, file.read(), uploads.list_files(SID)))
        if name == "bad.csv":
            raise FileRefused("It is bad.")
        if name == "worse.csv":
            raise ValueError("a mistake of the validator")

    @app.post("/api/checked")
    def checked() -> Any:
        return jsonify([info.digest for info in uploads.receive(validate=look)])

    both = form(part("file", b"1", "a.csv"), part("file", b"2", "bad.csv"))
    answer = send(client, both, path="/api/checked")
    assert (answer.status_code, answer.json["error"]) == (422, "file_refused")
    assert seen == [("a.csv", b"1", []), ("bad.csv", b"2", [])]
    assert (saved(uploads), left(uploads)) == ({}, [])
    assert send(client, form(part("file", b"1", "worse.csv")), path="/api/checked").status_code == 500
    assert (saved(uploads), left(uploads)) == ({}, [])


def test_an_expected_digest_is_checked(app: Flask, client: Any, uploads: SessionFileStore) -> None:
    @app.put("/api/digest")
    def digest() -> Any:
        (info,) = uploads.receive("a.csv", digest=request.headers["X-Digest"])
        return jsonify(info.digest)

    @app.post("/api/digests")
    def digests() -> Any:
        uploads.receive(digest="sha256:00")

    right = f"sha256:{hashlib.sha256(b'1').hexdigest()}"
    assert (
        client.put("/api/digest", data=b"2", headers={**as_(SID), "X-Digest": right}).json["error"] == "digest_mismatch"
    )
    assert saved(uploads) == {}
    assert client.put("/api/digest", data=b"1", headers={**as_(SID), "X-Digest": right}).status_code == 200
    app.testing = True
    with pytest.raises(ValueError, match="give its name too"):
        client.post("/api/digests")


def test_what_is_no_upload_is_refused(client: Any, uploads: SessionFileStore, silo: Silo) -> None:
    for body_, content_type in (
        (b'{"a": 1}', "application/json"),
        (b"", None),
        (b"a=1", "application/x-www-form-urlencoded"),
    ):
        answer = client.post("/api/files", data=body_, content_type=content_type, headers=as_(SID))
        assert (answer.status_code, answer.json["error"]) == (400, "malformed_upload")
        assert answer.headers["Cache-Control"] == "no-store"
    assert not silo.store.exists(SID), "what is refused before a file begins no session"


def test_a_part_of_a_file_does_not_become_the_file(client: Any, uploads: SessionFileStore) -> None:
    """As ``curl -C -`` sends it (RFC 9110, section 14.5)."""
    answer = client.put("/api/files/a", data=b"2", headers={**as_(SID), "Content-Range": "bytes 1-1/2"})
    assert (answer.status_code, answer.json["error"]) == (400, "malformed_upload")
    assert saved(uploads) == {}


READERS: dict[str, Callable[[SessionFileStore], object]] = {
    "form": lambda uploads: request.form,
    "files": lambda uploads: request.files,
    "values": lambda uploads: request.values,
    "data": lambda uploads: request.get_data(),
    "json": lambda uploads: request.get_json(silent=True),
    "receive": lambda uploads: uploads.receive("first"),
}


@pytest.mark.parametrize(
    ("reader", "content_type"),
    [
        (reader, content_type)
        for reader in READERS
        for content_type in (FORM, "text/csv", "application/json")
        if reader != "json" or content_type == "application/json"  # it reads no other body
    ],
)
def test_a_body_that_was_read_before_is_a_clear_error(
    app: Flask, client: Any, uploads: SessionFileStore, reader: str, content_type: str
) -> None:
    @app.post("/api/late")
    def late() -> Any:
        READERS[reader](uploads)
        uploads.receive("late")

    app.testing = True
    with pytest.raises(RuntimeError, match=r"was read before: call receive\(\) once"):
        send(client, form(part("file", b"1", "a.csv")), content_type, "/api/late")
    assert "late" not in uploads.list_files(SID)


def test_after_a_refused_upload_nothing_reads_the_rest_of_the_body(
    app: Flask, client: Any, uploads: SessionFileStore
) -> None:
    @app.post("/api/twice")
    def twice() -> Any:
        with pytest.raises(MalformedUpload):
            uploads.receive("a.csv")
        assert (dict(request.form), dict(request.files), request.get_data()) == ({}, {}, b"")
        with pytest.raises(RuntimeError, match="was read before"):
            uploads.receive("a.csv")
        return {}

    assert send(client, form(part("a", b"", "a"), part("b", b"", "b")), path="/api/twice").status_code == 200


def test_saved_files_of_a_form_can_be_read_by_their_fields(
    app: Flask, client: Any, uploads: SessionFileStore, tmp_path: Path
) -> None:
    @app.post("/api/read")
    def read() -> Any:
        uploads.receive()
        first, second = request.files["first"], request.files["second"]
        assert (first.filename, first.name, first.mimetype) == ("x/a.csv", "first", "text/csv")
        assert first.read() == first.stream.read() + b"12345"
        first.seek(1)
        assert first.read(2) == b"23"
        assert second.stream.tell() == 0
        second.save(tmp_path / "copy")
        assert list(request.files.getlist("first")) == [first]
        return {}

    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="first"; filename="x/a.csv"\r\nContent-Type: text/csv'
    data = form(head.encode() + b"\r\n\r\n12345\r\n", part("second", b"2" * 100_000, "b.csv"))
    assert send(client, data, path="/api/read").status_code == 200
    assert (tmp_path / "copy").read_bytes() == b"2" * 100_000


def test_lines_of_a_saved_file_are_read_in_blocks(app: Flask, client: Any, uploads: SessionFileStore) -> None:
    sizes = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            sizes.append(size)
            return super().read(size)

    @app.post("/api/lines")
    def lines() -> Any:
        uploads.receive()
        request.files["file"].stream._file = Watched(b"1\n2\n3")  # type: ignore[attr-defined]
        first = request.files["file"].readline()
        return jsonify([line.decode() for line in [first, *request.files["file"]]])

    assert send(client, form(part("file", b"1", "a.csv")), path="/api/lines").json == ["1\n", "2\n", "3"]
    assert 1 not in sizes


@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")
def test_a_form_with_many_files_holds_few_open(app: Flask, client: Any, uploads: SessionFileStore) -> None:
    held = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            held.append(len(list(Path("/proc/self/fd").iterdir())))
            return super().read(1000)

    data = form(*(part("file", b"1", f"{number}.csv") for number in range(200)))
    environ = {"wsgi.input": Watched(data), "CONTENT_LENGTH": str(len(data)), "CONTENT_TYPE": FORM}
    answer = client.post("/api/files", headers=as_(SID), environ_overrides=environ)
    assert answer.status_code == 200, answer.json
    assert len(answer.json["saved"]) == len(uploads.list_files(SID)) == 200
    assert max(held) - held[0] <= 3


@pytest.mark.skipif(sys.platform != "linux", reason="written bytes are counted in /proc")
@pytest.mark.parametrize("kind", ["raw", "form"])
def test_each_byte_is_written_once(client: Any, uploads: SessionFileStore, kind: str) -> None:
    def written() -> int:
        return int(Path("/proc/self/io").read_text().split()[3])

    data = b"x" * 990_000
    if kind == "form":
        data = form(part("file", data, "a.csv"))
    before = written()
    answer = client.post("/api/one", data=data, content_type=FORM if kind == "form" else "text/csv", headers=as_(SID))
    assert answer.json == "input.csv"
    assert 990_000 <= written() - before < 1_000_000


# Limits of Flask


def chunked(data: bytes, **more: Any) -> dict[str, Any]:
    """Return the test client's arguments for a body without a Content-Length."""
    environ = {"wsgi.input_terminated": True, "CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
    return {"input_stream": io.BytesIO(data), "environ_overrides": environ, **more}


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
def test_max_content_length_holds_to_the_byte(
    app: Flask, client: Any, uploads: SessionFileStore, length: bool, over: int
) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 100_000
    data = b"x" * (100_000 + over)
    answer = client.put("/api/files/a", headers=as_(SID), **({"data": data} if length else chunked(data)))
    if over:
        assert (answer.status_code, answer.json["error"], answer.json["max_bytes"]) == (
            413,
            "request_too_large",
            100_000,
        )
        assert "100,000" in answer.json["message"]
    assert saved(uploads) == ({} if over else {"a": data})
    assert left(uploads) == []


def test_limits_of_a_view_hold(app: Flask, client: Any, uploads: SessionFileStore) -> None:
    @app.post("/api/limited")
    def limited() -> Any:
        request.max_form_memory_size, request.max_form_parts = 100, 3
        return jsonify(len(uploads.receive()))

    for parts, limits in (
        ([part("note", b"x" * 101)], {"max_bytes": 100}),
        ([part("note", b"x")] * 4, {"max_parts": 3}),
    ):
        said = send(client, form(*parts), path="/api/limited").json
        assert {key: value for key, value in said.items() if key.startswith("max_")} == limits
    assert send(client, form(part("note", b"x" * 100), *[part("file", b"x" * 100, "a")]), path="/api/limited").json == 1


def test_a_body_without_a_length_on_a_server_that_does_not_end_it_is_empty(
    client: Any, uploads: SessionFileStore
) -> None:
    environ = {"wsgi.input": io.BytesIO(b"more"), "wsgi.input_terminated": False}
    client.put("/api/files/a", headers=as_(SID), environ_overrides=environ)
    assert saved(uploads) == {"a": b""}


@pytest.mark.parametrize("content_type", [FORM, "text/csv"])
def test_a_body_that_the_server_ends_early_without_an_error_is_refused(
    client: Any, uploads: SessionFileStore, content_type: str
) -> None:
    """As Gunicorn ends it."""
    data = form(part("file", b"1", "a"))
    environ = {"wsgi.input": io.BytesIO(data), "wsgi.input_terminated": True, "CONTENT_LENGTH": str(len(data) + 1)}
    path = "/api/files" if content_type == FORM else "/api/one"
    answer = client.post(path, content_type=content_type, headers=as_(SID), environ_overrides=environ)
    assert (answer.status_code, answer.json["error"]) == (400, "truncated_upload")
    assert (saved(uploads), left(uploads)) == ({}, [])


@pytest.mark.parametrize(
    ("coding", "ends"), [("chunked", False), ("gzip, chunked", True), ("gzip", False)], ids=["uwsgi", "gevent", "gzip"]
)
def test_a_body_whose_end_the_server_does_not_tell_is_refused(
    client: Any, uploads: SessionFileStore, coding: str, ends: bool
) -> None:
    """These servers return no bytes of it: it would replace the file with an empty one."""
    client.put("/api/files/a", data=b"old", headers=as_(SID))
    environ = {"wsgi.input": io.BytesIO(b"3\r\nnew\r\n0\r\n\r\n"), "wsgi.input_terminated": ends}
    headers = {**as_(SID), "Transfer-Encoding": coding}
    answer = client.put("/api/files/a", headers=headers, environ_overrides=environ)
    assert (answer.status_code, answer.json["error"]) == (400, "malformed_upload")
    assert "send a Content-Length" in answer.json["message"]
    assert saved(uploads) == {"a": b"old"}


# Sessions


class Ends(io.BytesIO):
    """A body that comes in pieces, and calls a function before the second."""

    def __init__(self, data: bytes, between: Callable[[], object]) -> None:
        super().__init__(data)
        self.between = between

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() == 150:
            in_threads(1, lambda _: self.between())
        return super().read(150)


def ending(data: bytes, between: Callable[[], object], content_type: str = "text/csv") -> dict[str, Any]:
    """Return the test client's arguments for a body that calls ``between`` while it comes in."""
    ends = Ends(data, between)
    environ = {"wsgi.input": ends, "CONTENT_LENGTH": str(len(data)), "CONTENT_TYPE": content_type}
    return {"headers": as_(SID), "environ_overrides": environ}


@pytest.mark.parametrize("kind", ["raw", "form"])
def test_an_upload_that_ends_after_its_session_leaves_nothing(
    client: Any, uploads: SessionFileStore, silo: Silo, kind: str
) -> None:
    silo.store.get(SID)
    if kind == "raw":
        answer = client.post("/api/one", **ending(b"x" * 200, lambda: silo.store.reset(SID)))
    else:
        data = form(part("a", b"1", "a"), part("b", b"2", "b"))
        answer = client.post("/api/files", **ending(data, lambda: silo.store.reset(SID), FORM))
    assert (answer.status_code, answer.json["error"]) == (410, "session_expired")
    assert saved(uploads) == {}
    uploads.purge()
    assert left(uploads) == []


def test_an_upload_of_a_session_that_was_rotated_is_refused(client: Any, uploads: SessionFileStore, silo: Silo) -> None:
    client.put("/api/files/old", data=b"1", headers=as_(SID))
    ids: list[str] = []
    answer = client.put("/api/files/a", **ending(b"x" * 200, lambda: ids.append(silo.store.rotate(SID))))
    assert (answer.status_code, answer.json["error"]) == (409, "session_rotated")
    assert uploads.list_files(ids[0]) == ["old"]
    late = client.put("/api/files/a", data=b"1", headers=as_(SID))
    assert (late.status_code, late.json["error"]) == (409, "session_rotated")


def test_an_upload_begins_the_next_life_of_an_expired_session(
    client: Any, uploads: SessionFileStore, clock: Clock
) -> None:
    client.put("/api/files/old", data=b"1", headers=as_(SID))
    clock.advance(TTL + 1)
    assert client.put("/api/files/a", data=b"1", headers=as_(SID)).status_code == 200
    assert saved(uploads) == {"a": b"1"}


def test_other_requests_of_the_session_do_not_wait_for_an_upload(client: Any, uploads: SessionFileStore) -> None:
    answers: list[int] = []

    def ask() -> None:
        answers.append(client.application.test_client().post("/api/increment", headers=as_(SID)).status_code)

    assert client.put("/api/files/a", **ending(b"x" * 200, ask)).status_code == 200
    assert answers == [200]


def test_an_async_view_receives(app: Flask, client: Any, uploads: SessionFileStore) -> None:
    pytest.importorskip("asgiref")

    @app.post("/api/async")
    async def receive() -> Any:
        return jsonify([info.name for info in uploads.receive()], request.form["note"])

    answer = send(client, form(part("file", b"1", "a"), part("note", b"2")), path="/api/async")
    assert answer.json == [["a"], "2"]


def test_without_a_request_with_a_session_there_is_nothing_to_receive(
    app: Flask, client: Any, uploads: SessionFileStore
) -> None:
    with pytest.raises(RuntimeError, match="request context"):
        uploads.receive("a")

    @app.put("/page/upload")
    def outside() -> Any:
        uploads.receive("a")

    app.testing = True
    with pytest.raises(RuntimeError, match="there is no session here"):
        client.put("/page/upload", data=b"1")
    assert left(uploads) == []


# The rest of a refused body


class Endless:
    """A body that never ends. Notes how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        return b"x" * size


def test_the_rest_of_a_refused_body_is_read_for_a_while(
    app: Flask, uploads: SessionFileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "LINGER_SECONDS", 0.01)
    rest = Endless()
    environ = {"wsgi.input": rest, "CONTENT_LENGTH": "99999999999999"}
    answer = app.test_client().put("/api/files/a", headers=as_(SID), environ_overrides=environ)
    assert answer.status_code == 413
    assert rest.reads == 0, "the answer is sent first"
    answer.close()
    assert rest.reads > 0


@pytest.mark.parametrize("error", [MalformedUpload("why"), UploadTooLarge(max_parts=3)])
def test_errors_survive_pickle(error: Any) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert isinstance(copy, HTTPException) or str(copy) == "upload refused: why"
