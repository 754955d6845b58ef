"""One job, run by a thread, a process, an RQ worker or a Celery worker: the line ``runner = …`` below decides.

The job counts the words of a text and writes the counts into the session and into a file. Its code, and the client that
watches it, are the same wherever it runs. Run these commands in this folder, with flask-silo and, if needed, its extra
``rq`` or ``celery`` installed. (``../../.uv/bin/uv run`` before a command has all of them.)

    flask --app words run                             the server; thread() and process() need nothing else
    FLASK_APP=words rq worker                         for rq(): a worker beside the server
    celery --app celery_worker worker                 for celery(): a worker beside the server

rq() and celery() need a Redis server. ``REDIS_URL`` is its address, redis://localhost:6379/0 by default; RQ's worker
reads it too. ``SILO_STORE_URL`` is where sessions are kept, ``ANYWHERE_FILES`` the folder for files. The server and its
workers need the same values. Then:

    curl -i localhost:5000/api/count -d 'to be or not to be'  start the job; the response has the header X-Session-ID
    curl 'localhost:5000/api/tasks/count?_sid=…'              show its progress
    curl -N 'localhost:5000/api/tasks/events?_sid=…'          watch its progress
    curl -X DELETE 'localhost:5000/api/tasks/count?_sid=…'    cancel it
    curl 'localhost:5000/api/counts?_sid=…'                   show the result
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import runners
from flask import Flask, Response, jsonify, request, send_file
from flask_silo import Silo, current_task, track

app = Flask(__name__)
FILES = Path(os.environ.get("ANYWHERE_FILES") or app.instance_path)
FILES.mkdir(mode=0o700, exist_ok=True)

silo = Silo(app, store_url=os.environ.get("SILO_STORE_URL") or f"sqlite:///{FILES / 'sessions.db'}")
silo.register("words", dict[str, int])
results = silo.add_file_store("results", FILES / "results")

runner = runners.thread()  # or process(), rq(), celery(): the one line to change


@silo.task(runner=runner, timeout=600)
def count(text: str) -> int:
    """Count the words of a text. Return the number of different words."""
    task = current_task()
    assert task is not None
    task.update(message="Word {n} of {total}")
    counts = Counter(word.lower() for word in track(text.split()))
    task.log("%d words, %d different ones", counts.total(), len(counts))
    with silo.edit("words") as words:
        for word, number in counts.items():
            words[word] = words.get(word, 0) + number
    results.save(silo.sid, "counts.json", json.dumps(counts).encode())
    return len(counts)


@app.post("/api/count")
def start() -> tuple[Response, int]:
    """Start the job for the text in the body of the request."""
    count.start(request.get_data(as_text=True))
    return jsonify(watch="tasks/count"), 202


@app.get("/api/counts")
def counts() -> Response:
    """Return the counts of all jobs so far."""
    return jsonify(silo.state("words") if silo.uid else {})


@app.get("/api/file")
def file() -> Response:
    """Return the file of the last job."""
    return send_file(results.open(silo.sid, "counts.json"), "application/json")
