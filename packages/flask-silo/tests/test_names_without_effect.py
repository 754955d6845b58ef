"""The log warns of a mistyped setting or data endpoint, with the name that may have been meant."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask_silo import Silo


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS", "SILO_STORE_URL"):
        monkeypatch.delenv(name, raising=False)


def made(silo: Silo | None = None, config: dict[str, Any] | None = None) -> Flask:
    app = Flask("doubtful", static_folder=None)
    app.config.update(config or {})
    reports = Blueprint("reports", __name__, url_prefix="/api/reports")
    reports.add_url_rule("/<int:number>", "show", view_func=lambda number: {})
    reports.add_url_rule("/<int:number>/pages/<path:page>", "page", view_func=lambda number, page: {})
    app.register_blueprint(reports)
    app.add_url_rule("/api/type", "kind", view_func=dict)
    app.add_url_rule("/report", "outside", view_func=dict)
    (silo or Silo(auto_cleanup=False)).init_app(app)
    return app


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return found


def doctor(app: Flask) -> list[str]:
    found = json.loads(app.test_cli_runner().invoke(args=["silo", "doctor", "--json"]).output)["findings"]
    return [each["message"] for each in found if (each["level"], each["topic"]) == ("warning", "names")]


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("SILO_TLL", "did you mean SILO_TTL?"),
        ("SILO_STORE", "did you mean SILO_STORE_URL?"),
        ("SILO_DATABASE", "the guide lists the settings"),
    ],
)
def test_an_unknown_setting_in_the_config_is_logged_when_the_application_is_made(
    key: str, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = made(config={key: 5, "SILO_TOUCH_INTERVAL": 0, "OTHER_TLL": 5})
    message = f"{key} in the application's config is not a setting of flask-silo and has no effect: {advice}"
    assert logged(caplog) == [message]
    assert app.test_client().get("/api/type").status_code == 200
    assert logged(caplog) == [], "once"
    assert doctor(app) == [message]


def test_an_unknown_setting_in_the_environment_is_logged_if_it_is_like_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Kubernetes sets such variables for a service named "silo".
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR", "PORT_80_TCP_PROTO"):
        monkeypatch.setenv(f"SILO_{name}", "x")
    app = made()
    assert logged(caplog) == []
    assert doctor(app) == []
    monkeypatch.setenv("SILO_MAX_SESSION", "5")
    app = made()
    message = (
        "SILO_MAX_SESSION in the environment is not a setting of flask-silo and has no effect: "
        "did you mean SILO_MAX_SESSIONS?"
    )
    assert logged(caplog) == [message]
    assert doctor(app) == [message]


def test_a_setting_that_comes_too_late_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = made(config={"SILO_TOUCH_INTERVAL": 0})
    app.config.update(SILO_TTL=5, SILO_TOUCH_INTERVAL=0, SILO_EXPIRED_RETAIN=7200, SILO_HEADR="X-Mine")
    late = (
        "SILO_TTL was put into the application's config after the application was given to Silo, and has no effect: "
        "set it before Silo(app) or init_app(app)"
    )
    unknown = (
        "SILO_HEADR in the application's config is not a setting of flask-silo and has no effect: "
        "did you mean SILO_HEADER?"
    )
    assert doctor(app) == [unknown, late]
    for expected in ([unknown, late], []):
        app.test_client().get("/api/type")
        assert logged(caplog) == expected


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("/api/typo", "did you mean '/api/type'?"),
        ("/api/type/", "did you mean '/api/type'?"),
        ("report.show", "did you mean 'reports.show'?"),
        ("/api/reports/<int:nr>", "did you mean '/api/reports/<int:number>'?"),
        ("/api/report/*", "did you mean '/api/reports/<int:number>'?"),
        ("billing.*", "'flask routes' lists them"),
    ],
)
def test_a_data_endpoint_that_is_nowhere_is_logged_at_the_first_request(
    name: str, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    silo = Silo(auto_cleanup=False)
    silo.add_data_endpoints(name)
    message = f"data endpoint {name!r} matches no path, URL rule or endpoint of the application: {advice}"
    app = made(silo)
    assert logged(caplog) == [], "routes may be registered after it"
    assert doctor(app) == [message]
    for expected in ([message], []):
        app.test_client().get("/api/type")
        assert logged(caplog) == expected
    app = made(config={"SILO_DATA_ENDPOINTS": [name]})
    assert doctor(app) == [message]


@pytest.mark.parametrize(
    "name",
    [
        "/api/type",
        "kind",
        "k*d",
        "reports.*",
        "reports.show",
        "/api/reports/<int:number>",
        "/api/reports/5",
        "/api/reports/5/pages/a/b",
        "/api/reports/*",
        "/api/reports/*/pages/*",
        "/api/*/7",
        "/api/reports/5*",
        "/api/?ype",
        "*",
    ],
)
def test_a_data_endpoint_that_a_request_can_have_is_none(name: str) -> None:
    silo = Silo(auto_cleanup=False)
    silo.add_data_endpoints(name)
    assert doctor(made(silo)) == []


@pytest.mark.parametrize("name", ["/report", "outside"])
def test_a_data_endpoint_without_sessions_is_logged(name: str) -> None:
    silo = Silo(auto_cleanup=False)
    silo.add_data_endpoints(name)
    message = f"data endpoint {name!r} is not below /api/ (SILO_API_PREFIX): requests there have no session"
    assert doctor(made(silo)) == [message]


def test_a_data_endpoint_may_be_of_another_application_of_the_silo() -> None:
    silo = Silo(auto_cleanup=False)
    silo.add_data_endpoints("/api/elsewhere", "/api/nowhere")
    first, second = made(silo), made(silo)
    second.add_url_rule("/api/elsewhere", "elsewhere", view_func=dict)
    for app in (first, second):
        (message,) = doctor(app)
        assert "'/api/nowhere'" in message


def test_a_route_that_takes_every_path_hides_no_mistake() -> None:
    silo = Silo(auto_cleanup=False)
    silo.add_data_endpoints("/api/typo", "page", "/<path:file>", "/api/type")
    app = made(silo)
    app.add_url_rule("/<path:file>", "page", view_func=lambda file: {})
    (message,) = doctor(app)
    assert message.startswith("data endpoint '/api/typo' ")
