"""A session whose record is damaged, as its client and an operator see it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo.tasks.worker import TaskAddress, find
from flask_silo_helpers import as_
from server_fixtures import redis_server, redis_url
from silo_store import Change, Life
from silo_store.testing import SID, TTL, Clock
from store_urls import urls

__all__ = ["redis_server", "redis_url"]

OTHER = "b" * 32


url = urls("sqlite", "redis")


@pytest.fixture(params=["head", "state"])
def damage(request: pytest.FixtureRequest, url: str) -> Callable[[], None]:
    """Return a function that damages the record of SID."""
    head = request.param == "head"

    def in_sqlite() -> None:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            change = "active = 'x'" if head else "state = X'00'"
            connection.execute(f"UPDATE sessions SET {change} WHERE sid = ?", (SID,))

    def in_redis() -> None:
        with redis.Redis.from_url(url) as client:
            data = client.get("{silo}:s:" + SID)
            assert isinstance(data, bytes)
            client.set("{silo}:s:" + SID, data[:7] if head else data[:-1], keepttl=True)

    return in_redis if url.startswith("redis") else in_sqlite


def ask(app: Flask, *words: str) -> tuple[int, Any, str]:
    result = app.test_cli_runner().invoke(args=["silo", *words, "--json"])
    return result.exit_code, json.loads(result.stdout), result.output


def begin(client: FlaskClient) -> None:
    for sid in (SID, OTHER):
        client.post("/api/increment", headers=as_(sid))


def test_its_client_gets_an_error_and_others_do_not(client: FlaskClient, damage: Callable[[], None]) -> None:
    begin(client)
    damage()
    for _ in range(2):
        answer = client.get("/api/count", headers=as_(SID))
        assert answer.status_code == 500
        assert "damaged" not in answer.text
    assert client.post("/api/idle", headers=as_(SID)).status_code == 200, "it needs no state"
    assert client.get("/api/count", headers=as_(OTHER)).json == {"value": 1}


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_its_client_can_end_it(
    app: Flask, client: FlaskClient, silo: Silo, damage: Callable[[], None], method: str
) -> None:
    @app.route("/api/reset", methods=[method])
    def reset() -> Any:
        silo.reset_current()
        return dict(silo.state("counter"))

    @app.route("/api/destroy", methods=[method])
    def destroy() -> Any:
        silo.destroy_current()
        return {}

    begin(client)
    damage()
    assert client.open("/api/reset", method=method, headers=as_(SID)).json == {"value": 0}
    damage()
    assert client.open("/api/destroy", method=method, headers=as_(SID)).status_code == 200
    assert silo.store.all_sids == [OTHER]


def test_the_command_line_passes_over_it_and_can_end_it(
    app: Flask, client: FlaskClient, damage: Callable[[], None]
) -> None:
    begin(client)
    damage()
    status, found, _ = ask(app, "sessions", "--full-ids")
    assert (status, [each["sid"] for each in found["sessions"]]) == (0, [OTHER])
    assert ask(app, "stats", "--sizes")[0] == 0
    assert ask(app, "sweep")[0] == 0
    status, found, shown = ask(app, "show", SID[:8])
    assert (status, found["error"]) == (1, "record_damaged")
    assert SID not in shown
    status, found, _ = ask(app, "doctor")
    (finding,) = [each for each in found["findings"] if each["topic"] == "records"]
    assert (status, finding["level"]) == (1, "error")
    assert "1 of 2 records" in finding["message"]
    assert ask(app, "expire", SID[:8])[0] == 0
    assert next(each for each in ask(app, "doctor")[1]["findings"] if each["topic"] == "records")["level"] == "ok"
    assert client.post("/api/increment", headers=as_(SID)).json == {"value": 1, "sid": SID}


def test_a_sweep_ends_the_others(
    app: Flask, client: FlaskClient, silo: Silo, clock: Clock, damage: Callable[[], None]
) -> None:
    expired: list[str] = []
    silo.store.on_expire(expired.append)
    begin(client)
    damage()
    clock.advance(TTL + 1)
    assert ask(app, "sweep")[0] == 0
    assert OTHER in expired


def test_a_damaged_record_of_a_task_does_not_hide_the_session(app: Flask, client: FlaskClient, silo: Silo) -> None:
    begin(client)
    uid = silo.store.uid(SID)
    assert uid is not None
    silo.store.attach(Life(SID, uid), "task:count", Change(0, b"{"))
    status, found, _ = ask(app, "show", SID)
    assert (status, found["tasks"]) == (0, {"count": "damaged"})


def test_a_worker_still_finds_the_session_in_another_application_of_the_module(
    app: Flask, client: FlaskClient, damage: Callable[[], None]
) -> None:
    begin(client)
    damage()
    other = Flask(app.import_name)
    silo = Silo(other, auto_cleanup=False)

    @silo.task
    def work() -> None: ...

    address = TaskAddress(app=app.import_name, task="work", sid=SID, uid=silo.store.get(SID).uid)

    assert find(address)[0].app is other
