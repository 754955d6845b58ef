"""Applications with a Silo on a clock that tests move."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo
from silo_store.testing import TTL, Clock

# For an unpacked sdist, which does not have the workspace's settings.
sys.path.insert(0, str(Path(__file__).with_name("support")))

from flask_silo_helpers import counter_app
from store_urls import urls

if find_spec("servers") is None:  # in an sdist that was not built for a release: they belong to silo-store's tests
    needs_servers = re.compile(r"^from (app_servers|links|servers|server_fixtures) import", re.MULTILINE)
    tests = Path(__file__).parent.glob("test_*.py")
    collect_ignore = [path.name for path in tests if needs_servers.search(path.read_text("utf-8"))]

    def pytest_report_header() -> str:
        return f"left out, as there is no module servers: {', '.join(collect_ignore)}"


def pytest_configure(config: pytest.Config) -> None:
    """Set what the workspace's settings set, which an unpacked sdist does not have."""
    config.addinivalue_line("markers", "slow: starts processes or servers, or takes more than a second")
    config.addinivalue_line("filterwarnings", "error")
    if not config.getini("timeout"):
        config.option.timeout = config.option.timeout or 120


@pytest.fixture
def clock() -> Clock:
    return Clock()


url = urls("memory://", "memory://?copy=1")


@pytest.fixture
def silo(url: str, clock: Clock) -> Silo:
    # Most tests choose the session id; test_identity.py tests ids that the server issues.
    silo = Silo(ttl=TTL, expired_retain=100, store_url=url, auto_cleanup=False, clock=clock, accept_client_ids=True)
    silo.register("counter", lambda: {"value": 0})
    return silo


@pytest.fixture
def app(silo: Silo) -> Flask:
    return counter_app(silo)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
