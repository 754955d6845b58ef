"""``max_sessions``: new clients get 503 once the limit is reached, and clients with a session go on."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo_helpers import HEADER, as_
from silo_store.testing import TTL, Clock
from store_urls import urls
from werkzeug.test import TestResponse

url = urls("memory://", "memory://?copy=1", "sqlite")


@pytest.fixture
def silo(url: str, clock: Clock, tmp_path: Any) -> Silo:
    silo = Silo(ttl=TTL, expired_retain=100, store_url=url, auto_cleanup=False, clock=clock, max_sessions=2)
    silo.register("counter", lambda: {"value": 0})
    silo.add_file_store("uploads", tmp_path / "uploads")
    return silo


def enter(client: FlaskClient) -> str:
    answer = client.post("/api/increment")
    assert answer.status_code == 200
    return answer.headers[HEADER]


def refused(answer: TestResponse) -> bool:
    if answer.status_code != 503:
        return False
    assert answer.get_json()["error"] == "too_many_sessions"
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Cache-Control"] == "no-store"
    return True


def test_a_newcomer_waits_outside_until_one_has_left(client: FlaskClient, silo: Silo, clock: Clock) -> None:
    first, second = enter(client), enter(client)
    assert refused(client.post("/api/increment"))
    assert refused(client.get("/api/count"))
    assert client.get("/page").status_code == 200
    for sid in (first, second):
        assert client.post("/api/increment", headers=as_(sid)).get_json()["value"] == 2
        assert client.get("/api/count", headers=as_(sid)).get_json() == {"value": 2}
    clock.advance(TTL / 2)
    client.get("/api/count", headers=as_(first))
    clock.advance(TTL / 2 + 1)
    third = enter(client)
    assert client.get("/api/count", headers=as_(third)).get_json() == {"value": 1}
    assert refused(client.post("/api/increment"))
    assert refused(client.post("/api/increment", headers=as_(second)))
    assert client.post("/api/increment", headers=as_(first)).get_json()["value"] == 3
    assert silo.store.active_count == 2


def test_a_file_of_a_newcomer_is_not_kept(client: FlaskClient, silo: Silo) -> None:
    enter(client)
    enter(client)
    assert refused(client.post("/api/upload", data={"file": (BytesIO(b"data"), "sales.csv")}))
    assert silo.file_store("uploads").total_size_bytes == 0


def test_the_limit_comes_from_the_config_and_holds_for_each_application(clock: Clock) -> None:
    silo = Silo(auto_cleanup=False, clock=clock)
    silo.register("counter", lambda: {"value": 0})
    assert silo.store.max_sessions is None
    apps = [Flask("one"), Flask("two")]
    for app in apps:
        app.config["SILO_MAX_SESSIONS"] = 1
    limits: list[int | None] = []
    for app in apps:
        silo.init_app(app)
        app.add_url_rule("/api/count", view_func=lambda: silo.state("counter"))
        client = app.test_client()
        assert client.get("/api/count").status_code == 200
        assert refused(client.get("/api/count"))
        with app.app_context():
            limits.append(silo.store.max_sessions)
    assert limits == [1, 1]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "10", True])
def test_a_limit_is_a_positive_whole_number(wrong: Any) -> None:
    with pytest.raises(ValueError, match="max_sessions must"):
        Silo(Flask("wrong"), max_sessions=wrong)
