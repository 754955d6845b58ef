"""Serves an application of this folder on each kind of server, on a free port of this machine."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import Gunicorn
from serving import served

HERE = Path(__file__).parent

Serve = Callable[[str, Path], AbstractContextManager[int]]
"""Serves an application, given its module and a folder for logs, and yields the port. The module has ``application()``;
its settings come from the environment, because some of the servers are processes of their own."""


def make(module: str) -> Any:
    """Return the application of a module of this folder."""
    return importlib.import_module(module).application()


def on_gunicorn(*args: str) -> Serve:
    """Return how to serve with a Gunicorn of these arguments."""

    @contextmanager
    def serve(module: str, folder: Path) -> Iterator[int]:
        if not hasattr(os, "fork"):
            pytest.skip("Gunicorn needs POSIX")
        if any("gevent" in arg for arg in args):
            pytest.importorskip("gevent")
        with Gunicorn(f"{module}:application()", *args, folder=folder, cwd=HERE, path="/api/none") as server:
            yield server.port

    return serve


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import importlib, sys
from gevent.pywsgi import WSGIServer
application = importlib.import_module(sys.argv[1]).application()
server = WSGIServer(("127.0.0.1", 0), application, log=None)
server.start()
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def on_pywsgi(module: str, folder: Path) -> Iterator[int]:
    """Serve with the server of gevent."""
    pytest.importorskip("gevent")
    command = [sys.executable, "-c", GREENLETS, module]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def on_waitress(module: str, folder: Path) -> Iterator[int]:
    """Serve with Waitress."""
    waitress = pytest.importorskip("waitress")
    sockets: dict[int, Any] = {}
    server = waitress.create_server(make(module), host="127.0.0.1", port=0, map=sockets)
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
def on_werkzeug(module: str, folder: Path, threaded: bool = True) -> Iterator[int]:
    """Serve with the development server."""
    with served(make(module), threaded=threaded) as port:
        yield port


SERVERS: dict[str, Serve] = {
    "gunicorn sync": on_gunicorn("-k=sync"),
    "gunicorn gthread": on_gunicorn("-k=gthread", "--threads=4"),
    "gunicorn gevent": on_gunicorn("-k=gevent"),
    "gevent": on_pywsgi,
    "waitress": on_waitress,
    "werkzeug": on_werkzeug,
}
"""How to serve on each kind of server."""
