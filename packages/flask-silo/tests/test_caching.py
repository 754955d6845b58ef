"""Response headers keep an id, and responses of its session, out of shared caches."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo_helpers import HEADER, as_, counter_app

PRIVATE: list[tuple[str | None, str]] = [
    (None, "no-store"),
    ("no-store", "no-store"),
    ("no-cache", "no-cache, private"),
    ("max-age=60", "max-age=60, private"),
    ("private, max-age=60", "private, max-age=60"),
    ('private="X-Session-ID", max-age=60', "private, max-age=60"),
]
SHARED: list[tuple[str | None, str]] = [
    ("public", "private"),
    ("Public, max-age=60", "max-age=60, private"),
    ("max-age=60, s-maxage=600", "max-age=60, private"),
    ("private, s-maxage=600", "private"),
    ("no-store, public", "no-store"),
    ("max-age=60, must-revalidate, public", "max-age=60, must-revalidate, private"),
]


@pytest.fixture
def silo() -> Silo:
    silo = Silo(auto_cleanup=False)
    silo.register("counter", lambda: {"value": 0})
    return silo


def serve(app: Flask, said: str | None, *, state: Any) -> None:
    @app.get("/api/page")
    def kept() -> Any:
        state()
        return "", 200, {"Cache-Control": said} if said is not None else {}


@pytest.mark.parametrize(("said", "sent"), PRIVATE)
def test_a_response_with_an_id_is_for_one_client(
    app: Flask, client: FlaskClient, silo: Silo, said: Any, sent: str
) -> None:
    serve(app, said, state=lambda: silo.state("counter"))
    answer = client.get("/api/page")
    assert answer.headers["Cache-Control"] == sent
    assert len(answer.headers[HEADER]) == 32
    assert answer.headers["Vary"] == HEADER
    assert "Referrer-Policy" not in answer.headers


@pytest.mark.parametrize(("said", "sent"), SHARED)
def test_a_response_for_shared_caches_carries_no_id(
    app: Flask, client: FlaskClient, silo: Silo, said: str, sent: str, caplog: pytest.LogCaptureFixture
) -> None:
    serve(app, said, state=lambda: silo.state("counter"))
    for _ in range(2):
        answer = client.get("/api/page")
        assert answer.headers.getlist("Cache-Control") == [sent]
        assert HEADER not in answer.headers
    assert len(caplog.messages) == 1, "once for each endpoint"
    assert "endpoint kept" in caplog.text


def test_the_path_of_a_url_without_a_view_is_not_logged(
    app: Flask, client: FlaskClient, silo: Silo, caplog: pytest.LogCaptureFixture
) -> None:
    """A client chooses it: it could hold lines of its own, and each path would be logged and remembered."""
    serve(app, None, state=lambda: silo.state("counter"))

    @app.errorhandler(404)
    def page(_: Exception) -> Any:
        return "", 404, {"Cache-Control": "public"}

    mine = {HEADER: client.get("/api/page").headers[HEADER]}
    for path in ("/api/none", "/api/other%0AERROR forged"):
        assert HEADER not in client.get(path, headers=mine).headers
    (said,) = caplog.messages
    assert said.startswith("a hook or an error handler allows shared caches")


def test_several_headers_count_as_one(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.get("/api/page")
    def kept() -> Any:
        silo.state("counter")
        return "", 200, [("Cache-Control", "max-age=60"), ("X-Other", "x"), ("Cache-Control", "s-maxage=60")]

    answer = client.get("/api/page")
    assert answer.headers.getlist("Cache-Control") == ["max-age=60, private"]
    assert answer.headers["X-Other"] == "x"


@pytest.mark.parametrize("said", [None, "public, max-age=60"])
def test_a_response_without_an_id_is_left_alone(
    app: Flask, client: FlaskClient, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    serve(app, said, state=lambda: None)
    answer = client.get("/api/page")
    assert answer.headers.get("Cache-Control") == said
    assert HEADER not in answer.headers
    assert answer.headers["Vary"] == HEADER
    assert caplog.messages == []


@pytest.mark.parametrize(("said", "sent"), PRIVATE + SHARED)
def test_what_an_id_in_the_url_is_answered_with_stays_with_its_client(
    app: Flask, client: FlaskClient, silo: Silo, said: Any, sent: str
) -> None:
    serve(app, said, state=lambda: None)
    for path in (f"/api/page?_sid={'a' * 32}", f"/api/page?x=1&_sid={'a' * 32}", f"/api/page?%5Fs%69d={'a' * 32}"):
        answer = client.get(path)
        assert answer.headers["Cache-Control"] == sent
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert HEADER not in answer.headers


@pytest.mark.parametrize(("path", "status"), [("/api/no/such", 404), ("/api/increment", 405)])
def test_errors_of_routing_too(silo: Silo, path: str, status: int) -> None:
    silo = Silo(auto_cleanup=False, accept_client_ids=True)  # with accept_client_ids every response carries an id
    silo.register("counter", lambda: {"value": 0})
    client = counter_app(silo).test_client()
    for headers in ({}, as_("a" * 32)):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (status, "no-store")
        assert HEADER in answer.headers


def test_what_the_application_says_of_referrers_stays(app: Flask, client: FlaskClient) -> None:
    @app.get("/api/page")
    def kept() -> Any:
        return "", 200, {"Referrer-Policy": "same-origin"}

    assert client.get(f"/api/page?_sid={'a' * 32}").headers.getlist("Referrer-Policy") == ["same-origin"]
