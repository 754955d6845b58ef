"""An application whose sessions have ids that the server issues, on a store of each kind."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, g
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo_helpers import HEADER, counter_app
from silo_store.testing import TTL, Clock
from store_urls import urls

RETAIN = 100


SHARED = ["sqlite", pytest.param("redis", marks=pytest.mark.slow)]
"""Where several processes find the same sessions."""


url = urls("memory://", "memory://?copy=1", *SHARED)


@pytest.fixture
def silo(url: str, clock: Clock) -> Silo:
    return make(url, clock)


def make(url: str, clock: Clock, **options: Any) -> Silo:
    silo = Silo(
        ttl=TTL, expired_retain=RETAIN, store_url=url, auto_cleanup=False, clock=clock, touch_interval=0.0, **options
    )
    silo.register("counter", lambda: {"value": 0})
    silo.add_data_endpoints("/api/report")
    return silo


@pytest.fixture
def app(silo: Silo) -> Flask:
    return with_views(silo)


def with_views(silo: Silo) -> Flask:
    app = counter_app(silo)

    @app.route("/api/report", methods=["GET", "POST"])
    def report() -> Any:
        return dict(silo.state("counter"))

    @app.get("/api/mine")
    @silo.requires_session
    def mine() -> Any:
        return dict(silo.state("counter"))

    @app.route("/api/sid", methods=["GET", "POST"])
    def sid() -> Any:
        return {"sid": silo.sid, "g": g.silo_sid, "get": g.get("silo_sid")}

    @app.post("/api/rotate")
    def rotate() -> Any:
        return {"sid": silo.rotate()}

    @silo.task
    def work() -> None:
        pass

    return app


def begin(client: FlaskClient) -> str:
    answer = client.post("/api/increment")
    assert answer.status_code == 200
    sid = answer.headers[HEADER]
    assert (answer.json or {})["sid"] == sid
    return sid
