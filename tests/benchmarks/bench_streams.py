"""Measures what open event streams cost a server, beside generators that only sleep.

Run with ``uv run python tests/benchmarks/bench_streams.py [case ...]``, a case being for example ``"idle memory 1"``.
Each of 100 threads answers one request, as a threaded server does; the clients come one after the other. Figures are
CPU time of the process, medians of alternating rounds with their middle half. A ratio is ours over 100 threads in
which a bare generator sleeps for the same time between two chunks; in a busy case, the runs go on beside both.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from flask import Flask
from flask_silo import Silo, track
from pairs import ratio, row
from silo_tasks import ThreadRunner
from werkzeug.test import EnvironBuilder

STREAMS = 100
LOOK = 0.25
WARM_UP = 0.5
WINDOW = 2.0
ROUNDS = 9
CHUNK = b"id: 1.abcdefghijkl\nevent: task\ndata: " + b"x" * 500 + b"\n\n"


class Served:
    """An application whose streams this process answers, and the runs that they show.

    Args:
        url: The store of the sessions.
        sessions: The number of sessions; the streams are spread over them.
        busy: Whether the progress of a run changes all the time.
    """

    def __init__(self, url: str, sessions: int, busy: bool) -> None:
        app = Flask("streams")
        silo = Silo(app, store_url=url, auto_cleanup=False, accept_client_ids=True)
        self._end = threading.Event()

        @silo.task
        def work() -> None:
            if not busy:
                self._end.wait()
                return
            for _ in track(count()):
                if self._end.wait(0.8 * LOOK):
                    return

        work._options["runner"] = self._runner = ThreadRunner(workers=sessions)

        @app.post("/api/start")
        def start() -> dict[str, Any]:
            work.start()
            return {}

        self._app = app
        self._sids = [f"{number:032x}" for number in range(sessions)]
        for sid in self._sids:
            assert app.test_client().post("/api/start", headers={"X-Session-ID": sid}).status_code == 200

    def stream(self, number: int, connection: socket.socket) -> Iterator[bytes]:
        """Return the response to a client that asks for its events."""
        sid = self._sids[number % len(self._sids)]
        environ = EnvironBuilder(path="/api/tasks/events", query_string={"_sid": sid}).get_environ()
        environ |= {"wsgi.multithread": True, "SERVER_SOFTWARE": "Werkzeug/3", "werkzeug.socket": connection}

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
            assert status.startswith("200"), status

        chunks: Any = self._app.wsgi_app(environ, start_response)
        return chunks  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the runs."""
        self._end.set()
        self._runner.shutdown()


def bare(_number: int, _connection: socket.socket) -> Iterator[bytes]:
    """Yield a chunk at intervals."""
    while True:
        yield CHUNK
        time.sleep(LOOK)


def cpu(stream: Callable[[int, socket.socket], Iterator[bytes]]) -> float:
    """Return the CPU seconds of this process in a window in which all streams are open."""
    clients, over = [], threading.Event()

    def serve(number: int, connection: socket.socket) -> None:
        chunks = stream(number, connection)
        for _ in chunks:
            if over.is_set():
                break
        chunks.close()  # type: ignore[attr-defined]

    threads = []
    for number in range(STREAMS):
        client, connection = socket.socketpair()
        clients += [client, connection]
        threads.append(threading.Thread(target=serve, args=(number, connection)))
        threads[-1].start()
        time.sleep(LOOK / STREAMS)  # as clients come: not all at once
    time.sleep(WARM_UP)
    before = time.process_time()
    time.sleep(WINDOW)
    taken = time.process_time() - before
    over.set()
    for client in clients[::2]:
        client.close()
    for thread in threads:
        thread.join()
    for connection in clients[1::2]:
        connection.close()
    return taken


def case(name: str, url: str, sessions: int, busy: bool) -> None:
    """Print the row of one case."""
    served = Served(url, sessions, busy)
    ours, floor = [], []
    try:
        for _ in range(ROUNDS):
            floor.append(cpu(bare))
            ours.append(cpu(served.stream))
    finally:
        served.close()
    goal = "-" if sessions > 1 else "1.5x" if busy else "1.2x"
    looks = STREAMS * WINDOW / LOOK
    row(f"100 streams, {name} / bare generator, each look", ratio(ours, floor, looks / 1e6), goal)


def main() -> None:
    """Measure the named cases, or all, and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        urls = {"memory": "memory://", "sqlite": f"sqlite:///{Path(folder)}/sessions.db"}
        cases = {
            f"{kind} {store} {sessions}": (f"{kind}, {store}, sessions: {sessions}", url, sessions, kind == "busy")
            for store, url in urls.items()
            for sessions in (1, STREAMS)
            for kind in ("idle", "busy")
        }
        for name, arguments in cases.items():
            if not sys.argv[1:] or name in sys.argv[1:]:
                case(*arguments)


if __name__ == "__main__":
    main()
