"""A server with several worker processes, and sessions that are not shared."""

from __future__ import annotations

import http.client
import logging
from pathlib import Path

import pytest
from flask import Flask
from flask_silo import Silo
from flask_silo import deployment as workers
from flask_silo_helpers import counter_app
from servers import Gunicorn, until

pytestmark = pytest.mark.slow

SEVERAL = {"wsgi.multiprocess": True}


@pytest.fixture(autouse=True)
def _not_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_warned_in", 0)


def application(**options: object) -> Flask:
    silo = Silo(auto_cleanup=False, **options)  # type: ignore[arg-type]
    silo.register("counter", lambda: {"value": 0})
    return counter_app(silo)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize("options", [{}, {"store_url": "memory://?copy=1"}])
def test_several_workers_are_warned_of_once(options: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    one, two = application(**options), application(**options)
    for app in (one, two, one):
        assert app.test_client().post("/api/increment", environ_overrides=SEVERAL).status_code == 200
    (warning,) = warnings(caplog)
    assert caplog.records[-1].name == "flask_silo"
    assert "each of them keeps sessions of its own" in warning
    assert "gunicorn --workers 1 --threads" in warning
    assert "SILO_STORE_URL" in warning


def test_one_worker_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    application().test_client().post("/api/increment")
    assert warnings(caplog) == []


def test_workers_that_share_sessions_are_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = application(store_url=f"sqlite:///{tmp_path}/sessions.db")
    assert app.test_client().post("/api/increment", environ_overrides=SEVERAL).status_code == 200
    assert warnings(caplog) == []


def test_requests_without_a_session_warn_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    application().test_client().get("/page", environ_overrides=SEVERAL)
    assert warnings(caplog) == []


@pytest.mark.parametrize("preload", [[], ["--preload"]])
@pytest.mark.parametrize(("number", "url"), [(1, "memory://"), (2, "memory://"), (2, "sqlite:///{}/sessions.db")])
def test_each_worker_of_gunicorn_warns_once(tmp_path: Path, number: int, url: str, preload: list[str]) -> None:
    (tmp_path / "hello.py").write_text(
        "import logging, os\n"
        "from flask import Flask\n"
        "from flask_silo import Silo\n"
        "logging.basicConfig(format='%(levelname)s %(name)s %(process)d %(message)s')\n"
        "app = Flask(__name__)\n"
        f"silo = Silo(app, store_url={url.format(tmp_path)!r})\n"
        "silo.register('counter', dict)\n"
        "@app.post('/api/worker')\n"
        "def worker():\n"
        "    silo.state('counter')\n"
        "    return {'pid': os.getpid()}\n"
    )
    with Gunicorn("hello:app", f"--workers={number}", *preload, folder=tmp_path) as server:
        seen: set[bytes] = set()

        def all_seen() -> bool:
            for _ in range(10):
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
                connection.request("POST", "/api/worker")
                answer = connection.getresponse()
                assert answer.status == 200
                seen.add(answer.read())
                connection.close()
            return len(seen) == number

        until(all_seen, "a worker answers nothing")
        log = server.log()
    warned = [line.split()[2] for line in log.splitlines() if line.startswith("WARNING flask_silo ")]
    expected = number if number > 1 and url == "memory://" else 0
    assert len(warned) == len(set(warned)) == expected, log
