"""Measures what Silo adds to a Flask request.

Run with ``uv run python tests/benchmarks/bench_requests.py``. A request calls ``app.wsgi_app``; figures are CPU time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from flask_silo import Silo
from pairs import interleaved, row
from werkzeug.test import EnvironBuilder

SID = "0123456789abcdef" * 2
ROUND = 300


def caller(app: Flask, path: str, method: str = "POST") -> Callable[[], None]:
    """Return a function that makes one round of requests."""
    environ = EnvironBuilder(path=path, method=method, headers=[("X-Session-ID", SID)]).get_environ()
    wsgi = app.wsgi_app

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        assert status.startswith("200"), status

    def call() -> None:
        for _ in range(ROUND):
            for _ in wsgi(dict(environ), start_response):
                pass

    return call


def bare_app() -> Flask:
    """An application that counts for one client, without a session."""
    app = Flask("bare")
    state = {"value": 0}

    @app.post("/api/increment")
    @app.post("/page")
    def increment() -> dict[str, int]:
        state["value"] += 1
        return {"value": state["value"]}

    return app


def silo_app() -> tuple[Flask, Silo]:
    """An application that counts for each client."""
    app = Flask("silo")
    silo = Silo(app, ttl=3600, auto_cleanup=False)
    silo.register("counter", lambda: {"value": 0})
    silo.store.get(SID)

    @app.post("/api/increment")
    def increment() -> dict[str, int]:
        state = silo.state("counter")
        state["value"] += 1
        return {"value": state["value"]}

    page_state = {"value": 0}

    @app.post("/api/idle")
    def idle() -> dict[str, int]:
        page_state["value"] += 1
        return {"value": page_state["value"]}

    @app.post("/page")
    def page() -> dict[str, int]:
        page_state["value"] += 1
        return {"value": page_state["value"]}

    return app, silo


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
    api, page = "/api/increment", "/page"
    hooked = hooked_app()
    floor, ours, many, floor_page, ours_page, hook, idle = interleaved(
        caller(bare, api),
        caller(app, api),
        caller(crowded, api),
        caller(bare, page),
        caller(app, page),
        caller(hooked, api),
        caller(app, "/api/idle"),
        repeats=41,
    )
    each = 1e6 / ROUND
    row("bare Flask view, one request", f"{floor * each:.1f} us", "-")
    row("increment / bare view", f"{ours / floor:.2f}x (+{(ours - floor) * each:.1f} us)", "1.2x")
    row("  of which: an empty before_request hook", f"+{(hook - floor) * each:.1f} us", "-")
    row("  of which: the id, the headers, the renewal", f"+{(idle - hook) * each:.1f} us", "-")
    row("  of which: the write lock, the state, the commit", f"+{(ours - idle) * each:.1f} us", "-")
    row("outside the prefix / bare view", f"{ours_page / floor_page:.2f}x", "1.05x")
    row("increment, 100,000 expired ids remembered / none", f"{many / ours:.2f}x", "as with none")


if __name__ == "__main__":
    main()
