"""The endpoints of tasks: below each prefix, behind the application's own routes, after its hooks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, current_app, jsonify, request, url_for
from flask.cli import FlaskGroup
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo_helpers import HEADER, as_
from silo_store.testing import SID, TTL, Clock
from silo_tasks import track


class Shop:
    """An application with a task that waits for an event."""

    def __init__(self, url: str, clock: Clock, **settings: Any) -> None:
        self.clock = clock
        self.silo = Silo(ttl=TTL, store_url=url, auto_cleanup=False, clock=clock, accept_client_ids=True, **settings)
        self.leave = threading.Event()
        self.app = Flask("shop")

        @self.silo.task(name="count up")
        def count() -> None:
            for _ in track(iter(lambda: self.leave.wait(0.005), True)):
                pass

        @self.silo.task
        def other() -> None: ...

        @self.app.post("/api/start")
        def start() -> Any:
            count.start()
            return {}

    def ready(self) -> FlaskClient:
        self.silo.init_app(self.app)
        return self.app.test_client()


@pytest.fixture
def shop(url: str, clock: Clock) -> Iterator[Shop]:
    shop = Shop(url, clock)
    yield shop
    shop.leave.set()


def test_a_state_and_a_cancel(shop: Shop) -> None:
    client = shop.ready()
    idle = client.get("/api/tasks/count up", headers=as_(SID))
    assert (idle.json or {})["status"] == "idle"
    assert (idle.headers["Cache-Control"], idle.headers[HEADER]) == ("no-store", SID)
    assert client.delete("/api/tasks/count up", headers=as_(SID)).json == {"cancelled": False}
    assert shop.silo.store.active_count == 0, "looking begins no session"
    client.post("/api/start", headers=as_(SID))
    assert (client.get("/api/tasks/count%20up", headers=as_(SID)).json or {})["running"]
    assert not (client.get("/api/tasks/other", headers=as_(SID)).json or {})["running"]
    assert not (client.get("/api/tasks/count up", headers=as_("b" * 32)).json or {})["running"], "another client's"
    assert client.get(f"/api/tasks/count up?_sid={SID}").headers[HEADER] == SID
    assert client.delete("/api/tasks/count up", headers=as_(SID)).json == {"cancelled": True}
    while (state := client.get("/api/tasks/count up", headers=as_(SID)).json or {})["running"]:
        pass
    assert state["status"] == "cancelled"
    unknown = client.get("/api/tasks/unknown", headers=as_(SID))
    assert (unknown.status_code, (unknown.json or {})["error"]) == (404, "unknown_task")
    assert client.delete("/api/tasks/events").status_code == 404
    assert client.options("/api/tasks/other").headers["Allow"] == "DELETE, GET, HEAD, OPTIONS"
    assert client.options("/api/tasks/events").headers["Allow"] == "GET, HEAD, OPTIONS"
    assert client.post("/api/tasks/other").status_code == 404
    assert client.get("/api/tasks/").status_code == 404


@pytest.mark.parametrize("path", ["/api/tasks/other", "/api/tasks/events"])
def test_an_expired_client_is_told(shop: Shop, path: str) -> None:
    client = shop.ready()
    client.post("/api/start", headers=as_(SID))
    shop.leave.set()
    while (client.get("/api/tasks/count up", headers=as_(SID)).json or {})["running"]:
        pass
    shop.clock.advance(TTL + 1)
    gone = client.get(path, headers=as_(SID))
    assert (gone.status_code, (gone.json or {})["error"]) == (410, "session_expired")


def own(*args: Any, **kwargs: Any) -> Any:
    return {"own": True}


@pytest.mark.parametrize(
    "rule", ["/api/tasks/<id>", "/api/tasks/<int:id>", "/api/tasks/<path:id>", "/api/<path:rest>", "/<area>/tasks/<id>"]
)
@pytest.mark.parametrize("late", [False, True])
def test_a_route_of_the_application_wins(shop: Shop, rule: str, late: bool) -> None:
    client = shop.ready() if late else None
    shop.app.add_url_rule(rule, view_func=own)
    client = client or shop.ready()
    assert client.get("/api/tasks/7").json == {"own": True}
    assert client.delete("/api/tasks/7").status_code == 405
    if "int:" not in rule:
        assert client.get("/api/tasks/events").json == {"own": True}
        assert client.get("/api/tasks/other").json == {"own": True}


def test_a_route_of_a_blueprint_wins(shop: Shop) -> None:
    client = shop.ready()
    blueprint = Blueprint("tasks", __name__, url_prefix="/api/tasks")
    blueprint.add_url_rule("/<id>", view_func=own, methods=["DELETE"])
    shop.app.register_blueprint(blueprint)
    assert client.delete("/api/tasks/other").json == {"own": True}
    assert client.delete("/api/tasks/7").json == {"own": True}
    assert client.get("/api/tasks/7").status_code == 405
    assert (client.get("/api/tasks/other").json or {})["status"] == "idle", "a method that the application has not"
    assert client.get("/api/tasks/events").mimetype == "text/event-stream"


@pytest.mark.parametrize("rule", ["/<path:file>", "/<lang>/<path:file>"])
def test_what_takes_every_path_does_not_hide_them(shop: Shop, rule: str) -> None:
    """``Flask(static_url_path="")`` has such a route for the files of a page."""
    client = shop.ready()
    shop.app.add_url_rule(rule, view_func=own)
    assert client.get("/some/where").json == {"own": True}
    assert client.get("/api/tasks/7").json == {"own": True}
    assert (client.get("/api/tasks/other").json or {})["status"] == "idle"
    assert client.delete("/api/tasks/other").json == {"cancelled": False}
    assert client.get("/api/tasks/events").mimetype == "text/event-stream"


@pytest.mark.parametrize("early", [False, True])
def test_hooks_see_where_the_request_goes_and_may_refuse_it(shop: Shop, early: bool) -> None:
    """A login check that lets requests without an endpoint pass must not let these pass."""
    client = None if early else shop.ready()
    seen: list[Any] = []

    @shop.app.url_value_preprocessor
    def values(endpoint: str | None, values: dict[str, Any] | None) -> None:
        seen.append((endpoint, values))

    @shop.app.before_request
    def check() -> Any:
        if request.endpoint is None or request.headers.get("Authorization") == "yes":
            return None
        return {"login": "please"}, 401

    @shop.app.after_request
    def after(response: Response) -> Response:
        response.headers["X-After"] = request.endpoint or ""
        return response

    client = client or shop.ready()
    for method, path in (("GET", "other"), ("DELETE", "other"), ("GET", "events")):
        refused = client.open(f"/api/tasks/{path}", method=method)
        assert (refused.status_code, refused.json) == (401, {"login": "please"})
        allowed = client.open(f"/api/tasks/{path}", method=method, headers={"Authorization": "yes"})
        assert allowed.status_code == 200
        assert allowed.headers["X-After"].startswith("flask_silo:")
    assert seen[0] == ("flask_silo:task", {"name": "other"})
    assert seen[-1] == ("flask_silo:events", {})


def test_below_each_prefix_and_listed_among_the_routes(url: str, clock: Clock) -> None:
    shop = Shop(url, clock, api_prefix=("/api/", "/v2"))
    client = shop.ready()
    assert (client.get("/api/tasks/other").json or {})["status"] == "idle"
    assert (client.get("/v2/tasks/other").json or {})["status"] == "idle"
    with shop.app.test_request_context("/v2/tasks/events"):
        assert url_for("flask_silo:task", name="other") == "/api/tasks/other"
        assert url_for("flask_silo:events") == "/api/tasks/events"
    listed = shop.app.test_cli_runner().invoke(FlaskGroup(create_app=lambda: shop.app), ["routes"]).output
    assert [line.split()[-1] for line in listed.splitlines() if "flask_silo:events" in line] == [
        "/api/tasks/events",
        "/v2/tasks/events",
    ]


def test_they_can_be_switched_off_and_need_a_task(url: str, clock: Clock) -> None:
    shop = Shop(url, clock, task_endpoints=False)
    assert shop.ready().get("/api/tasks/other").status_code == 404
    by_config = Shop(url, clock)
    by_config.app.config["SILO_TASK_ENDPOINTS"] = False
    assert by_config.ready().get("/api/tasks/events").status_code == 404
    bare = Flask("bare")
    silo = Silo(bare, store_url=url, auto_cleanup=False)
    assert bare.test_client().get("/api/tasks/events").mimetype == "text/html"

    @silo.task
    def late() -> None: ...

    assert bare.test_client().get("/api/tasks/events").mimetype == "text/event-stream"


def test_each_application_of_a_silo_has_its_own(shop: Shop) -> None:
    first, second = shop.ready(), Flask("second")
    shop.silo.init_app(second)

    @second.before_request
    def named() -> Any:
        return jsonify(app=current_app.name)

    assert second.test_client().get("/api/tasks/other").json == {"app": "second"}
    assert (first.get("/api/tasks/other").json or {})["status"] == "idle"
