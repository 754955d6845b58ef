"""Makes the application."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, current_app, g, jsonify
from flask_silo import SessionTask, Silo, current_task, track

from .runners import RUNNERS

FILES = Path(os.environ["SESSION_FILES"])

views: dict[str, Callable[[], Any]] = {}
"""The function that the view of the next requests calls, by the last part of their path."""


def _until(gate: str) -> None:
    while not Path(gate).exists():
        time.sleep(0.01)


class Tasks:
    """The functions that run in the background, each once for each runner.

    Attributes:
        by: The session tasks, by function and kind of runner.
    """

    def __init__(self, silo: Silo, counter: Any) -> None:
        self.by: dict[tuple[str, str], SessionTask[..., Any]] = {}
        files = silo.file_store("made")

        def give(value: Any) -> Any:
            return value

        def give_set() -> Any:
            return {1}

        def fail(text: str) -> None:
            raise LookupError(text)

        def hold(gate: str) -> str:
            """Report progress, and continue once there is a file at ``gate``."""
            task = current_task()
            assert task is not None
            task.update(progress=40, message="holding")
            task.log("first line", level="warning")
            while not Path(gate).exists():
                task.checkpoint()
                time.sleep(0.01)
            return "went on"

        def endless(began: str, stopped: str) -> None:
            Path(began).touch()
            try:
                for _ in track(itertools.count()):
                    time.sleep(0.01)
            finally:
                Path(stopped).touch()

        def late(began: str, gate: str, done: str) -> None:
            """Ignore a cancel, and try to write after the session has ended."""
            Path(began).touch()
            _until(gate)
            said = []
            attempts: list[Callable[[], object]] = [
                lambda: counter.update(_hundred),
                lambda: files.save(silo.sid, "late.txt", b"late"),
                lambda: silo.state("counter"),
            ]
            for attempt in attempts:
                try:
                    attempt()
                    said.append("did")
                except BaseException as error:
                    said.append(type(error).__name__)
            Path(done + ".part").write_text(" ".join(said))
            Path(done + ".part").rename(done)

        def follow(began: str, gate: str) -> str:
            sid = silo.sid
            Path(began).touch()
            _until(gate)
            with counter.edit() as state:
                state["value"] += 1
            files.save(sid, "first.txt", b"under the id of its beginning")
            files.save(silo.sid, "then.txt", b"under the id of its end")
            return silo.sid

        def put(sid: str) -> str:
            with silo.edit("counter", sid=sid) as state:
                state["value"] += 1
            return str(files.save(sid, "put.txt", b"under the id that it was given"))

        def add(times: int) -> None:
            for _ in range(times):
                with silo.edit("counter") as state:
                    seen = state["value"]
                    time.sleep(0.001)
                    state["value"] = seen + 1

        def look() -> dict[str, Any]:
            g.seen = "in the task"
            with counter.edit() as state:
                state["value"] += 1
            with silo.edit() as session:
                session["words"]["whole"] = "session"
            files.save(silo.sid, "made.txt", b"made by a task")
            with files.open(silo.sid, "given.txt") as file:
                given = file.read().decode()
            return {
                "sid": silo.sid,
                "uid": silo.uid,
                "counter": silo.state("counter")["value"],
                "handle": counter.state["value"],
                "words": dict(silo.state("words")),
                "config": current_app.config["SHOWN"],
                "name": current_app.name,
                "read": given,
                "files": sorted(files.list_files(silo.sid)),
                "pid": os.getpid(),
            }

        def note(path: str) -> None:
            with Path(path).open("a") as file:
                file.write("ran\n")

        def die(began: str) -> None:
            Path(began).touch()
            os.kill(os.getpid(), signal.SIGKILL)

        def edit() -> None:
            with silo.edit("counter"):
                pass

        for function in (give, give_set, fail, hold, endless, late, follow, put, add, look, note, die, edit):
            for kind, runner in RUNNERS.items():
                name = f"{function.__name__}-{kind}"
                self.by[function.__name__, kind] = silo.task(name=name, runner=runner)(function)
        for kind, runner in RUNNERS.items():
            self.by["overdue", kind] = silo.task(name=f"overdue-{kind}", runner=runner, timeout=0.2)(endless)


def _hundred(state: dict[str, int]) -> None:
    state["value"] += 100


def make_app(name: str, url: str) -> Flask:
    app = Flask(name)
    app.config["SHOWN"] = f"configured for {name}"
    silo = Silo(app, store_url=url, ttl=3600, auto_cleanup=False, accept_client_ids=True)
    counter = silo.register("counter", lambda: {"value": 0})
    silo.register("words", dict[str, str])
    silo.add_file_store("made", FILES / name)
    app.extensions["tasks"] = Tasks(silo, counter)

    @app.teardown_appcontext
    def torn_down(_error: BaseException | None) -> None:
        if "seen" in g:
            (FILES / f"torn-down-{name}").write_text(g.seen)

    @app.route("/api/<key>", methods=["GET", "POST"])
    def view(key: str) -> Any:
        answer = views[key]()
        return answer if isinstance(answer, tuple) else jsonify(answer)

    return app
