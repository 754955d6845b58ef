"""Calls that each checker must report. If one is accepted, its comment is unused, which is an error."""

from __future__ import annotations

from pathlib import Path

import flask_silo
import silo_files
import silo_store
import silo_tasks
from flask import Flask
from flask_silo import Silo
from silo_files import FileStore
from silo_store import SessionStore
from silo_tasks import BackgroundTask, ThreadRunner
from silo_tasks.console import follow

app = Flask(__name__)

# Names

flask_silo.Sillo()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
silo_files.Filestore()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
silo_store.Sessions()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
silo_tasks.Task()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


# flask-silo

Silo(app, tll=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Silo(app, ttl="an hour")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Silo(app, storage="memory")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Silo("app")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
silo = Silo(app)


@silo.task
def double(number: int, *, times: int = 1) -> str:
    return str(number * 2 * times)


silo.task(runner="threads")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
silo.task(5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def start() -> int:
    double.start("wrong type")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    double.start()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    double.start(1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    double.start(1, often=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    double.start(1, times="twice")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    double("wrong type")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return double.result()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


numbers = silo.register("numbers", dict[str, int])
silo.register("numbers")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
silo.register("numbers", {})  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def change() -> None:
    numbers.state = ["a list"]  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    numbers.state["one"] = "1"  # type: ignore[assignment]  # pyright: ignore[reportArgumentType, reportCallIssue]
    with numbers.edit() as state:
        state.append(1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    numbers.update(len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    numbers.state.clear(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    silo.add_file_store("uploads", Path(), max_files="ten")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    silo.rotate("sid")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# silo-store

SessionStore(ttl="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
SessionStore(max_session=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
SessionStore(backend=Path("sessions.db"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
store = SessionStore()
store.register_namespace("numbers", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
store.on_expire(lambda sid, uid: None)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType, reportUnknownLambdaType]
store.get(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
if store.lookup("sid").status == "alive":  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
    store.cleanup()
print(store.lookup("sid").session.sid)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]


# silo-tasks


def crunch(task: BackgroundTask, rows: list[int], *, scale: float = 1.0) -> None:
    for row in task.track(rows):
        row.upper()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    task.update("half")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    task.plan("Read", "Write")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def without_task(rows: list[int]) -> None:
    return None


task = BackgroundTask("crunch", timeout="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
BackgroundTask(runner=ThreadRunner)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
BackgroundTask(public_errors=[5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
task.start("crunch")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
task.start(crunch)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
task.start(crunch, "wrong type")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
task.start(crunch, [1], scales=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
task.start(crunch(task, [1]))  # type: ignore[arg-type, func-returns-value]  # pyright: ignore[reportArgumentType, reportCallIssue]
task.start(without_task)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
task.state.percent = 5  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
task.state = None  # type: ignore[misc, assignment]  # pyright: ignore[reportAttributeAccessIssue]
follow("crunch")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# silo-files

FileStore()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
files = FileStore("uploads", max_files="ten")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
files.save("sid", "name", "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
files.get_path("sid", "name").upper()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
