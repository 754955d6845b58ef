"""An application for servers, with a view that holds its session's write lock until the test releases it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask import Flask
from flask_silo import Silo


def application() -> Flask:
    """The application; its settings come from the environment, and so does the folder of its two pipes."""
    app = Flask("locked")
    app.config.from_prefixed_env("LOCKED")
    silo = Silo(app)
    silo.register("counter", lambda: {"value": 0})
    folder = Path(os.environ["PIPES"])

    def increment() -> Any:
        counter = silo.state("counter")
        counter["value"] += 1
        return dict(counter)

    app.add_url_rule("/api/increment", view_func=increment, methods=["POST"])

    @app.post("/api/hold")
    def hold() -> Any:
        answer = increment()
        (folder / "held").open("w").close()  # waits until the test has opened the pipe
        (folder / "leave").open().close()
        return answer

    @app.get("/api/count")
    def count() -> Any:
        return silo.state("counter")

    return app
