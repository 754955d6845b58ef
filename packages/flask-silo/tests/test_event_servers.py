"""Streams on real servers: they stay open if threads are to spare, and never take the last thread."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from app_servers import HERE, Serve, on_gunicorn, on_pywsgi, on_waitress, on_werkzeug
from event_streams import Stream, ask
from server_fixtures import redis_server, redis_url
from servers import Gunicorn, until
from silo_store.testing import SID

__all__ = ["redis_server", "redis_url"]

pytestmark = pytest.mark.slow

LIMIT = 0.1
"""Seconds in which an ordinary request is answered while streams are open."""


def gunicorn(folder: Path, *args: str, **env: str) -> Gunicorn:
    if not hasattr(os, "fork"):
        pytest.skip("Gunicorn needs POSIX")
    return Gunicorn("busy_app:application()", *args, folder=folder, cwd=HERE, env=env, path="/api/ordinary")


@pytest.fixture(params=["sqlite", "redis"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'sessions.db'}"
    url: str = request.getfixturevalue("redis_url")
    return url


class Kind(NamedTuple):
    most: int
    """Return how many streams stay open."""
    serve: Serve


SERVERS = {
    "gunicorn sync": Kind(0, on_gunicorn()),
    "gunicorn gthread 1": Kind(0, on_gunicorn("-k=gthread", "--threads=1")),
    "gunicorn gthread 2": Kind(1, on_gunicorn("--threads=2")),
    "gunicorn gthread 16": Kind(8, on_gunicorn("--threads=16")),
    "gunicorn gevent": Kind(100, on_gunicorn("-k=gevent")),
    "gevent": Kind(100, on_pywsgi),
    "waitress": Kind(2, on_waitress),
    "werkzeug": Kind(100, on_werkzeug),
    "werkzeug, one thread": Kind(0, partial(on_werkzeug, threaded=False)),
}


@pytest.mark.parametrize("name", SERVERS)
def test_an_ordinary_request_is_answered_while_streams_are_open(name: str, tmp_path: Path) -> None:
    most, serve = SERVERS[name]
    with serve("busy_app", tmp_path) as port, ExitStack() as stack:
        ask(port, "POST", "/api/start/quiet", SID)
        streams = [stack.enter_context(closing(Stream(port, SID))) for _ in range(most)]
        assert all(each.stays for each in streams)
        for _ in range(3):
            with closing(Stream(port, SID)) as short:
                assert not short.stays
                assert [state["running"] for state in short.rest()] == [True], "it says what there is, and ends"
        times = []
        for _ in range(10):
            began = time.monotonic()
            ask(port, "GET", "/api/ordinary", SID)
            times.append(time.monotonic() - began)
        assert min(times) < LIMIT
        for gone in streams[: most // 2]:
            gone.close()
        if most > 1 and name != "gevent":  # it does not expose the socket, so only the next event finds out
            until(lambda: stays(port), "a client that has gone keeps its place")
        assert ask(port, "DELETE", "/api/tasks/quiet", SID) == {"cancelled": True}
        for each in streams[most // 2 :]:
            assert each.rest()[-1]["status"] == "cancelled"
        until(lambda: not ask(port, "GET", "/api/tasks/quiet", SID)["running"], "the task goes on")
        with closing(Stream(port, SID)) as left:
            assert [state["status"] for state in left.rest()] == ["cancelled"]
        with closing(Stream(port, SID, left.last)) as nothing:
            assert nothing.answer.status == 204


def stays(port: int) -> bool:
    with closing(Stream(port, SID)) as stream:
        return stream.stays


def test_a_stopping_gunicorn_does_not_wait_for_streams(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "--threads=4", "--graceful-timeout=300") as server:
        ask(server.port, "POST", "/api/start/quiet", SID)
        with closing(Stream(server.port, SID)) as stream:
            assert stream.stays
            os.kill(server.worker_pids()[0], signal.SIGTERM)
            stream.rest()  # to its end: a connection that is cut raises


def test_what_is_asked_for_leaves_a_thread_to_others(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "--threads=3", BUSY_SILO_MAX_STREAMS="50") as server, ExitStack() as stack:
        ask(server.port, "POST", "/api/start/quiet", SID)
        streams = [stack.enter_context(closing(Stream(server.port, SID))) for _ in range(4)]
        assert [each.stays for each in streams] == [True, True, False, False]
        ask(server.port, "GET", "/api/ordinary", SID)


def test_a_stream_goes_on_in_another_process(shared_url: str, tmp_path: Path) -> None:
    def start(name: str) -> Gunicorn:
        return gunicorn(tmp_path / name, "--threads=4", BUSY_SILO_STORE_URL=shared_url)

    with start("one") as one, start("two") as two:
        ask(one.port, "POST", "/api/start/work", SID)
        with closing(Stream(two.port, SID)) as stream:
            first = stream.until(status="running")
        with closing(Stream(one.port, SID, stream.last)) as stream:
            assert next(stream.states())["n"] > first["n"]
        with closing(Stream(two.port, SID, stream.last)) as stream:
            assert ask(two.port, "DELETE", "/api/tasks/work", SID) == {"cancelled": True}
            stream.until(status="cancelled")
            assert stream.rest() == []
        for server in (one, two):
            with closing(Stream(server.port, SID, stream.last)) as nothing:
                assert nothing.answer.status == 204
