"""An application for servers: a counter, and the routes of a file store, whose folder comes from the environment."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask
from flask_silo import ALL_ROUTES, Silo


def application() -> Flask:
    """The application."""
    app = Flask("files")
    silo = Silo(app, auto_cleanup=False)
    silo.register("counter", lambda: {"value": 0})
    silo.add_file_store("uploads", os.environ["FILES_APP_FOLDER"], routes=ALL_ROUTES)

    @app.get("/pid")
    def pid() -> Any:
        return {"pid": os.getpid()}

    @app.post("/api/increment")
    def increment() -> Any:
        counter = silo.state("counter")
        counter["value"] += 1
        return counter

    return app
