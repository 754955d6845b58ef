"""An application that receives uploads, for servers. Its settings come from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask import Flask, jsonify, request
from flask_silo import Silo

MAX_FILE = 3_000_000


def application() -> Flask:
    """The application: files up to ``MAX_FILE`` bytes, in the folder ``UPLOAD_FOLDER``."""
    app = Flask("uploads")
    app.config.from_prefixed_env("UPLOAD")
    silo = Silo(app, accept_client_ids=True, auto_cleanup=False)
    uploads = silo.add_file_store("uploads", Path(os.environ["UPLOAD_FOLDER"]), max_file_bytes=MAX_FILE)

    @app.put("/api/files/<name>")
    def put(name: str) -> Any:
        return jsonify(uploads.receive(name))

    @app.post("/api/files")
    def post() -> Any:
        saved = uploads.receive()
        return jsonify(files=saved, form=request.form)

    @app.get("/api/files")
    def files() -> Any:
        return jsonify(uploads.list_files(silo.sid))

    @app.get("/api/pid")
    def pid() -> Any:
        return jsonify(os.getpid())

    return app
