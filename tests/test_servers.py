"""Gunicorn serves and ends under the helper that other tests start it with."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from urllib.request import urlopen

import pytest
from servers import Gunicorn, until

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="Gunicorn needs POSIX"), pytest.mark.slow]

APP = """
import os
from flask import Flask
app = Flask(__name__)
app.get("/")(lambda: str(os.getpid()) + os.environ.get("GREETING", ""))
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "tiny.py").write_text(APP)
    return tmp_path


def test_gunicorn_serves_with_two_workers(code: Path, tmp_path: Path) -> None:
    with Gunicorn("tiny:app", "--workers=2", folder=tmp_path / "log", cwd=code, env={"GREETING": "!"}) as server:
        until(lambda: len(server.worker_pids()) == 2, "the second worker does not start")
        workers = server.worker_pids()
        with urlopen(server.url) as answer:
            assert answer.read().decode() in [f"{pid}!" for pid in workers]
        os.kill(workers[0], signal.SIGKILL)
        until(lambda: len(set(server.worker_pids()) - {workers[0]}) == 2, "no worker takes the place of the killed one")
        with urlopen(server.url) as answer:
            assert answer.status == 200
        assert not server.gone
        server.stop()
        assert "Shutting down: Master" in server.log()
    assert not server.running
    assert server.gone
    assert server.worker_pids() == []


def test_a_killed_gunicorn_leaves_no_worker(code: Path) -> None:
    with Gunicorn("tiny:app", "--workers=2", folder=code) as server:
        pass
    assert server.gone
    server.kill()


def test_what_keeps_gunicorn_from_starting_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No module named 'nothing'"):
        Gunicorn("nothing:app", folder=tmp_path)
