"""The behaviour of requests in release 0.1.0, as a contract: the other half of ``test_compat``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g
from flask.testing import FlaskClient
from flask_silo import FileStore, SessionBusy, SessionStore, Silo
from flask_silo_helpers import HEADER, as_
from silo_store.testing import TTL, Clock

View = Callable[[], object]


@pytest.fixture
def in_a_view(app: Flask, client: FlaskClient) -> Callable[[View, str], None]:
    """Call a function in a view for a client. Any error that it raises is raised here."""
    views: list[View] = []
    raised: list[BaseException] = []

    @app.post("/api/view")
    def run() -> Any:
        try:
            views.pop()()
        except BaseException as error:
            raised.append(error)
            raise
        return {}

    def run_it(view: View, sid: str) -> None:
        views.append(view)
        client.post("/api/view", headers=as_(sid))
        if raised:
            raise raised.pop()
        assert not views

    return run_it


def test_what_setting_up_gives(tmp_path: Path) -> None:
    silo, app = Silo(auto_cleanup=False), Flask("app")
    silo.init_app(app)
    assert app.extensions["silo"] is silo
    assert isinstance(silo.store, SessionStore)
    files = silo.add_file_store("uploads", str(tmp_path / "uploads"))
    assert isinstance(files, FileStore)
    assert silo.file_store("uploads") is files
    with pytest.raises(KeyError):
        silo.file_store("typo")
    silo.add_data_endpoints("/api/a", "/api/b")
    silo.stop()
    other = Flask("other")
    assert Silo(other, auto_cleanup=False) is other.extensions["silo"]


@pytest.mark.parametrize("ask", [lambda silo: silo.sid, lambda silo: silo.state(), lambda silo: silo.state("counter")])
@pytest.mark.parametrize("served", [True, False])
def test_outside_a_request_there_is_no_session(ask: Callable[[Silo], object], served: bool) -> None:
    silo, app = Silo(auto_cleanup=False), Flask("app")
    silo.init_app(app)
    silo.register("counter", dict)
    with app.app_context() if served else nullcontext(), pytest.raises(RuntimeError):
        ask(silo)


def test_a_view_has_its_session(in_a_view: Callable[[View, str], None], client: FlaskClient, silo: Silo) -> None:
    sid = client.post("/api/increment").headers[HEADER]

    def view() -> None:
        whole = silo.state()
        assert isinstance(whole, dict)
        assert whole["counter"] is silo.state("counter") is silo.state(namespace="counter")
        assert silo.state("counter") == {"value": 1}
        assert "_meta" in whole
        assert "typo" not in whole
        assert whole["_meta"] == whole.get("_meta")
        assert whole["_meta"].keys() >= {"created_at", "last_active", "sid"}
        assert whole["_meta"]["sid"] == silo.sid == sid
        assert g.silo["counter"] is silo.state("counter")
        with pytest.raises(KeyError, match="typo"):
            silo.state("typo")

    in_a_view(view, sid)


def test_a_client_has_its_own_session_by_header_or_query(client: FlaskClient) -> None:
    first = client.post("/api/increment")
    sid = first.headers["X-Session-ID"]
    assert len(sid) >= 16
    assert client.get("/api/count", headers={"X-Session-ID": sid}).json == {"value": 1}
    assert client.get(f"/api/count?_sid={sid}").json == {"value": 1}
    assert client.get("/api/count").json == {"value": 0}
    assert client.post("/api/increment").headers["X-Session-ID"] != sid
    assert "X-Session-ID" not in client.get("/page").headers


def test_where_data_is_needed_an_expired_session_is_gone(client: FlaskClient, silo: Silo, clock: Clock) -> None:
    silo.add_data_endpoints("/api/count")
    sid = client.post("/api/increment").headers[HEADER]
    clock.advance(TTL + 1)
    assert silo.store.cleanup() == [sid]
    gone = client.get("/api/count", headers=as_(sid))
    assert gone.status_code == 410
    assert gone.json is not None
    assert gone.json["error"] == "session_expired"
    assert "expired" in gone.json["message"].lower()
    again = client.post("/api/increment", headers=as_(sid))
    assert (again.status_code, again.headers[HEADER]) == (200, sid), "it begins again under its id"
    assert not silo.store.is_expired(sid)
    assert client.get("/api/count", headers=as_(sid)).json == {"value": 1}


def test_data_endpoints_may_be_given_as_a_set(clock: Clock) -> None:
    app = Flask("app")
    silo = Silo(app, ttl=int(TTL), data_endpoints={"/api/report"}, auto_cleanup=False, clock=clock)
    silo.register("data", dict)
    app.add_url_rule("/api/report", view_func=lambda: silo.state("data"))
    client = app.test_client()
    sid = client.get("/api/report").headers[HEADER]
    clock.advance(TTL + 1)
    assert client.get("/api/report", headers=as_(sid)).status_code == 410


def test_reset_current_clears_state_and_files(
    in_a_view: Callable[[View, str], None], client: FlaskClient, silo: Silo, tmp_path: Path
) -> None:
    files = silo.add_file_store("uploads", str(tmp_path))
    sid = client.post("/api/increment").headers[HEADER]
    files.save(sid, "a.txt", b"hello")

    def view() -> None:
        silo.reset_current()
        assert silo.state("counter") == {"value": 0}
        assert silo.sid == sid

    in_a_view(view, sid)
    assert files.get_path(sid, "a.txt") is None
    assert client.get("/api/count", headers=as_(sid)).json == {"value": 0}


def test_reset_current_of_a_busy_session_is_refused(
    in_a_view: Callable[[View, str], None], client: FlaskClient, silo: Silo
) -> None:
    silo.store.set_busy_check(lambda _sid, session: session["counter"]["value"] == 1)
    sid = client.post("/api/increment").headers[HEADER]
    with pytest.raises(SessionBusy):
        in_a_view(silo.reset_current, sid)
    assert client.get("/api/count", headers=as_(sid)).json == {"value": 1}


def test_files_go_with_an_expired_session(client: FlaskClient, silo: Silo, clock: Clock, tmp_path: Path) -> None:
    files = silo.add_file_store("uploads", str(tmp_path))
    sid = client.post("/api/increment").headers[HEADER]
    files.save(sid, "a.txt", b"hello")
    clock.advance(TTL + 1)
    silo.store.cleanup()
    assert files.get_path(sid, "a.txt") is None
