"""Links to files: signed, for a while, and only as long as the session lives."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import FileMissing, SessionFileStore, Silo
from flask_silo_helpers import as_, counter_app
from silo_files import InvalidFileName
from silo_store.testing import SID, TTL, Clock
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, TestResponse

KEY = "a long random text"


@pytest.fixture
def app(silo: Silo) -> Flask:
    app = counter_app(silo)
    app.config["SECRET_KEY"] = KEY
    return app


@pytest.fixture
def uploads(silo: Silo, app: Flask, tmp_path: Path) -> SessionFileStore:
    store = silo.add_file_store("uploads", tmp_path / "uploads", routes="link")

    @app.get("/api/link/<name>")
    def link(name: str) -> Any:
        return store.link(silo.sid, name)

    store.save(SID, "a.csv", b"month,sum")
    return store


def link_to(client: FlaskClient, name: str = "a.csv") -> str:
    return client.get(f"/api/link/{name}", headers=as_(SID)).text


def error_of(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, (answer.json or {})["error"]


def test_a_link_sends_the_file_to_a_client_without_the_id(uploads: SessionFileStore, client: FlaskClient) -> None:
    link = link_to(client)

    answer = client.get(link)

    assert (answer.status_code, answer.data) == (200, b"month,sum")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a.csv"'
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert "X-Session-ID" not in answer.headers or answer.headers["X-Session-ID"] != SID
    part = client.get(link, headers={"Range": "bytes=1-2"})
    assert (part.status_code, part.data) == (206, b"on")
    assert client.head(link).headers["Content-Length"] == "9"


def test_a_link_holds_no_session_id(uploads: SessionFileStore, client: FlaskClient, silo: Silo) -> None:
    link = link_to(client)
    token = link.rsplit("/", 1)[1]
    readable = base64.urlsafe_b64decode(token.split(".")[0] + "===")
    assert link == f"/api/files/uploads/link/{token}"
    assert unquote(link) == link
    assert SID not in link
    assert SID.encode() not in readable
    assert (silo.store.uid(SID) or "none").encode() in readable


def test_a_link_ends_with_its_time(uploads: SessionFileStore, client: FlaskClient, silo: Silo, clock: Clock) -> None:
    with client.application.app_context():
        link = uploads.link(SID, "a.csv", expires=10)
    clock.advance(10)
    assert client.get(link).status_code == 200
    clock.advance(1.1)
    assert error_of(client.get(link)) == (403, "link_refused")


def test_a_link_ends_with_its_session_and_does_not_renew_it(
    uploads: SessionFileStore, client: FlaskClient, silo: Silo, clock: Clock
) -> None:
    with client.application.app_context():
        link = uploads.link(SID, "a.csv", expires=TTL * 10)
    clock.advance(TTL - 1)
    assert client.get(link).status_code == 200, "the last second"
    clock.advance(2)
    assert error_of(client.get(link)) == (410, "session_expired"), "due, and not swept yet"
    silo.store.cleanup()
    assert error_of(client.get(link)) == (410, "session_expired")
    uploads.save(SID, "a.csv", b"of the next life")
    assert error_of(client.get(link)) == (410, "session_expired")


@pytest.mark.parametrize("end", ["destroy", "reset"])
def test_a_link_ends_when_the_session_is_ended(
    uploads: SessionFileStore, client: FlaskClient, silo: Silo, end: str
) -> None:
    link = link_to(client)
    getattr(silo.store, end)(SID)
    answer = client.get(link)
    assert error_of(answer) == (410, "session_expired")
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_session_that_ends_just_before_its_file_is_opened(
    uploads: SessionFileStore, client: FlaskClient, silo: Silo, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = link_to(client)
    opened = uploads.backend.open

    def ended_before(key: str, name: str) -> Any:
        silo.store.destroy(SID)
        return opened(key, name)

    monkeypatch.setattr(uploads.backend, "open", ended_before)
    assert error_of(client.get(link)) == (410, "session_expired")


def test_a_link_follows_a_rotation(uploads: SessionFileStore, client: FlaskClient, silo: Silo) -> None:
    link = link_to(client)
    silo.store.rotate(SID)
    assert client.get(link).data == b"month,sum"


def test_a_session_that_is_rotated_between_the_two_looks_lives(
    uploads: SessionFileStore, client: FlaskClient, silo: Silo, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = link_to(client)
    find = type(silo.store.backend).find

    def then_rotated(backend: Any, uid: str) -> str | None:
        monkeypatch.undo()
        sid = find(backend, uid)
        silo.store.rotate(SID)
        return sid

    monkeypatch.setattr(type(silo.store.backend), "find", then_rotated)
    assert client.get(link).data == b"month,sum"


def test_a_link_leads_to_what_has_the_name(uploads: SessionFileStore, client: FlaskClient) -> None:
    link = link_to(client)
    uploads.save(SID, "a.csv", b"new")
    assert client.get(link).data == b"new"
    uploads.delete(SID, "a.csv")
    assert error_of(client.get(link)) == (404, "file_missing")


def test_a_forged_token_is_refused(
    uploads: SessionFileStore, app: Flask, client: FlaskClient, silo: Silo, tmp_path: Path
) -> None:
    link = link_to(client)
    base, token = link.rsplit("/", 1)
    payload, signature = token.rsplit(".", 1)
    other = silo.add_file_store("other", tmp_path / "other", routes="link")
    other.save(SID, "a.csv", b"other")
    with app.app_context():
        of_other = other.link(SID, "a.csv").rsplit("/", 1)[1]
    app.config["SECRET_KEY"] = "another"
    by_another = link_to(client).rsplit("/", 1)[1]
    app.config["SECRET_KEY"] = KEY
    odd = ("", ".", "x", "a/b", "%C3%A9", "%00", "x" * 10_000)
    for forged in (payload, f"{payload}.", f"{payload}.{signature[::-1]}", f"x{token}", of_other, by_another, *odd):
        assert error_of(client.get(f"{base}/{forged}")) == (403, "link_refused"), forged
    assert client.get(link).status_code == 200


def test_an_old_key_still_opens_links(uploads: SessionFileStore, app: Flask, client: FlaskClient) -> None:
    link = link_to(client)
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[KEY])
    assert client.get(link).status_code == 200
    new = link_to(client)
    app.config.update(SECRET_KEY_FALLBACKS=None)
    assert client.get(link).status_code == 403
    assert client.get(new).status_code == 200


def test_without_a_secret_key_there_are_no_links(uploads: SessionFileStore, app: Flask) -> None:
    app.config["SECRET_KEY"] = None
    with (
        app.app_context(),
        pytest.raises(RuntimeError, match="SECRET_KEY, which the application does not have"),
    ):
        uploads.link(SID, "a.csv")


def test_a_store_that_serves_no_links_says_what_to_add(silo: Silo, app: Flask, tmp_path: Path) -> None:
    store = silo.add_file_store("plain", tmp_path / "plain", routes="download")
    store.save(SID, "a", b"1")
    with app.app_context(), pytest.raises(RuntimeError, match=r"'plain' are not served: .* routes that contain 'link'"):
        store.link(SID, "a")


def test_wrong_links_are_not_made(uploads: SessionFileStore, app: Flask) -> None:
    with app.app_context():
        with pytest.raises(FileMissing):
            uploads.link(SID, "b.csv")
        with pytest.raises(FileMissing):
            uploads.link("b" * 32, "a.csv")
        with pytest.raises(InvalidFileName):
            uploads.link(SID, "../a.csv")
        for wrong in (0, -1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="expires must be a positive number of seconds"):
                uploads.link(SID, "a.csv", expires=wrong)


def test_a_link_works_behind_a_prefix(uploads: SessionFileStore, app: Flask) -> None:
    mounted = Client(DispatcherMiddleware(Flask("outer"), {"/my app": app}))
    link = mounted.get("/my app/api/link/a.csv", headers=as_(SID)).text
    assert link.startswith("/my%20app/api/files/uploads/link/")
    assert mounted.get(link).data == b"month,sum"


def test_a_task_links_from_the_application_root(
    uploads: SessionFileStore, silo: Silo, app: Flask, client: FlaskClient
) -> None:
    app.config["APPLICATION_ROOT"] = "/mounted"

    @silo.task
    def report() -> str:
        return uploads.link(silo.sid, "a.csv")

    @app.post("/api/report")
    def start() -> Any:
        report.start()
        return {}

    @app.get("/api/report")
    def result() -> Any:
        return report.result(timeout=30)

    client.post("/api/report", headers=as_(SID))
    link = client.get("/api/report", headers=as_(SID)).text
    assert link.startswith("/mounted/api/files/uploads/link/")
    assert client.get(link.removeprefix("/mounted")).data == b"month,sum"


def test_a_link_has_the_prefix_of_its_request(tmp_path: Path) -> None:
    app = Flask("two")
    app.secret_key = KEY
    silo = Silo(app, api_prefix=("/v1/", "/v2/"), auto_cleanup=False, accept_client_ids=True)
    uploads = silo.add_file_store("uploads", tmp_path, routes="link")
    uploads.save(SID, "a", b"1")

    @app.get("/<version>/link")
    def link(version: str) -> Any:
        return uploads.link(SID, "a")

    client = app.test_client()
    for version in ("v1", "v2"):
        found = client.get(f"/{version}/link").text
        assert found.startswith(f"/{version}/files/uploads/link/")
        assert client.get(found).data == b"1"
    with app.app_context():
        assert uploads.link(SID, "a").startswith("/v1/")


def test_the_route_makes_a_link(uploads: SessionFileStore, client: FlaskClient, silo: Silo, clock: Clock) -> None:
    made = client.post("/api/files/uploads/a.csv/link", headers=as_(SID))
    assert made.status_code == 200
    assert made.headers["Cache-Control"] == "no-store"
    assert client.get(made.get_json()["link"]).data == b"month,sum"
    assert error_of(client.post("/api/files/uploads/b.csv/link", headers=as_(SID))) == (404, "file_missing")
    assert error_of(client.post("/api/files/uploads/a.csv/link")) == (404, "file_missing")
    clock.advance(TTL + 1)
    assert client.post("/api/files/uploads/a.csv/link", headers=as_(SID)).status_code == 410


def test_another_process_with_the_same_sessions_serves_the_link(tmp_path: Path) -> None:
    def serve() -> tuple[Silo, SessionFileStore, FlaskClient]:
        app = Flask("shared")
        app.secret_key = KEY
        silo = Silo(app, store_url=f"sqlite:///{tmp_path / 'sessions.db'}", auto_cleanup=False, accept_client_ids=True)
        return silo, silo.add_file_store("uploads", tmp_path / "uploads", routes="link"), app.test_client()

    silo, uploads, _ = serve()
    _, _, client = serve()
    uploads.save(SID, "a.csv", b"1")
    link = uploads.link(SID, "a.csv")
    assert client.get(link).data == b"1"
    silo.store.destroy(SID)
    assert error_of(client.get(link)) == (410, "session_expired")
