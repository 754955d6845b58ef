"""The demo: upload a CSV file, watch it being processed, look at the result and download it.

Run it with ``python examples/data_processor/app.py``, ``flask --app examples/data_processor/app run``, or in this
folder ``gunicorn --threads 8 "app:create_app()"``. Sessions are then in the memory of that one process.

With SQLite or Redis, several workers share the sessions, which survive a restart:
``SILO_STORE_URL=sqlite:////tmp/sessions.db gunicorn -w 4 --threads 8 "app:create_app()"``, or with the URL of a Redis
server, ``redis://localhost:6379/0``. All workers need the same ``DEMO_DATA_DIR``; the default is the same for all
workers on one machine.

All URLs of the page are relative, so it works behind a path prefix without changes.

Environment variables change the settings in ``DEFAULTS``, such as ``DEMO_MAX_UPLOAD_MB=20``, and those of flask-silo,
such as ``SILO_TTL=600``.
"""

from __future__ import annotations

import argparse
import getpass
import os
import secrets
import stat
import tempfile
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import processing
from flask import Flask, Response, abort, jsonify, request, send_file
from flask_silo import FileMissing, SessionExpired, SessionFileStore, Silo, TaskRunning, current_task
from forms import BadCsv
from reading import Chosen, Table, inspect
from silo_files import check_name, portable_names
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import get_input_stream

