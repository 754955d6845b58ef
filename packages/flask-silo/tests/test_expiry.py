"""The answers to a client whose session has expired."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Blueprint, Flask, jsonify
from flask.testing import FlaskClient
from flask_silo import Silo, SiloError
from flask_silo_helpers import HEADER, as_
from silo_store.testing import SID, TTL, Clock


@pytest.fixture
def reports(app: Flask, silo: Silo) -> Flask:
    blueprint = Blueprint("reports", __name__)

    @blueprint.get("/api/reports/<int:number>")
    def show(number: int) -> Any:
        return {"number": number}

    @blueprint.get("/api/reports/<int:number>/pages")
    def pages(number: int) -> Any:
        return {"number": number}

    app.register_blueprint(blueprint)
    return app


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("/api/reports/7", ["/api/reports/7"]),
        ("/api/reports/*", ["/api/reports/7", "/api/reports/8", "/api/reports/7/pages"]),
        ("/api/reports/?", ["/api/reports/7", "/api/reports/8"]),
        ("/api/reports/<int:number>", ["/api/reports/7", "/api/reports/8"]),
        ("reports.show", ["/api/reports/7", "/api/reports/8"]),
        ("reports.*", ["/api/reports/7", "/api/reports/8", "/api/reports/7/pages"]),
    ],
)
def test_data_endpoints_answer_410(
    reports: Flask, client: FlaskClient, silo: Silo, clock: Clock, name: str, gone: list[str]
) -> None:
    silo.add_data_endpoints(name)
    paths = ["/api/reports/7", "/api/reports/8", "/api/reports/7/pages", "/api/idle"]
    assert [path for path in paths if client.get(path, headers=as_(SID)).status_code == 410] == []
    client.post("/api/increment", headers=as_(SID))
    assert [path for path in paths if client.get(path, headers=as_(SID)).status_code == 410] == []
    clock.advance(TTL + 0.001)
    assert [path for path in paths if client.get(path, headers=as_(SID)).status_code == 410] == gone


@pytest.mark.parametrize("early", [True, False], ids=["added first", "added later"])
def test_a_hook_answers_before_a_data_endpoint_if_it_is_older_than_silo(clock: Clock, early: bool) -> None:
    silo = Silo(ttl=TTL, auto_cleanup=False, clock=clock)
    app = Flask("app")
    called: list[str] = []
    app.before_request(lambda: called.append("older"))
    if early:
        silo.add_data_endpoints("/api/report")
    silo.init_app(app)
    app.before_request(lambda: called.append("newer"))
    if not early:
        silo.add_data_endpoints("/api/report")
    app.add_url_rule("/api/report", view_func=dict)

    assert app.test_client().get("/api/report", headers=as_(SID)).status_code == 410
    assert called == ["older"]


def test_the_answer_names_the_error_and_gives_no_id(client: FlaskClient, silo: Silo, clock: Clock) -> None:
    silo.add_data_endpoints("/api/count")
    client.post("/api/increment", headers=as_(SID))
    clock.advance(TTL + 1)
    answer = client.get("/api/count", headers={**as_(SID), "Origin": "http://other.example"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (410, "no-store")
    assert (answer.json or {})["error"] == "session_expired"
    assert (answer.json or {})["message"]
    assert HEADER not in answer.headers
    assert answer.headers["Vary"] == HEADER
    assert SID not in answer.text


def test_at_other_endpoints_the_session_begins_again_under_its_id(
    client: FlaskClient, silo: Silo, clock: Clock
) -> None:
    silo.add_data_endpoints("/api/count")
    client.post("/api/increment", headers=as_(SID))
    clock.advance(TTL + 1)
    silo.store.cleanup()
    assert client.get("/api/count", headers=as_(SID)).status_code == 410
    again = client.post("/api/increment", headers=as_(SID))
    assert again.json == {"value": 1, "sid": SID}
    assert client.get("/api/count", headers=as_(SID)).json == {"value": 1}


def test_what_is_long_forgotten_begins_again(client: FlaskClient, silo: Silo, clock: Clock) -> None:
    silo.add_data_endpoints("/api/count")
    client.post("/api/increment", headers=as_(SID))
    clock.advance(TTL + 1)
    assert client.get("/api/count", headers=as_(SID)).status_code == 410
    clock.advance(101)
    assert client.get("/api/count", headers=as_(SID)).json == {"value": 0}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_requires_session_marks_one_view(
    app: Flask, client: FlaskClient, silo: Silo, clock: Clock, asynchronous: bool
) -> None:
    if asynchronous:

        @app.get("/api/result")
        @silo.requires_session
        async def result() -> Any:
            return jsonify(silo.state("counter"))
    else:

        @app.get("/api/result", endpoint="result")
        @silo.requires_session
        def plain() -> Any:
            return jsonify(silo.state("counter"))

    assert client.get("/api/result", headers=as_(SID)).json == {"value": 0}
    clock.advance(TTL + 1)
    answer = client.get("/api/result", headers=as_(SID))
    assert (answer.status_code, (answer.json or {})["error"]) == (410, "session_expired")
    assert client.get("/api/idle", headers=as_(SID)).status_code == 200
    assert client.get("/api/result", headers=as_(SID)).status_code == 410, "idling has begun nothing"
    client.post("/api/increment", headers=as_(SID))
    assert client.get("/api/result", headers=as_(SID)).json == {"value": 1}


def test_an_application_may_answer_in_its_own_words(app: Flask, client: FlaskClient, silo: Silo, clock: Clock) -> None:
    @app.get("/api/own")
    @silo.requires_session
    def own() -> Any:
        return {}

    from flask_silo import SessionExpired

    @app.errorhandler(SessionExpired)
    def handle(error: SiloError) -> Any:
        return "gone", 418

    client.post("/api/increment", headers=as_(SID))
    clock.advance(TTL + 1)
    assert client.get("/api/own", headers=as_(SID)).status_code == 418


def test_a_thread_sweeps_from_the_first_request_on(clock: Clock) -> None:
    swept = threading.Event()
    silo = Silo(ttl=TTL, cleanup_interval=0.001, clock=clock)
    silo.register("counter", dict)
    silo.store.on_expire(lambda sid: swept.set())
    app = Flask(__name__)
    silo.init_app(app)
    assert not silo.binding.daemon.running

    @app.get("/api/count")
    def count() -> Any:
        return silo.state("counter")

    app.test_client().get("/api/count")
    clock.advance(TTL + 1)
    try:
        assert swept.wait(30)
        assert silo.binding.daemon.running
    finally:
        silo.stop()
    assert not silo.binding.daemon.running
