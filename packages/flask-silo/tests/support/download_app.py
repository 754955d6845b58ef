"""An application that sends files, for servers. The folder of its files comes from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask import Flask, request
from flask_silo import Silo
from open_files import open_files


def application() -> Flask:
    """The application, whose files are in the folder ``DOWNLOAD_FOLDER``."""
    app = Flask("downloads")
    silo = Silo(app, accept_client_ids=True, auto_cleanup=False)
    uploads = silo.add_file_store("uploads", Path(os.environ["DOWNLOAD_FOLDER"]))

    @app.get("/api/files/<name>")
    def get(name: str) -> Any:
        return uploads.send(silo.sid, name)

    @app.put("/api/files/<name>")
    def put(name: str) -> Any:
        uploads.save(silo.sid, name, request.stream)
        return {}

    @app.delete("/api/files/<name>")
    def delete(name: str) -> Any:
        return {"deleted": uploads.delete(silo.sid, name)}

    @app.get("/api/all")
    def get_all() -> Any:
        return uploads.send_all(silo.sid)

    @app.get("/api/open")
    def count() -> Any:
        """Say how many files of the store this process has open; None if that cannot be counted."""
        return {"open": open_files()}

    return app
