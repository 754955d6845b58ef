"""Streams on real servers: they stay open if threads are to spare, and never take the last thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from busy_app import application
from event_streams import Stream, ask
from server_fixtures import redis_server, redis_url
from servers import Gunicorn, until
from silo_store.testing import SID
from werkzeug.serving import make_server

__all__ = ["redis_server", "redis_url"]

pytestmark = pytest.mark.slow

LIMIT = 0.1
"""Seconds in which an ordinary request is answered while streams are open."""


def gunicorn(folder: Path, *args: str, **env: str) -> Gunicorn:
    if not hasattr(os, "fork"):
        pytest.skip("Gunicorn needs POSIX")
    here = Path(__file__).parent / "support"
    return Gunicorn("busy_app:application()", *args, folder=folder, cwd=here, env=env, path="/api/ordinary")


@contextmanager
def on_gunicorn(folder: Path, *args: str) -> Iterator[int]:
    with gunicorn(folder, *args) as server:
        yield server.port


@contextmanager
def on_gevent(folder: Path) -> Iterator[int]:
    pytest.importorskip("gevent")
    with gunicorn(folder, "-k=gevent") as server:
        yield server.port


GREENLETS = """
from gevent import monkey; monkey.patch_all()
from gevent.pywsgi import WSGIServer
from busy_app import application
server = WSGIServer(("127.0.0.1", 0), application(), log=None)
server.start()
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def on_pywsgi(folder: Path) -> Iterator[int]:
    pytest.importorskip("gevent")
    command = [sys.executable, "-c", GREENLETS]
    with subprocess.Popen(command, cwd=Path(__file__).parent / "support", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def on_waitress(folder: Path) -> Iterator[int]:
    waitress = pytest.importorskip("waitress")
    sockets: dict[int, Any] = {}
    server = waitress.create_server(application(), host="127.0.0.1", port=0, map=sockets)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.effective_port
    finally:
        left = list(sockets.values())
        sockets.clear()  # the loop of waitress ends when it has no sockets left
        server.pull_trigger()
        thread.join()
        server.task_dispatcher.shutdown()
        for each in left:
            each.close()


@contextmanager
def on_werkzeug(folder: Path, threaded: bool = True) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, application(), threaded=threaded)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(params=["sqlite", "redis"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'sessions.db'}"
    url: str = request.getfixturevalue("redis_url")
    return url


class Kind(NamedTuple):
    most: int
    """Return how many streams stay open."""
    serve: Callable[[Path], AbstractContextManager[int]]


SERVERS = {
    "gunicorn sync": Kind(0, on_gunicorn),
    "gunicorn gthread 1": Kind(0, lambda folder: on_gunicorn(folder, "-k=gthread", "--threads=1")),
    "gunicorn gthread 2": Kind(1, lambda folder: on_gunicorn(folder, "--threads=2")),
    "gunicorn gthread 16": Kind(8, lambda folder: on_gunicorn(folder, "--threads=16")),
    "gunicorn gevent": Kind(100, on_gevent),
    "gevent": Kind(100, on_pywsgi),
    "waitress": Kind(2, on_waitress),
    "werkzeug": Kind(100, on_werkzeug),
    "werkzeug, one thread": Kind(0, lambda folder: on_werkzeug(folder, threaded=False)),
}


@pytest.mark.parametrize("name", SERVERS)
def test_an_ordinary_request_is_answered_while_streams_are_open(name: str, tmp_path: Path) -> None:
    most, serve = SERVERS[name]
    with serve(tmp_path) as port, ExitStack() as stack:
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