HERE = Path(__file__).parent
SAMPLE = HERE / "sample" / "penguins.csv"
RESULT = "result.csv"
TEXT = "text.csv"  # the text of the uploaded file as it is read, while a task runs
SMALL_BODY = 64 * 1024
MB = 1024 * 1024
DEFAULTS = {
    "DATA_DIR": "",  # the folder for files; by default a private one among the temporary files
    "MAX_UPLOAD_MB": 100,
    "MAX_TOTAL_MB": 2000,
    "MAX_GROUPS": 10_000,
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create_app(**config: Any) -> Flask:
    """Create the application. Arguments take precedence over environment variables."""
    app = Flask(__name__)
    app.config.update(DEFAULTS, MAX_CONTENT_LENGTH=SMALL_BODY)
    app.config.from_prefixed_env("DEMO")
    app.config.update(config)
    limit = int(app.config["MAX_UPLOAD_MB"] * MB)
    total = int(app.config["MAX_TOTAL_MB"] * MB)
    folder = private_folder(app.config["DATA_DIR"])

    silo = Silo(app)
    silo.register("job", lambda: {"source": None, "result": None})
    uploads = silo.add_file_store(
        "uploads",
        str(folder / "uploads"),
        max_file_bytes=limit,
        max_session_bytes=2 * limit,
        max_store_bytes=total,
    )
    results = silo.add_file_store("results", str(folder / "results"), max_store_bytes=total)
    silo.add_data_endpoints("status", "reading", "start", "task", "cancel", "result", "download")

    @app.get("/")
    def index() -> Response:
        return app.send_static_file("index.html")

    @app.get("/api/status")
    def status() -> Response:
        task = summarise.state  # Read before the job: once the task has succeeded, the result is there.
        # Reading begins no session: a client without one gets an empty answer.
        job = silo.state("job") if silo.uid else {"source": None, "result": None}
        limits = {"upload_bytes": limit, "ttl": silo.store.ttl}
        return jsonify(source=job["source"], result=job["result"], task=task.to_dict(public=True), limits=limits)

    @app.post("/api/upload")
    def upload() -> Response:
        body = get_input_stream(request.environ, max_content_length=limit)
        return jsonify(source=accept(request.args.get("name", ""), body, request.content_length))

    @app.post("/api/sample")
    def sample() -> Response:
        with SAMPLE.open("rb") as file:
            return jsonify(source=accept(SAMPLE.name, file, None))

    def accept(name: str, data: IO[bytes], size: int | None) -> dict[str, Any]:
        refuse_while_running()
        if not name:
            abort(400, "The file has no name.")
        name = check_name(name)
        # Each upload is stored under its own name, so the previous file is kept if this one is refused.
        stored = secrets.token_hex(8)
        uploads.save(silo.sid, stored, data, size=size)
        try:
            with opened(uploads, stored) as file:
                table = inspect(file)
            # Asked for only now: a POST that asks for state blocks the session's other writers until its end.
            job = silo.state("job")
            refuse_while_running()
        except (BadCsv, TaskRunning):
            uploads.delete(silo.sid, stored)
            raise
        if job["source"]:
            uploads.delete(silo.sid, job["source"]["stored"])
        source = {"name": name, "stored": stored, "size": uploads.info(silo.sid, stored).size, "table": table.to_dict()}
        job.update(source=source, result=None)
        return source

    def opened(files: SessionFileStore, name: str) -> BinaryIO:
        try:
            return files.open(silo.sid, name)
        except FileMissing as error:  # the files of a session are removed when it ends, and not before
            raise SessionExpired(silo.sid) from error

    @app.post("/api/reading")
    def reading() -> Response:
        """Read the uploaded file again as the user has chosen. What is not chosen is detected."""
        job = silo.state("job")
        refuse_while_running()
        if not job["source"]:
            abort(409, "Upload a file first.")
        try:
            chosen = Chosen.checked(request.get_json())
        except ValueError as error:
            abort(400, str(error))
        with opened(uploads, job["source"]["stored"]) as file:
            job["source"]["table"] = inspect(file, chosen).to_dict()
        job["result"] = None
        return jsonify(source=job["source"])

    def refuse_while_running() -> None:
        if summarise.state.running:
            raise TaskRunning("summarise")

    @app.post("/api/start")
    def start() -> tuple[Response, int]:
        job = silo.state("job")
        if not job["source"]:
            abort(409, "Upload a file first.")
        given = request.get_json()
        columns = job["source"]["table"]["columns"]
        by, value, how = (given.get(key) if isinstance(given, dict) else None for key in ("by", "value", "how"))
        if how not in processing.MEASURES:
            abort(400, f"Choose one of: {', '.join(processing.MEASURES)}.")
        if by not in columns or (how != "count" and value not in columns):
            abort(400, "The file has no such column.")
        summarise.start(columns.index(by), None if how == "count" else columns.index(value), how)
        job["result"] = None
        return jsonify(started=True), 202

    @silo.task(name="summary")
    def summarise(by: int, value: int | None, how: str) -> None:
        task = current_task()
        assert task is not None
        source = silo.state("job")["source"]
        opener = partial(uploads.open, silo.sid, source["stored"])

        def keep(text: processing.Recoded) -> Path:
            return Path(results.save(silo.sid, TEXT, cast("IO[bytes]", text)))

        job = processing.Job(by, value, how, app.config["MAX_GROUPS"])
        try:
            with task.logging("data_processor", public=True):
                summary, table = processing.run(opener, source["size"], Table.from_dict(source["table"]), job, keep)
        except BadCsv as error:
            task.fail(str(error))
            return
        finally:
            results.delete(silo.sid, TEXT)
        results.save(silo.sid, RESULT, table)
        with silo.edit("job") as state:
            state["result"] = summary
        task.complete("Done")

    @app.get("/api/task")
    def task() -> Response:
        return jsonify(summarise.state.to_dict(public=True))

    @app.post("/api/cancel")
    def cancel() -> Response:
        return jsonify(cancelled=summarise.cancel())

    @app.get("/api/result")
    def result() -> Response:
        found = silo.state("job")["result"] if silo.uid else None
        return jsonify(found or abort(404, "There is no result yet."))

    @app.get("/api/download")
    def download() -> Response:
        job = silo.state("job") if silo.uid else None
        if not job or not job["result"]:
            abort(404, "There is no result yet.")
        name = f"{Path(job['source']['name']).stem}-summary.csv"
        saved = portable_names([name])[name]
        return send_file(opened(results, RESULT), "text/csv", as_attachment=True, download_name=saved)

    @app.post("/api/reset")
    def reset() -> Response:
        silo.destroy_current()
        return jsonify(reset=True)

    @app.errorhandler(BadCsv)
    def bad_csv(error: BadCsv) -> tuple[Response, int]:
        return jsonify(error="bad_csv", message=str(error)), 422

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> tuple[Response, int]:
        message = error.description
        if error.code == 413 and request.endpoint == "upload":
            message = f"The file is too large. Up to {app.config['MAX_UPLOAD_MB']} MB can be uploaded."
        return jsonify(error=error.name.lower().replace(" ", "_"), message=message), error.code or 500

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    return app


def private_folder(path: str) -> Path:
    """Create the folder for files. The default one must belong to this user and be closed to others."""
    if path:
        folder = Path(path)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder
    folder = Path(tempfile.gettempdir()) / f"flask-silo-demo-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    info = folder.lstat()
    mine = not hasattr(os, "getuid") or (info.st_uid == os.getuid() and not info.st_mode & 0o077)
    if not stat.S_ISDIR(info.st_mode) or not mine:
        raise PermissionError(f"{folder} is not private: set DEMO_DATA_DIR to another folder")
    return folder


def main() -> None:
    """Serve the demo."""
    parser = argparse.ArgumentParser(description="Serve the demo of flask-silo.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    options = parser.parse_args()
    app = create_app()
    print(f"The demo is at http://{options.host}:{options.port}")
    app.run(options.host, options.port, threaded=True)


if __name__ == "__main__":
    main()
