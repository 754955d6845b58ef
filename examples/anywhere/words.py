"""One job, run by a thread, a process, an RQ worker or a Celery worker: the line ``runner = …`` below decides.

The job counts the words of a text and writes the counts into the session and into a file. Where it runs changes
nothing for it, nor for who watches it. In this folder, with flask-silo and, where needed, its extra ``rq`` or
``celery`` installed (``../../.uv/bin/uv run``, before a command, has them all):

    flask --app words run                             thread(), process(): nothing else is needed
    FLASK_APP=words rq worker                         rq(): a worker, beside the server
    celery --app celery_worker worker                 celery(): likewise

rq() and celery() need a Redis. ``REDIS_URL`` says where, to RQ's worker too, redis://localhost:6379/0 by default;
``SILO_STORE_URL`` says where sessions are, ``ANYWHERE_FILES`` where files are. The server and its workers must agree
about them. Then:

    curl -i localhost:5000/api/count -d 'to be or not to be'  the answer has the header X-Session-ID
    curl 'localhost:5000/api/tasks/count?_sid=…'              how far it is
    curl -N 'localhost:5000/api/tasks/events?_sid=…'          as a stream
    curl -X DELETE 'localhost:5000/api/tasks/count?_sid=…'    cancels it
    curl 'localhost:5000/api/counts?_sid=…'                   what it found
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
    """Count the words of a text; return how many different ones there are."""
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
    """Start the job for the text that the request brings."""
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
