"""Files that are sent to clients: whole, in ranges, or not at all because the client has them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo.files.headers import HARMLESS, disposition
from flask_silo.files.piece import Piece
from flask_silo.files.sending import response_with
from flask_silo.files.store import SessionFileStore
from flask_silo_helpers import as_
from open_files import open_files
from silo_files import FileInfo
from silo_store.testing import SID
from werkzeug.http import http_date, parse_date, parse_options_header
from werkzeug.test import TestResponse

DATA = bytes(range(256)) * 8
SIZE = len(DATA)


@pytest.fixture
def uploads(silo: Silo, app: Flask, tmp_path: Path) -> SessionFileStore:
    store = silo.add_file_store("uploads", tmp_path / "uploads")
    assert isinstance(store, SessionFileStore)

    @app.route("/api/files/<name>", methods=["GET", "POST"])
    def download(name: str) -> Any:
        return store.send(silo.sid, name)

    @app.get("/api/shown/<name>")
    def show(name: str) -> Any:
        return store.send(silo.sid, name, inline=True)

    store.save(SID, "a.bin", DATA)
    store.save(SID, "empty", b"")
    store.save(SID, "one", b"1")
    return store


@pytest.fixture
def no_descriptor_is_left() -> Iterator[None]:
    """Check that the test closes the files that it opens, where that can be counted."""
    assert open_files() in (0, None)
    yield
    assert open_files() in (0, None)


pytestmark = pytest.mark.usefixtures("no_descriptor_is_left")
counts_descriptors = pytest.mark.skipif(open_files() is None, reason="open descriptors are counted in /proc")


def get(client: FlaskClient, name: str = "a.bin", method: str = "GET", **headers: str) -> TestResponse:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return client.open(f"/api/files/{name}", method=method, headers={**as_(SID), **named})


def etag_of(client: FlaskClient, name: str = "a.bin") -> str:
    return get(client, name, "HEAD").headers["ETag"]


def test_a_file_is_sent_whole_and_harmless(uploads: SessionFileStore, client: FlaskClient) -> None:
    answer = get(client)

    assert (answer.status_code, answer.data) == (200, DATA)
    assert answer.headers["Content-Length"] == str(SIZE)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a.bin"'
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize("name", ["a.bin", "empty", "one"])
def test_head_has_the_headers_alone(uploads: SessionFileStore, client: FlaskClient, name: str) -> None:
    answer, head = get(client, name), get(client, name, "HEAD", Range="bytes=0-0")

    assert (head.status_code, head.data) == (200, b"")
    assert dict(head.headers) == dict(answer.headers)


def test_a_missing_file_is_a_404(uploads: SessionFileStore, client: FlaskClient) -> None:
    answer = get(client, "none")
    assert (answer.status_code, (answer.json or {})["error"]) == (404, "file_missing")


@pytest.mark.parametrize(
    ("name", "asked", "start", "stop"),
    [
        ("a.bin", "bytes=0-0", 0, 1),
        ("a.bin", "bytes=0-", 0, SIZE),
        ("a.bin", "bytes=7-1023", 7, 1024),
        ("a.bin", "bytes=1001-", 1001, SIZE),
        ("a.bin", f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ("a.bin", f"bytes=5-{SIZE * 9}", 5, SIZE),
        ("a.bin", "bytes=-1", SIZE - 1, SIZE),
        ("a.bin", "bytes=-300", SIZE - 300, SIZE),
        ("a.bin", f"bytes=-{SIZE * 9}", 0, SIZE),
        ("a.bin", "Bytes = 1-2 ", 1, 3),
        ("a.bin", f"bytes=1-{'9' * 50}", 1, SIZE),
        ("one", "bytes=0-0", 0, 1),
        ("one", "bytes=-1", 0, 1),
    ],
)
def test_a_range(uploads: SessionFileStore, client: FlaskClient, name: str, asked: str, start: int, stop: int) -> None:
    whole = get(client, name).data

    answer = get(client, name, Range=asked)

    assert (answer.status_code, answer.data) == (206, whole[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(whole)}"
    assert answer.headers["Content-Length"] == str(stop - start)
    assert answer.headers["ETag"] == etag_of(client, name)
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("a.bin", f"bytes={SIZE}-"),
        ("a.bin", f"bytes={SIZE * 2}-{SIZE * 3}"),
        ("a.bin", f"bytes={'9' * 50}-"),
        ("a.bin", "bytes=-0"),
        ("one", "bytes=1-1"),
        ("empty", "bytes=0-"),
        ("empty", "bytes=0-0"),
        ("empty", "bytes=-0"),
    ],
)
def test_a_range_behind_the_end_is_a_416(uploads: SessionFileStore, client: FlaskClient, name: str, asked: str) -> None:
    size = len(get(client, name).data)

    answer = get(client, name, Range=asked)

    assert (answer.status_code, (answer.json or {})["error"]) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{size}"
    assert "ETag" not in answer.headers


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("a.bin", "bytes=0-1,4-5"),
        ("a.bin", "bytes=0-1, -5"),
        ("a.bin", "bytes=5-4"),
        ("a.bin", "bytes=-"),
        ("a.bin", "bytes=a-b"),
        ("a.bin", "bytes=1"),
        ("a.bin", "bytes=+1-2"),
        ("a.bin", "bytes=\u0661-\u0662".encode().decode("latin-1")),
        ("a.bin", "items=0-1"),
        ("a.bin", "bytes"),
        ("empty", "bytes=-5"),
    ],
)
def test_a_range_that_is_several_or_none_gets_the_whole_file(
    uploads: SessionFileStore, client: FlaskClient, name: str, asked: str
) -> None:
    answer = get(client, name, Range=asked)
    assert (answer.status_code, answer.data) == (200, get(client, name).data)
    assert "Content-Range" not in answer.headers


def test_other_methods_have_no_ranges_and_no_conditions(uploads: SessionFileStore, client: FlaskClient) -> None:
    answer = get(client, "a.bin", "POST", Range="bytes=0-1", If_None_Match="*")
    assert (answer.status_code, answer.data) == (200, DATA)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', '"x",{} , "y"', "*"])
def test_a_client_that_has_the_file_gets_a_304(
    uploads: SessionFileStore, client: FlaskClient, method: str, form: str
) -> None:
    etag = etag_of(client)

    answer = get(client, "a.bin", method, If_None_Match=form.format(etag), Range="bytes=0-1")

    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["ETag"] == etag
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert "Content-Length" not in answer.headers
    assert "Content-Type" not in answer.headers


def test_a_replaced_file_has_another_etag(uploads: SessionFileStore, client: FlaskClient) -> None:
    etag = etag_of(client)
    assert etag == etag_of(client)
    assert not etag.startswith("W/")

    uploads.save(SID, "a.bin", DATA[::-1])

    answer = get(client, If_None_Match=etag)
    assert (answer.status_code, answer.data) == (200, DATA[::-1])
    assert answer.headers["ETag"] != etag


def test_if_modified_since(uploads: SessionFileStore, client: FlaskClient) -> None:
    modified = get(client, method="HEAD").headers["Last-Modified"]
    when = parse_date(modified)
    assert when is not None
    earlier = http_date(when - timedelta(seconds=1))

    assert get(client, If_Modified_Since=modified).status_code == 304
    assert get(client, method="HEAD", If_Modified_Since=http_date(when + timedelta(days=1))).status_code == 304
    assert get(client, If_Modified_Since=earlier).status_code == 200
    assert get(client, If_Modified_Since="yesterday").status_code == 200
    assert get(client, If_Modified_Since=modified, If_None_Match='"x"').status_code == 200, "the ETag is exact"


def test_if_match_and_if_unmodified_since(uploads: SessionFileStore, client: FlaskClient) -> None:
    head = get(client, method="HEAD")
    etag, modified = head.headers["ETag"], head.headers["Last-Modified"]
    old = http_date(datetime(2001, 1, 1, tzinfo=timezone.utc))

    for match in (etag, f'"x", {etag}', "*"):
        assert get(client, If_Match=match, Range="bytes=0-1").status_code == 206
    assert get(client, If_Unmodified_Since=modified).status_code == 200
    for headers in ({"If_Match": '"x"'}, {"If_Match": f"W/{etag}"}, {"If_Unmodified_Since": old}):
        answer = get(client, **headers, If_None_Match=etag)
        assert (answer.status_code, (answer.json or {})["error"]) == (412, "precondition_failed")
    assert get(client, If_Match=etag, If_Unmodified_Since=old).status_code == 200, "the ETag is exact"


def test_if_range(uploads: SessionFileStore, client: FlaskClient) -> None:
    head = get(client, method="HEAD")
    etag = head.headers["ETag"]

    answer = get(client, Range="bytes=3-5", If_Range=etag)
    assert (answer.status_code, answer.data) == (206, DATA[3:6])
    for other in ('"x"', f"W/{etag}", etag.strip('"'), head.headers["Last-Modified"], "", "*"):
        answer = get(client, Range="bytes=3-5", If_Range=other)
        assert (answer.status_code, answer.data) == (200, DATA), other
    assert get(client, Range=f"bytes={SIZE}-", If_Range='"x"').status_code == 200


@pytest.mark.parametrize("name", ["a.png", "A.JPG", "b.tar.webp", "clip.mp4", "song.mp3"])
def test_a_harmless_file_is_shown_if_the_view_says_so(
    uploads: SessionFileStore, client: FlaskClient, name: str
) -> None:
    uploads.save(SID, name, b"<script>alert(1)</script>")

    shown = client.get(f"/api/shown/{name}", headers=as_(SID))
    saved = get(client, name)

    assert shown.headers["Content-Disposition"] == f'inline; filename="{name}"'
    assert shown.headers["Content-Type"] == HARMLESS[name.rsplit(".", 1)[1].lower()]
    assert saved.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert {shown.headers["X-Content-Type-Options"], saved.headers["X-Content-Type-Options"]} == {"nosniff"}
    assert shown.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"


@pytest.mark.parametrize(
    "name",
    ["a.svg", "a.SVG", "a.html", "a.xhtml", "a.xml", "a.js", "a.css", "a.pdf", "a.mht", "a.wasm", "a.png.html", ".png"],
)
def test_what_may_hold_a_script_is_never_shown(uploads: SessionFileStore, client: FlaskClient, name: str) -> None:
    uploads.save(SID, name, b"\x89PNG\r\n\x1a\n")  # its bytes look harmless, its name decides
    shown = client.get(f"/api/shown/{name}", headers=as_(SID))
    assert shown.headers["Content-Disposition"].startswith("attachment;")


def test_plain_text_is_shown_as_utf8(uploads: SessionFileStore, client: FlaskClient) -> None:
    uploads.save(SID, "a.txt", "é".encode())
    shown = client.get("/api/shown/a.txt", headers=as_(SID))
    assert (shown.text, shown.headers["Content-Type"]) == ("é", "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("name", "plain", "unicode"),
    [
        ("report.csv", "report.csv", None),
        ("two words;.csv", "two words;.csv", None),
        ("café.txt", "cafe.txt", "café.txt"),
        ("отчёт 2026.xlsx", "_____ 2026.xlsx", "отчёт 2026.xlsx"),
        ("データ.zip", "___.zip", "データ.zip"),
        ("👩‍💻.png", "___.png", "👩‍💻.png"),
        ('a"b?.txt', "a_b_.txt", None),
        ("50%41.txt", "50_41.txt", "50%41.txt"),
        ("it's (1)*.txt", "it's (1)_.txt", None),
        ("ﬁ½.txt", "fi1_2.txt", "ﬁ½.txt"),
    ],
)
def test_the_name_that_a_client_saves(name: str, plain: str, unicode: str | None) -> None:
    text = disposition(name)
    assert text.isascii()
    assert text.isprintable()
    assert text.startswith(f'attachment; filename="{plain}"')
    assert parse_options_header(text)[1]["filename"] == (unicode or plain)
    assert ("filename*=UTF-8''" in text) == (unicode is not None)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not replace or delete an open file")
def test_an_open_file_goes_on_when_it_is_replaced_or_deleted(
    uploads: SessionFileStore, app: Flask, client: FlaskClient
) -> None:
    for end in (lambda: uploads.save(SID, "a.bin", b"new"), lambda: uploads.delete(SID, "a.bin")):
        uploads.save(SID, "a.bin", DATA)
        with client.get("/api/files/a.bin", headers={**as_(SID), "Range": "bytes=1-"}) as answer:
            end()
            assert answer.data == DATA[1:]


@counts_descriptors
def test_a_client_that_goes_away_leaves_no_descriptor(uploads: SessionFileStore, client: FlaskClient) -> None:
    big = os.urandom(1_000_000)
    uploads.save(SID, "big", big)
    answer = client.get("/api/files/big", headers=as_(SID))
    assert next(iter(answer.response)) == big[: 256 * 1024]
    answer.close()


@counts_descriptors
def test_a_response_that_a_hook_replaces_leaves_no_descriptor(
    uploads: SessionFileStore, app: Flask, client: FlaskClient
) -> None:
    @app.after_request
    def other(_: Any) -> Any:
        return app.make_response("other")

    assert get(client).data == b"other"


@pytest.mark.parametrize("name", ["NUL.csv", "%2e%2e", "a%0d%0ab", "a%5Cb", "%E2%80%AEgnp.exe", "a%00", "x" * 256])
def test_a_name_that_cannot_be_saved_is_a_400(uploads: SessionFileStore, client: FlaskClient, name: str) -> None:
    answer = get(client, name)
    assert (answer.status_code, (answer.json or {})["error"]) == (400, "invalid_file_name")


def test_a_file_of_a_backend_that_cannot_be_moved_in_is_sent_whole(app: Flask) -> None:
    class OneWay(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with app.test_request_context(headers={"Range": "bytes=3-5"}):
        response = response_with(OneWay(DATA), FileInfo("a", SIZE, 0.0, "1"), inline=False)
        assert (response.status_code, response.headers["Accept-Ranges"]) == (200, "none")
        assert b"".join(response.iter_encoded()) == DATA


def test_a_piece_is_a_file_of_its_own_bytes() -> None:
    piece = Piece(io.BytesIO(DATA), 5, 20)
    assert (piece.tell(), piece.read(3), piece.read(), piece.read(1)) == (5, DATA[5:8], DATA[8:20], b"")
    assert piece.seek(0, os.SEEK_END) == 20
    assert piece.seek(-2, os.SEEK_CUR) == 18
    assert b"".join(piece) == DATA[18:20]
    with pytest.raises(io.UnsupportedOperation):
        piece.fileno()


def test_a_file_that_has_become_shorter_ends_the_connection() -> None:
    with pytest.raises(OSError, match="ended 5 bytes early"):
        list(Piece(io.BytesIO(DATA), 0, SIZE + 5))
