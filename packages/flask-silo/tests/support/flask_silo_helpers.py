"""An application that counts, and the header by which a client names its session."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, jsonify, request
from flask_silo import Silo

HEADER = "X-Session-ID"

changes_in_a_get = pytest.mark.filterwarnings("ignore:endpoint .* changed state in a GET request")
"""For tests of what becomes of such a change."""


def counter_app(silo: Silo) -> Flask:
    """An application that counts for each client."""
    app = Flask("counter")
    silo.init_app(app)

    @app.post("/api/increment")
    def increment() -> Any:
        counter = silo.state("counter")
        counter["value"] += 1
        return jsonify(value=counter["value"], sid=silo.sid)

    @app.get("/api/count")
    def count() -> Any:
        return jsonify(silo.state("counter"))

    @app.route("/api/idle", methods=["GET", "POST"])
    def idle() -> Any:
        return {}

    @app.post("/api/answer/<int:status>")
    def answer(status: int) -> Any:
        silo.state("counter")["value"] += 1
        return {}, status

    @app.post("/api/upload")
    def upload() -> Any:
        file = request.files["file"]
        silo.file_store("uploads").save(silo.sid, file.filename or "", file.stream)
        return jsonify(silo.file_store("uploads").list_files(silo.sid))

    @app.get("/page")
    def page() -> str:
        return "page"

    return app


def as_(sid: str) -> dict[str, str]:
    """Return the header that names a client's session."""
    return {HEADER: sid}
