"""Applications with a Silo on a clock that tests move."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo_helpers import counter_app
from silo_store.testing import TTL, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory://", "memory://?copy=1"])
def url(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def silo(url: str, clock: Clock) -> Silo:
    # Most tests name their session themselves; test_identity.py has those of ids that the server issues.
    silo = Silo(ttl=TTL, expired_retain=100, store_url=url, auto_cleanup=False, clock=clock, accept_client_ids=True)
    silo.register("counter", lambda: {"value": 0})
    return silo


@pytest.fixture
def app(silo: Silo) -> Flask:
    return counter_app(silo)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
