"""An application for servers: tasks that go on until they are cancelled, and an ordinary request."""

from __future__ import annotations

import time
from itertools import count
from typing import Any

from flask import Flask
from flask_silo import Silo, current_task, track
from flask_silo.tasks.events import StreamTiming
from silo_tasks import ThreadRunner


def application() -> Flask:
    """The application; its settings come from the environment. Its streams send nothing while nothing changes."""
    app = Flask("busy")
    app.config.from_prefixed_env("BUSY")
    silo = Silo(app, accept_client_ids=True)
    silo.binding.task_views.timing = StreamTiming(heartbeat=3600)
    runner = ThreadRunner(drain_timeout=0.1)  # so that no server waits for a task when it stops

    @silo.task
    def work() -> None:
        for _ in track(count()):
            time.sleep(0.05)

    @silo.task
    def quiet() -> None:
        task = current_task()
        assert task is not None
        while True:
            task.checkpoint()
            time.sleep(0.05)

    for task in (work, quiet):
        task._options["runner"] = runner

    @app.post("/api/start/<name>")
    def start(name: str) -> Any:
        {"work": work, "quiet": quiet}[name].start()
        return {}

    @app.get("/api/ordinary")
    def ordinary() -> Any:
        return {}

    return app
