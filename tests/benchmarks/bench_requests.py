"""Measures what Silo adds to a Flask request.

Run with ``uv run python tests/benchmarks/bench_requests.py``. A request calls ``app.wsgi_app``; figures are CPU time.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

from flask import Flask
from flask_silo import ALL_ROUTES, Silo
from pairs import interleaved, row
from werkzeug.test import EnvironBuilder

SID = "0123456789abcdef" * 2
ROUND = 300


def caller(app: Flask, path: str, method: str = "POST") -> Callable[..., None]:
    """Return a function that makes a number of requests, by default one round."""
    environ = EnvironBuilder(path=path, method=method, headers=[("X-Session-ID", SID)]).get_environ()
    wsgi = app.wsgi_app

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        assert status.startswith("200"), status

    def call(number: int = ROUND) -> None:
        for _ in range(number):
            for _ in wsgi(dict(environ), start_response):
                pass

    return call


def bare_app() -> Flask:
    """Return an application that counts for one client, without a session."""
    app = Flask("bare")
    add_stateless(app)
    state = {"value": 0}

    @app.post("/api/increment")
    def increment() -> dict[str, int]:
        state["value"] += 1
        return {"value": state["value"]}

    @app.get("/api/read")
    def read() -> dict[str, int]:
        return {"value": state["value"]}

    return app


def silo_app(*, endpoints: bool = False) -> tuple[Flask, Silo]:
    """Return an application that counts for each client, and its ``Silo``.

    Args:
        endpoints: Whether Silo serves endpoints of its own: those of a task, and the routes of a file store.
    """
    app = Flask("silo")
    silo = Silo(app, ttl=3600, auto_cleanup=False)
    silo.register("counter", lambda: {"value": 0})
    silo.store.get(SID)
    add_stateless(app)

    @app.post("/api/increment")
    def increment() -> dict[str, int]:
        state = silo.state("counter")
        state["value"] += 1
        return {"value": state["value"]}

    @app.get("/api/read")
    def read() -> dict[str, int]:
        return {"value": silo.state("counter")["value"]}

    if endpoints:
        folder = TemporaryDirectory()
        atexit.register(folder.cleanup)
        silo.add_file_store("uploads", folder.name, routes=ALL_ROUTES)

        @silo.task
        def work() -> None: ...

    return app, silo


def add_stateless(app: Flask) -> None:
    """Add views that use no session, below the prefix and outside."""
    state = {"value": 0}

    @app.get("/api/idle")
    @app.get("/page")
    def look() -> dict[str, int]:
        return {"value": state["value"]}

    @app.post("/api/idle")
    @app.post("/page")
    def add() -> dict[str, int]:
        state["value"] += 1
        return {"value": state["value"]}


def hooked_app() -> Flask:
    """A bare application with one hook that does nothing."""
    app = bare_app()
    app.before_request(lambda: None)
    return app


def main() -> None:
    """Print the table."""
    bare = bare_app()
    app, _ = silo_app()
    crowded, silo = silo_app()
    silo.store.ttl = 0.000001
    for number in range(100_000):
        silo.store.get(f"{number:032x}")
    silo.store.cleanup()
    assert silo.store.expired_count >= 99_999
    silo.store.ttl = 3600
    silo.store.get(SID)
    silo.add_data_endpoints("/api/increment")
    own_app, _ = silo_app(endpoints=True)
    api, idle, page = "/api/increment", "/api/idle", "/page"
    floor, ours, own, many, hook, stateless, floor_get, ours_get, floor_page, ours_page, own_page = interleaved(
        caller(bare, api),
        caller(app, api),
        caller(own_app, api),
        caller(crowded, api),
        caller(hooked_app(), api),
        caller(app, idle),
        caller(bare, idle, "GET"),
        caller(app, idle, "GET"),
        caller(bare, page),
        caller(app, page),
        caller(own_app, page),
        repeats=41,
    )
    each = 1e6 / ROUND
    row("bare Flask view, one request", f"{floor * each:.1f} us", "-")
    row("POST counter / bare view", f"{ours / floor:.2f}x (+{(ours - floor) * each:.1f} us)", "1.2x")
    row("  of which: the id, the headers, the renewal", f"+{(stateless - floor) * each:.1f} us", "-")
    row("  of which: the write lock, the state, the commit", f"+{(ours - stateless) * each:.1f} us", "-")
    row("POST counter, with a task and routes of files / bare view", f"{own / floor:.2f}x", "the same")
    row("GET that uses no state / bare view", f"{ours_get / floor_get:.2f}x", "1.12x")
    row("outside the prefix / bare view", f"{ours_page / floor_page:.2f}x", "1.05x")
    row("outside the prefix, with a task and routes of files / bare view", f"{own_page / floor_page:.2f}x", "the same")
    row("for comparison: a before_request function that does nothing", f"+{(hook - floor) * each:.1f} us", "-")
    row("POST counter, 100,000 expired ids remembered / none", f"{many / ours:.2f}x", "as with none")


if __name__ == "__main__":
    main()
