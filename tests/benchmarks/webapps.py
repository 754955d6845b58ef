"""Applications that are measured, and the clients that call them in this process."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import redis
from flask import Flask, session
from flask_session import Session as FlaskSession
from flask_silo import Silo
from werkzeug.test import EnvironBuilder

STATE = {"value": 0, "items": ["book", "pen"], "name": "somebody"}


def silo_app(url: str) -> Flask:
    """An application that reads and writes a namespace of the client's session."""
    app = Flask("silo")
    silo = Silo(app, store_url=url, auto_cleanup=False)
    silo.register("cart", lambda: dict(STATE))

    @app.get("/api/cart")
    def read() -> dict[str, int]:
        return {"value": silo.state("cart")["value"]}

    @app.post("/api/cart")
    def write() -> dict[str, int]:
        cart = silo.state("cart")
        cart["value"] += 1
        return {"value": cart["value"]}

    return app


def peer_app(**config: Any) -> Flask:
    """The same application with Flask-Session."""
    app = Flask("peer")
    app.config.update(config)
    FlaskSession(app)

    @app.get("/api/cart")
    def read() -> dict[str, int]:
        return {"value": session.get("cart", STATE)["value"]}

    @app.post("/api/cart")
    def write() -> dict[str, int]:
        cart = session.setdefault("cart", dict(STATE))
        cart["value"] += 1
        session.modified = True
        return {"value": cart["value"]}

    return app


def redis_peer(url: str) -> Flask:
    """The application with Flask-Session on Redis."""
    return peer_app(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(url))


def bare_app() -> Flask:
    """The same application for one client, without sessions."""
    app = Flask("bare")
    cart: dict[str, Any] = dict(STATE)

    @app.get("/api/cart")
    def read() -> dict[str, int]:
        return {"value": cart["value"]}

    @app.post("/api/cart")
    def write() -> dict[str, int]:
        cart["value"] += 1
        return {"value": cart["value"]}

    return app


def laden_app(url: str, others: int = 1, **settings: Any) -> Flask:
    """An application whose sessions hold a counter and other namespaces, as large as each client makes them.

    Args:
        url: The backend.
        others: The number of the other namespaces.
        settings: Further settings of Silo.
    """
    app = Flask("laden")
    silo = Silo(app, store_url=url, auto_cleanup=False, **settings)
    silo.register("counter", lambda: {"value": 0})
    names = [f"other-{number}" for number in range(others)]
    for name in names:
        silo.register(name, lambda: {"text": ""})

    @app.get("/api/idle")
    def idle() -> dict[str, int]:
        return {"value": 0}

    @app.get("/api/counter")
    def read() -> dict[str, int]:
        return {"value": silo.state("counter")["value"]}

    @app.post("/api/counter")
    def count() -> dict[str, int]:
        counter = silo.state("counter")
        counter["value"] += 1
        return {"value": counter["value"]}

    @app.post("/api/others/<int:size>")
    def fill(size: int) -> dict[str, int]:
        for name in names:
            silo.state(name)["text"] = "x" * size
        return {"value": size}

    return app


def cpu_clock(url: str) -> Callable[[], float]:
    """Return a clock of the CPU seconds of this process and of a Redis server together, without those of the clock."""
    client = redis.Redis.from_url(url)
    looks = itertools.count()

    def look() -> float:
        server: Any = client.info("cpu")
        return float(server["used_cpu_user"] + server["used_cpu_sys"]) + time.process_time()

    idle = [look() for _ in range(101)]
    cost = statistics.median(after - before for before, after in itertools.pairwise(idle))
    return lambda: look() - cost * next(looks)


def new_client(app: Flask, path: str = "/api/cart") -> list[tuple[str, str]]:
    """Begin a session with a POST and return the headers of its client."""
    response = app.test_client().post(path)
    assert response.status_code == 200, response.data
    cookie = response.headers.get("Set-Cookie", "").partition(";")[0]
    if cookie:
        return [("Cookie", cookie)]
    sid = response.headers.get("X-Session-ID")
    return [("X-Session-ID", sid)] if sid else []


def caller(
    app: Flask, method: str, path: str = "/api/cart", client: list[tuple[str, str]] | None = None
) -> Callable[[], None]:
    """Return a function that makes one request.

    Args:
        app: The application.
        method: ``GET`` or ``POST``.
        path: The path.
        client: Headers of the client; by default those of a new one, with a session.
    """
    headers = new_client(app) if client is None else client
    environ = EnvironBuilder(path=path, method=method, headers=headers).get_environ()
    wsgi = app.wsgi_app

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        assert status.startswith("200"), status

    def call() -> None:
        for _ in wsgi(dict(environ), start_response):
            pass

    return call
