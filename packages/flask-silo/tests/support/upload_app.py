"""An application that receives uploads, for servers. Its settings come from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask import Flask, jsonify, request
from flask_silo import Silo
from flask_silo.files import body

MAX_FILE = 3_000_000
MAX_BODY = 25_000_000


def application() -> Flask:
    """The application: bodies of up to ``MAX_BODY`` bytes with files of up to ``MAX_FILE``, in ``UPLOAD_FOLDER``.

    The rest of a refused body is read for ``UPLOAD_LINGER`` seconds.
    """
    app = Flask("uploads")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    silo = Silo(app, accept_client_ids=True, auto_cleanup=False)
    folder = Path(os.environ["UPLOAD_FOLDER"])
    uploads = silo.add_file_store("uploads", folder, max_file_bytes=MAX_FILE, extensions={".bin", ".csv"})
    body.LINGER_SECONDS = float(os.environ.get("UPLOAD_LINGER", body.LINGER_SECONDS))

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
