"""All files of a session as one zip archive."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from flask_silo import ALL_ROUTES, FileMissing, SessionFileStore, Silo
from flask_silo.files import archive
from flask_silo_helpers import as_
from open_files import open_files
from silo_files import FileInfo
from silo_store.testing import SID
from werkzeug.test import TestResponse

pytest.importorskip("zipstream")

FILES = {
    "a.csv": b"month,sum\n" * 1000,
    "empty": b"",
    "one": b"1",
    "отчёт 2026.txt": "да".encode(),
    "👩‍💻.png": b"\x89PNG",
    "a:b.txt": b"colon",
    "a?b.txt": b"question mark",
    "a_b.txt": b"its own name",
    "A.CSV": b"another case",
    "big.bin": bytes(range(256)) * 4000,
}


@pytest.fixture
def uploads(silo: Silo, app: Flask, tmp_path: Path) -> SessionFileStore:
    store = silo.add_file_store("uploads", tmp_path / "uploads", routes="zip")

    @app.get("/api/all")
    def all_files() -> Any:
        return store.send_all(silo.sid)

    return store


@pytest.fixture
def filled(uploads: SessionFileStore) -> SessionFileStore:
    for name, data in FILES.items():
        uploads.save(SID, name, data)
    return uploads


def get(client: FlaskClient, path: str = "/api/all", method: str = "GET") -> TestResponse:
    answer = client.open(path, method=method, headers=as_(SID))
    assert answer.status_code == 200
    return answer


def test_all_files_are_sent_under_names_that_any_system_can_save(filled: SessionFileStore, client: FlaskClient) -> None:
    answer = get(client)

    assert answer.headers["Content-Length"] == str(len(answer.data))
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="files.zip"'
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert "ETag" not in answer.headers
    with zipfile.ZipFile(io.BytesIO(answer.data)) as found:
        assert found.testzip() is None
        contents = {name: found.read(name) for name in found.namelist()}
        assert all(info.flag_bits & 0x800 for info in found.infolist() if not info.filename.isascii()), "marked UTF-8"
    assert len({name.casefold() for name in contents}) == len(FILES), "unique, also if case is ignored"
    assert sorted(contents.values()) == sorted(FILES.values())
    assert {name: contents[name] for name in ("отчёт 2026.txt", "👩‍💻.png", "a_b.txt", "big.bin")} == {
        name: FILES[name] for name in ("отчёт 2026.txt", "👩‍💻.png", "a_b.txt", "big.bin")
    }
    assert not any(set(name) & set('<>:"/\\|?*') for name in contents)


def test_head_has_the_headers_alone(filled: SessionFileStore, client: FlaskClient) -> None:
    head = get(client, method="HEAD")
    assert head.data == b""
    assert dict(head.headers) == dict(get(client).headers)


def test_a_session_without_files_has_an_empty_archive(uploads: SessionFileStore, client: FlaskClient) -> None:
    answer = get(client)
    assert answer.headers["Content-Length"] == str(len(answer.data))
    with zipfile.ZipFile(io.BytesIO(answer.data)) as found:
        assert found.namelist() == []


def test_the_route_sends_the_archive(filled: SessionFileStore, client: FlaskClient) -> None:
    answer = get(client, "/api/files/uploads.zip")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as found:
        assert sorted(map(found.read, found.namelist())) == sorted(FILES.values())
    assert answer.headers["Content-Disposition"] == 'attachment; filename="uploads.zip"'
    missing = client.get("/api/files/uploads.zip")
    assert (missing.status_code, missing.get_json()["error"]) == (404, "file_missing")


@pytest.mark.parametrize("program", ["unzip", "bsdtar", "7z", "python"])
def test_other_programs_read_it(filled: SessionFileStore, client: FlaskClient, tmp_path: Path, program: str) -> None:
    commands = {
        "unzip": ["unzip", "-q", "all.zip", "-d", "out"],
        "bsdtar": ["bsdtar", "-xf", "all.zip", "-C", "out"],
        "7z": ["7z", "x", "-bso0", "-oout", "all.zip"],
        "python": [sys.executable, "-m", "zipfile", "-e", "all.zip", "out"],
    }
    if program != "python" and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    (tmp_path / "out").mkdir()
    (tmp_path / "all.zip").write_bytes(get(client).data)

    subprocess.run(commands[program], cwd=tmp_path, check=True)

    assert sorted(path.read_bytes() for path in (tmp_path / "out").iterdir()) == sorted(FILES.values())


def many(store: SessionFileStore) -> dict[str, bytes]:
    files = {f"{number:03}.txt": bytes([number]) * 100_000 for number in range(archive.OPEN_FILES + 3)}
    for name, data in files.items():
        store.save(SID, name, data)
    return files


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not replace or delete an open file")
def test_open_files_are_sent_whatever_becomes_of_them(uploads: SessionFileStore, client: FlaskClient) -> None:
    files = many(uploads)
    answer = client.get("/api/all", headers=as_(SID))
    first = list(files)[: archive.OPEN_FILES]
    for name in first[::2]:
        uploads.save(SID, name, b"new")
    for name in first[1::2]:
        uploads.delete(SID, name)
    with zipfile.ZipFile(io.BytesIO(answer.data)) as found:
        assert {name: found.read(name) for name in found.namelist()} == files


@pytest.mark.parametrize("end", ["replace", "delete"])
def test_a_file_that_changes_before_its_turn_ends_the_connection(
    uploads: SessionFileStore, client: FlaskClient, end: str
) -> None:
    last = list(many(uploads))[-1]
    with client.get("/api/all", headers=as_(SID)) as answer:
        if end == "replace":
            uploads.save(SID, last, b"x" * 100_000)
        else:
            uploads.delete(SID, last)
        with pytest.raises(RuntimeError if end == "replace" else FileMissing):
            _ = answer.data


def test_a_file_that_is_deleted_while_the_archive_begins_is_left_out(
    filled: SessionFileStore, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = filled.backend.list

    def then_deleted(key: str) -> list[FileInfo]:
        found = listed(key)
        filled.delete(SID, "one")
        filled.save(SID, "big.bin", b"new")
        return found

    monkeypatch.setattr(filled.backend, "list", then_deleted)
    answer = get(client)
    assert answer.headers["Content-Length"] == str(len(answer.data))
    with zipfile.ZipFile(io.BytesIO(answer.data)) as found:
        assert "one" not in found.namelist()
        assert found.read("big.bin") == b"new"


@pytest.mark.skipif(open_files() is None, reason="open descriptors are counted in /proc")
def test_no_descriptor_stays_open(uploads: SessionFileStore, app: Flask, client: FlaskClient) -> None:
    @app.after_request
    def other(response: Any) -> Any:
        return app.make_response("other") if request.args else response

    many(uploads)
    get(client, method="HEAD")
    assert open_files() == 0
    with client.get("/api/all", headers=as_(SID)) as answer:
        next(iter(answer.response))
        assert open_files() == archive.OPEN_FILES
    assert open_files() == 0
    assert get(client).data
    assert open_files() == 0
    assert get(client, "/api/all?other").data == b"other"
    assert open_files() == 0


@pytest.mark.parametrize("size", [(1 << 31) - 1, (1 << 32) + 5], ids=["2 GiB", "4 GiB"])
def test_the_announced_length_is_right_with_zip64(app: Flask, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """The bytes are not read from a disk, and the checksum costs nothing."""

    class Zeros(io.RawIOBase):
        left = size

        def read(self, count: int = -1) -> bytes:
            block = bytes(min(count, self.left))
            self.left -= len(block)
            return block

    monkeypatch.setattr("zipstream.ng.crc32", lambda block, value: 0)
    infos = [FileInfo("big", size, 0.0, "1"), FileInfo("small", 0, 0.0, "2")]

    def open_file(name: str) -> Any:
        file = Zeros()
        if name == "small":
            file.left = 0
        return file, infos[name == "small"]

    with app.test_request_context():
        response = archive.response_with_all(infos, open_file, "all.zip")
        assert response.headers["Content-Length"] == str(sum(map(len, response.response)))


@pytest.mark.slow
def test_no_wrong_length_is_announced_for_as_many_files_as_fit_without_zip64() -> None:
    infos = [FileInfo(f"{number}", 0, 0.0, "1") for number in range(65_535)]
    with Flask("many").test_request_context():
        response = archive.response_with_all(infos, lambda name: (io.BytesIO(), infos[0]), "all.zip")
        sent = sum(map(len, response.response))
    assert response.headers.get("Content-Length") in (None, str(sent))


@pytest.mark.parametrize("routes", ["zip", ALL_ROUTES], ids=["zip", "all"])
def test_a_store_with_the_route_is_refused_without_the_library(
    silo: Silo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, routes: Any
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "zipstream", None)
        with pytest.raises(ImportError, match=r"not installed: pip install zipstream-ng, or leave 'zip' out of routes"):
            silo.add_file_store("uploads", tmp_path / "uploads", routes=routes)
        silo.add_file_store("others", tmp_path / "others", routes=[each for each in ALL_ROUTES if each != "zip"])
    assert not (tmp_path / "uploads").exists()
    silo.add_file_store("uploads", tmp_path / "uploads", routes=routes)


def test_a_missing_library_is_named(filled: SessionFileStore, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zipstream", None)
    with app.test_request_context(), pytest.raises(ImportError, match="not installed: pip install zipstream-ng"):
        filled.send_all(SID)
