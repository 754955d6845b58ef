"""The routes of a file store: below each prefix, behind the application's own routes, after its hooks."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask, request, url_for
from flask.testing import FlaskClient
from flask_silo import ALL_ROUTES, FileStoreError, SessionFileStore, Silo
from flask_silo_helpers import HEADER, as_
from silo_store.testing import SID, TTL, Clock, in_threads

BASE = "/api/files/uploads"
CHANGES = ("list", "upload", "download", "delete")


@pytest.fixture
def silo(url: str, clock: Clock) -> Silo:
    return Silo(ttl=TTL, expired_retain=100, store_url=url, auto_cleanup=False, clock=clock)


@pytest.fixture
def add(silo: Silo, tmp_path: Path) -> Callable[..., SessionFileStore]:
    def added(*routes: str, name: str = "uploads", **options: Any) -> SessionFileStore:
        return silo.add_file_store(name, tmp_path / name, routes=routes or CHANGES, **options)

    return added


class Client(FlaskClient):
    """Reads and closes each response, as a server does."""

    def open(self, *args: Any, **options: Any) -> Any:
        return super().open(*args, **{**options, "buffered": True})


@pytest.fixture
def app(silo: Silo) -> Flask:
    app = Flask("shop")
    app.test_client_class = Client
    silo.init_app(app)
    return app


@pytest.fixture
def uploads(add: Callable[..., SessionFileStore]) -> SessionFileStore:
    return add(max_file_bytes=1000, max_files=5)


@pytest.fixture
def client(app: Flask, uploads: SessionFileStore) -> FlaskClient:
    return app.test_client()


def begin(client: FlaskClient, name: str = "a.csv", data: bytes = b"x,y\n") -> dict[str, str]:
    """Upload a file, and return the header with the id of its session."""
    answer = client.put(f"{BASE}/{quote(name)}", data=data)
    assert answer.status_code == 201
    return {HEADER: answer.headers[HEADER]}


def names(client: FlaskClient, headers: dict[str, str]) -> list[str]:
    return [each["name"] for each in client.get(BASE, headers=headers).get_json()["files"]]


def test_a_file_comes_and_goes(client: FlaskClient) -> None:
    new = client.put(f"{BASE}/a.csv", data=b"x,y\n")
    assert new.status_code == 201
    file = new.get_json()
    assert (file["name"], file["size"], file["media_type"]) == ("a.csv", 4, "text/csv")
    assert new.headers["ETag"] == f'"{file["etag"]}"'
    mine = {HEADER: new.headers[HEADER]}

    listed = client.get(BASE, headers=mine)
    assert listed.get_json() == {
        "files": [file],
        "usage": {"bytes": 4, "files": 1},
        "limits": {"max_file_bytes": 1000, "max_files": 5},
    }
    assert listed.headers["Cache-Control"] == "no-store"
    assert client.get(f"{BASE}/", headers=mine).get_json() == listed.get_json()

    sent = client.get(f"{BASE}/a.csv", headers=mine)
    assert (sent.status_code, sent.data) == (200, b"x,y\n")
    assert sent.headers["Content-Disposition"].startswith("attachment")
    assert client.get(f"{BASE}/a.csv", headers={**mine, "Range": "bytes=1-2"}).data == b",y"
    assert client.head(f"{BASE}/a.csv", headers=mine).headers["Content-Length"] == "4"

    changed = client.put(f"{BASE}/a.csv", data=b"z", headers=mine)
    assert (changed.status_code, changed.get_json()["size"]) == (200, 1)
    deleted = client.delete(f"{BASE}/a.csv", headers=mine)
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert "Content-Type" not in deleted.headers
    for call in (client.delete, client.get, client.head):
        missing = call(f"{BASE}/a.csv", headers=mine)
        assert missing.status_code == 404
    assert client.get(f"{BASE}/a.csv", headers=mine).get_json()["error"] == "file_missing"
    assert names(client, mine) == []


def test_a_form_uploads_several_files(client: FlaskClient) -> None:
    form = {"first": (io.BytesIO(b"1"), "a.csv"), "second": (io.BytesIO(b"22"), "b.csv")}
    answer = client.post(BASE, data=form)
    assert answer.status_code == 201
    assert [(each["name"], each["size"]) for each in answer.get_json()["files"]] == [("a.csv", 1), ("b.csv", 2)]
    assert names(client, {HEADER: answer.headers[HEADER]}) == ["a.csv", "b.csv"]


@pytest.mark.parametrize("chosen", [(), *((route,) for route in ALL_ROUTES), ALL_ROUTES], ids=str)
def test_only_the_routes_that_were_asked_for_are_served(
    silo: Silo, app: Flask, tmp_path: Path, chosen: tuple[str, ...]
) -> None:
    silo.add_file_store("uploads", tmp_path, routes=chosen)
    client, needed = app.test_client(), dict.fromkeys(chosen)
    for method, path, route in (
        ("GET", "", "list"),
        ("POST", "", "upload"),
        ("PUT", "/a.csv", "upload"),
        ("GET", "/a.csv", "download"),
        ("DELETE", "/a.csv", "delete"),
        ("POST", "/a.csv/link", "link"),
        ("GET", "/link/a.b", "link"),
        ("GET", ".zip", "zip"),
    ):
        answer = client.open(BASE + path, method=method)
        if answer.mimetype == "text/html" and route not in needed:
            assert answer.status_code in (404, 405)
            assert not answer.headers.get("Allow", "").count(method)
        else:
            assert answer.status_code != 405
            assert route in needed or answer.get_json()["error"] == "invalid_file_name"


def test_a_left_out_method_is_405(add: Callable[..., SessionFileStore], app: Flask) -> None:
    add("download", "list")
    client = app.test_client()
    for method in ("PUT", "DELETE", "PATCH"):
        refused = client.open(f"{BASE}/a.csv", method=method)
        assert refused.status_code == 405
        assert set(refused.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert client.post(BASE).status_code == 405
    assert client.options(f"{BASE}/a.csv").headers["Allow"] == "GET, HEAD, OPTIONS"
    assert client.options(BASE).headers["Allow"] == "GET, HEAD, OPTIONS"
    assert client.get(f"{BASE}.zip").status_code == 404


def test_unknown_stores_and_stores_without_routes_answer_alike(
    add: Callable[..., SessionFileStore], silo: Silo, app: Flask, tmp_path: Path
) -> None:
    add()
    silo.add_file_store("private", tmp_path / "private")
    client = app.test_client()
    answers = {client.get(f"/api/files/{name}{end}").data for name in ("private", "uploads2") for end in ("", "/a.csv")}
    assert len(answers) == 1
    assert client.get("/api/files/private").status_code == 404
    assert client.get("/api/files/uploads2/a.csv").status_code == 404


@pytest.mark.parametrize("routes", [["lists"], ["list", "remove"], "everything", [None]], ids=str)
def test_an_unknown_route_is_refused_at_set_up(silo: Silo, tmp_path: Path, routes: Any) -> None:
    with pytest.raises(ValueError, match="choose among list, upload, download, delete, link"):
        silo.add_file_store("uploads", tmp_path / "uploads", routes=routes)
    assert "uploads" not in silo.files.stores
    assert not (tmp_path / "uploads").exists()


def test_routes_are_given_by_name(silo: Silo, tmp_path: Path) -> None:
    routes: Any = True
    with pytest.raises(TypeError, match=r"routes takes names such as .* or flask_silo\.ALL_ROUTES, not True"):
        silo.add_file_store("uploads", tmp_path / "uploads", routes=routes)


@pytest.mark.parametrize("name", ["my files", "a/b", "a.zip", "", "<name>"])
def test_a_store_with_routes_has_a_name_for_a_path(silo: Silo, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        silo.add_file_store(name, tmp_path, routes="list")
    silo.add_file_store(name, tmp_path)


NAMES = [
    "link",
    "zip",
    "events",
    "a.zip",
    "uploads.zip",
    "отчёт 2026.xlsx",
    "日本 語.txt",
    "100% & #1?.csv",
    "a;b=c",
    "...a",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_accepted_name_is_a_path(client: FlaskClient, name: str) -> None:
    mine = begin(client, name, b"1")
    assert names(client, mine) == [name]
    assert client.get(f"{BASE}/{quote(name)}", headers=mine).data == b"1"
    assert client.delete(f"{BASE}/{quote(name)}", headers=mine).status_code == 204


def test_a_link_to_a_file_of_any_name(add: Callable[..., SessionFileStore], app: Flask) -> None:
    add(*ALL_ROUTES)
    app.secret_key = "secret"
    client = app.test_client()
    for name in NAMES:
        mine = begin(client, name, name.encode())
        link = client.post(f"{BASE}/{quote(name)}/link", headers=mine).get_json()["link"]
        assert client.get(link).data == name.encode()
    assert client.get(f"{BASE}/link/link", headers=mine).status_code == 403, "it is no token"
    assert client.options(f"{BASE}/link/link").headers["Allow"] == "OPTIONS, POST"
    assert client.options(f"{BASE}/link/a.b").headers["Allow"] == "GET, HEAD, OPTIONS"
    assert client.put(f"{BASE}/link/link", data=b"1").status_code == 400


BAD = [
    "a%2Fb",
    "a/b",
    "/etc",
    "%2Fetc",
    "..",
    ".",
    "%2e%2e",
    "..%2F..%2Fx",
    "a%5Cb",
    "a%00b",
    "a%0Ab",
    "NUL",
]


@pytest.mark.parametrize("name", [*BAD, "%E2%80%AEgpj.exe", "x" * 300], ids=repr)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_the_gate_refuses_other_names(client: FlaskClient, silo: Silo, name: str, method: str) -> None:
    answer = client.open(f"{BASE}/{name}", method=method, data=b"1")
    assert (answer.status_code, answer.get_json()["error"]) == (400, "invalid_file_name")
    assert silo.store.active_count == 0


def test_a_name_that_is_not_utf_8_is_refused(client: FlaskClient) -> None:
    """Werkzeug puts U+FFFD in the place of such bytes, and different names would become one."""
    for path, status in (("\xff.csv", 400), ("\xef\xbf\xbd.csv", 201)):
        raw = {"PATH_INFO": f"{BASE}/{path}", "REQUEST_METHOD": "PUT"}
        assert client.put("/", data=b"1", environ_overrides=raw).status_code == status


def test_a_client_without_a_session_gets_nothing_and_none_begins(client: FlaskClient, silo: Silo) -> None:
    assert client.get(BASE).get_json()["files"] == []
    assert client.get(f"{BASE}/a.csv").status_code == 404
    assert client.delete(f"{BASE}/a.csv").status_code == 404
    assert client.options(f"{BASE}/a.csv").status_code == 200
    assert HEADER not in client.get(BASE).headers
    assert silo.store.active_count == 0


def test_another_client_sees_nothing(client: FlaskClient) -> None:
    begin(client)
    other = begin(client, "b.csv")
    assert names(client, other) == ["b.csv"]
    assert client.get(f"{BASE}/a.csv", headers=other).status_code == 404


def test_an_expired_client_is_told(client: FlaskClient, clock: Clock) -> None:
    mine = begin(client)
    clock.advance(TTL + 1)
    for call, path in ((client.get, BASE), (client.get, f"{BASE}/a.csv"), (client.delete, f"{BASE}/a.csv")):
        gone = call(path, headers=mine)
        assert (gone.status_code, gone.get_json()["error"]) == (410, "session_expired")
    assert client.options(BASE, headers=mine).status_code == 200
    again = client.put(f"{BASE}/b.csv", data=b"1", headers=mine)
    assert again.status_code == 201
    assert names(client, {HEADER: again.headers[HEADER]}) == ["b.csv"]


def test_an_upload_of_an_expired_client_can_be_refused(silo: Silo, client: FlaskClient, clock: Clock) -> None:
    silo.add_data_endpoints("flask_silo:file")
    mine = begin(client)
    clock.advance(TTL + 1)
    assert client.put(f"{BASE}/b.csv", data=b"1", headers=mine).status_code == 410
    assert client.put(f"{BASE}/b.csv", data=b"1").status_code == 201


def test_errors_are_answered_as_in_a_view(client: FlaskClient) -> None:
    mine = begin(client)
    large = client.put(f"{BASE}/b.csv", data=b"x" * 1001, headers=mine)
    assert (large.status_code, large.get_json()["max_bytes"]) == (413, 1000)
    for number in range(4):
        begin_more = client.put(f"{BASE}/{number}", data=b"", headers=mine)
        assert begin_more.status_code == 201
    assert client.put(f"{BASE}/more", data=b"", headers=mine).get_json()["error"] == "session_quota"


def test_the_applications_own_handler_wins(app: Flask, uploads: SessionFileStore) -> None:
    app.register_error_handler(FileStoreError, lambda error: (type(error).__name__, 418))
    assert app.test_client().get(f"{BASE}/a.csv").data == b"FileMissing"


def test_only_a_new_file_is_saved_if_the_client_says_so(client: FlaskClient) -> None:
    mine = {**begin(client), "If-None-Match": "*"}
    refused = client.put(f"{BASE}/a.csv", data=b"2", headers=mine)
    assert (refused.status_code, refused.get_json()["error"]) == (412, "precondition_failed")
    assert client.put(f"{BASE}/b.csv", data=b"2", headers=mine).status_code == 201
    assert client.get(f"{BASE}/a.csv", headers={HEADER: mine[HEADER]}).data == b"x,y\n"


def test_of_two_uploads_at_once_one_is_new(client: FlaskClient, uploads: SessionFileStore) -> None:
    mine = begin(client, "other")
    barrier = Barrier(2)

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            barrier.wait(30)
            return super().read(size)

        readinto = None  # type: ignore[assignment]

    def upload(number: int) -> Any:
        raw = {"wsgi.input": Slow(str(number).encode()), "CONTENT_LENGTH": "1"}
        headers = {**mine, "If-None-Match": "*"}
        other = client.application.test_client()
        return other.put(f"{BASE}/a.csv", headers=headers, environ_overrides=raw, input_stream=raw["wsgi.input"])

    first, second = sorted(in_threads(2, upload), key=lambda answer: answer.status_code)
    assert (first.status_code, second.status_code) == (201, 412)
    assert second.get_json()["error"] == "precondition_failed"
    assert uploads.info(mine[HEADER], "a.csv").etag == first.get_json()["etag"]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_only_the_version_that_the_client_knows_is_changed(client: FlaskClient, method: str) -> None:
    mine = begin(client)
    known = client.head(f"{BASE}/a.csv", headers=mine).headers["ETag"]
    assert client.put(f"{BASE}/a.csv", data=b"new", headers=mine).status_code == 200
    refused = client.open(f"{BASE}/a.csv", method=method, data=b"old", headers={**mine, "If-Match": known})
    assert refused.status_code == 412
    newest = client.get(f"{BASE}/a.csv", headers=mine)
    assert newest.data == b"new"
    current = {**mine, "If-Match": newest.headers["ETag"]}
    assert client.open(f"{BASE}/a.csv", method=method, data=b"x", headers=current).status_code in (200, 204)
    assert client.put(f"{BASE}/none.csv", data=b"1", headers={**mine, "If-Match": "*"}).status_code == 412
    later = {**mine, "If-Modified-Since": "Mon, 01 Jan 2120 00:00:00 GMT"}
    assert client.put(f"{BASE}/a.csv", data=b"x", headers=later).status_code in (200, 201), "it counts for GET only"
    long_ago = {**mine, "If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}
    client.put(f"{BASE}/a.csv", data=b"new", headers=mine)
    assert client.open(f"{BASE}/a.csv", method=method, data=b"x", headers=long_ago).status_code == 412


def test_hooks_see_where_the_request_goes_and_may_refuse_it(app: Flask, uploads: SessionFileStore) -> None:
    seen = []

    @app.before_request
    def check() -> Any:
        seen.append((request.endpoint, request.view_args))
        return None if request.headers.get("Authorization") == "yes" else ({"login": "please"}, 401)

    client = app.test_client()
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        assert client.open(f"{BASE}/a.csv", method=method).status_code == 401
    assert client.put(f"{BASE}/a.csv", data=b"1", headers={"Authorization": "yes"}).status_code == 201
    assert client.get(BASE, headers={"Authorization": "yes"}).status_code == 200
    assert seen[0] == ("flask_silo:file", {"store": "uploads", "name": "a.csv"})
    assert seen[-1] == ("flask_silo:files", {"store": "uploads"})


def own(**_: Any) -> Any:
    return {"own": True}


@pytest.mark.parametrize("rule", ["/api/files/uploads/<name>", "/api/<path:rest>", "/<area>/files/<store>/<name>"])
def test_a_route_of_the_application_wins(app: Flask, uploads: SessionFileStore, rule: str) -> None:
    app.add_url_rule(rule, view_func=own, methods=["GET"])
    client = app.test_client()
    assert client.get(f"{BASE}/a.csv").get_json() == {"own": True}
    assert client.put(f"{BASE}/a.csv", data=b"1").status_code == 201, "a method that the application has not"
    assert client.open(f"{BASE}/a.csv", method="PATCH").status_code == 405


def test_what_takes_every_path_does_not_hide_them(app: Flask, uploads: SessionFileStore) -> None:
    app.add_url_rule("/<path:file>", view_func=own)
    client = app.test_client()
    mine = begin(client)
    assert names(client, mine) == ["a.csv"]
    assert client.get(f"{BASE}/a.csv", headers=mine).data == b"x,y\n"
    assert client.get("/api/files/other").get_json() == {"own": True}


def test_below_each_prefix_and_listed_among_the_routes(tmp_path: Path, url: str) -> None:
    silo = Silo(store_url=url, auto_cleanup=False, api_prefix=("/api/", "/v2"))
    silo.add_file_store("uploads", tmp_path / "uploads", routes=CHANGES)
    app = Flask("two")
    silo.init_app(app)
    silo.add_file_store("more", tmp_path / "more", routes="list")
    client = app.test_client()
    for base in ("/api", "/v2"):
        assert client.put(f"{base}/files/uploads/a.csv", data=b"1").status_code == 201
        assert client.get(f"{base}/files/more").get_json()["files"] == []
    with app.test_request_context("/"):
        assert url_for("flask_silo:file", store="uploads", name="a b.csv") == "/api/files/uploads/a%20b.csv"
        assert url_for("flask_silo:files", store="more") == "/api/files/more"
    assert {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint == "flask_silo:file"} == {
        "/api/files/uploads/<name>",
        "/v2/files/uploads/<name>",
    }


def test_each_application_of_a_silo_serves_its_own_clients(silo: Silo, app: Flask, uploads: SessionFileStore) -> None:
    second = Flask("second")
    second.test_client_class = Client
    silo.init_app(second)
    mine = begin(app.test_client())
    theirs = begin(second.test_client(), "b.csv")
    assert names(app.test_client(), mine) == ["a.csv"]
    assert names(second.test_client(), theirs) == ["b.csv"]
    assert second.test_client().get(BASE, headers=mine).status_code == 410, "the other application's session"


def test_a_task_does_not_take_the_place_of_files(silo: Silo, client: FlaskClient) -> None:
    @silo.task
    def work() -> None: ...

    assert client.get("/api/tasks/work", headers=as_(SID)).status_code == 410
    assert client.get("/api/tasks/work").get_json()["status"] == "idle"
    assert names(client, begin(client, "events")) == ["events"]
