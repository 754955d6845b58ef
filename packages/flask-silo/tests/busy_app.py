"""An application for servers: a task that works until it is cancelled, and an ordinary request."""

from __future__ import annotations

import time
from typing import Any

from flask import Flask
from flask_silo import Silo, track
from silo_tasks import ThreadRunner


def application() -> Flask:
    """The application; its settings come from the environment."""
    app = Flask("busy")
    app.config.from_prefixed_env("BUSY")
    silo = Silo(app)

    @silo.task
    def work() -> None:
        for _ in track(iter(int, 1)):
            time.sleep(0.05)

    work._options["runner"] = ThreadRunner(drain_timeout=0.1)  # so that no server waits for it in the end

    @app.post("/api/start")
    def start() -> Any:
        work.start()
        return {}

    @app.get("/api/ordinary")
    def ordinary() -> Any:
        return {}

    return app
