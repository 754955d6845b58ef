"""An API on flask-silo: typed namespaces, tasks, files and settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict

from celery import Celery  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue
from flask_silo import (
    ALL_ROUTES,
    BackgroundTask,
    Namespace,
    SessionBusy,
    SessionExpired,
    SessionFileStore,
    SessionStore,
    SessionTask,
    Silo,
    TaskState,
    current_task,
    step,
    track,
)
from redis import Redis
from rq import Queue
from silo_files import FileInfo, SavedPath
from silo_tasks import ProcessRunner, Runner, ThreadRunner
from silo_tasks.runners.celery import CeleryRunner
from silo_tasks.runners.rq import RQRunner
from typing_extensions import assert_type


@dataclass
class Cart:
    """The state of one namespace."""

    items: dict[str, int] = field(default_factory=dict[str, int])
    total: Decimal = Decimal()


class Counter(TypedDict):
    """The state of another one."""

    value: int


def new_counter() -> Counter:
    return {"value": 0}


app = Flask(__name__)
silo = Silo(
    app,
    ttl=3600,
    cleanup_interval=30.5,
    header="X-Workspace",
    api_prefix=("/api/", "/admin/"),
    data_endpoints=["/api/report"],
    store_url="sqlite:///sessions.db",
    lock_timeout=5,
    max_sessions=10_000,
    max_streams=None,
    accept_client_ids=False,
)
later = Silo()
later.init_app(app)

# State

carts = silo.register("cart", Cart)
counters = silo.register("counter", new_counter)
prices = silo.register("prices", dict[str, Decimal])
numbers = silo.register("numbers", lambda: {"value": 0})
rows = silo.register("rows", list[int], list[int])
anything: Namespace[Any] = silo.register("anything", dict[str, Any], Any)

assert_type(carts, Namespace[Cart])
assert_type(counters, Namespace[Counter])
assert_type(prices, Namespace[dict[str, Decimal]])
assert_type(numbers, Namespace[dict[str, int]])
assert_type(rows, Namespace[list[int]])


def with_discount(cart: Cart) -> Cart:
    return Cart(cart.items, cart.total * Decimal("0.9"))


@app.post("/api/items/<name>")
def add_item(name: str) -> Response:
    cart = carts.state
    assert_type(cart, Cart)
    cart.items[name] = cart.items.get(name, 0) + 1
    with counters.edit() as counter:
        assert_type(counter, Counter)
        counter["value"] += 1
    with carts.edit(sid="another-session-id") as other:
        other.items.clear()
    assert_type(carts.update(with_discount), Cart)
    carts.state = Cart()
    untyped = silo.state("cart")
    with silo.edit("cart") as edited:
        edited.items[name] = untyped.items[name]
    return jsonify(cart.items)


# Tasks

threads = ThreadRunner(workers=2, queue_size=10)
processes = ProcessRunner(workers=2)
queue = RQRunner(Queue("reports", connection=Redis()), max_wait=60)
celery: Runner = CeleryRunner(Celery("reports", broker="redis://localhost"))


@silo.task
def summarise(column: str, limit: int = 10, *, fast: bool = False) -> list[float]:
    values: list[float] = []
    with step("Reading", weight=2):
        for row in track(rows.state[:limit]):
            assert_type(row, int)
            values.append(float(row))
    task = current_task()
    if task is not None:
        task.log("%d values of %s", len(values), column, level="debug" if fast else "info")
    with carts.edit() as cart:
        cart.total = Decimal(len(values))
    return values


@silo.task(name="report", runner=processes, timeout=60, public_errors=(ValueError, KeyError))
def write_report(path: Path) -> str:
    return str(path)


@silo.task(runner=queue, public_errors=ValueError)
def on_workers(number: int) -> None:
    return None


@silo.task(runner=celery)
def on_celery() -> None:
    return None


@app.post("/api/summaries")
def start() -> ResponseReturnValue:
    summarise.start("price", 20, fast=True)
    write_report.start(path=Path("report"))
    on_workers.start(1)
    on_celery.start()
    assert_type(summarise.state, TaskState)
    return {"state": summarise.state.to_dict(public=True)}, 202


@app.get("/api/summaries")
def summary() -> ResponseReturnValue:
    assert_type(summarise("price"), list[float])
    assert_type(summarise.result(timeout=1), list[float])
    assert_type(write_report.result(), str)
    assert_type(summarise.task, BackgroundTask | None)
    task: SessionTask[..., Any] = silo.tasks["report"]
    return {"cancelled": task.cancel(), "progress": task.state.progress, "eta": summarise.state.eta}


# Files

uploads = silo.add_file_store("uploads", Path("uploads"), max_file_bytes=1_000_000, max_files=10, durable=True)
assert_type(uploads, SessionFileStore)
silo.add_file_store("inbox", Path("inbox"), extensions={".csv"}, routes=("list", "upload"))
silo.add_file_store("outbox", Path("outbox"), routes=ALL_ROUTES)
assert_type(silo.file_store("inbox").routes, frozenset[str])


@app.post("/api/files/<name>")
@silo.requires_session
def upload(name: str) -> ResponseReturnValue:
    file = request.files["file"]
    assert_type(uploads.save(silo.sid, name, file.stream), SavedPath)
    return {"files": silo.file_store("uploads").list_files(silo.sid)}


@app.put("/api/files/<name>")
def upload_raw(name: str) -> ResponseReturnValue:
    (saved,) = uploads.receive(name, on_conflict="rename")
    assert_type(saved, FileInfo)
    return {"link": uploads.link(silo.sid, saved.name, expires=60)}


@app.get("/api/files/<name>")
def download(name: str) -> Response:
    assert_type(uploads.send(silo.sid, name), Response)
    return silo.file_store("uploads").send(silo.sid, name, inline=True)


@app.get("/api/files")
def everything() -> Response:
    return uploads.send_all(silo.sid, download_name="report.zip")


@app.post("/api/files/<name>/link")
def share(name: str) -> ResponseReturnValue:
    assert_type(uploads.link(silo.sid, name), str)
    return {"link": uploads.link(silo.sid, name, expires=0.5)}


# Sessions


@app.errorhandler(SessionExpired)
def expired(error: SessionExpired) -> ResponseReturnValue:
    return {"session": error.sid[:4]}, 410


@app.post("/api/login")
def login() -> ResponseReturnValue:
    try:
        silo.reset_current()
    except SessionBusy as error:
        return {"busy": error.sid[:4]}, 409
    assert_type(silo.store, SessionStore)
    return {"sid": silo.rotate(), "uid": silo.uid}
