"""A session as a mapping, in views, tasks and busy checks: ``[]``, ``in`` and ``get`` agree, also on ``_meta``."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, g
from flask.testing import FlaskClient
from flask_silo import NamespaceError, Silo
from flask_silo_helpers import HEADER


def check(session: Any, sid: str) -> None:
    assert "_meta" in session, "before anything was read"
    assert "counter" in session
    assert "typo" not in session
    assert session.get("typo") is None
    with pytest.raises(NamespaceError):
        session["typo"]
    assert session.get("counter") is session["counter"]
    meta = session.get("_meta")
    assert meta == session["_meta"]
    assert meta["sid"] == sid
    assert isinstance(meta["created_at"], float)
    assert isinstance(meta["last_active"], float)
    assert "_meta" not in list(session)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("what", ["g", "state", "edit", "edit lazily"])
def test_a_view_finds_the_same_by_every_way(
    app: Flask, client: FlaskClient, silo: Silo, what: str, method: str
) -> None:
    @app.route("/api/view", methods=[method])
    def view() -> Any:
        if what == "g":
            check(g.silo, silo.sid)
        elif what == "state":
            check(silo.state(), silo.sid)
        else:
            with silo.edit(lazy=what == "edit lazily") as session:
                check(session, silo.sid)
        return {}

    sid = client.post("/api/increment").headers[HEADER]
    for headers in ({HEADER: sid}, {}):  # a session that lives, and one that begins
        answer = client.open("/api/view", method=method, headers=headers)
        assert answer.status_code == 200


def test_a_task_finds_the_same(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @silo.task
    def work() -> str:
        check(silo.state(), silo.sid)
        for lazy in (False, True):
            with silo.edit(lazy=lazy) as session:
                check(session, silo.sid)
        return "checked"

    @app.post("/api/start")
    def start() -> Any:
        silo.state("counter")
        work.start()
        return {}

    @app.get("/api/result")
    def result() -> Any:
        return {"value": work.result(30)}

    sid = client.post("/api/start").headers[HEADER]
    assert client.get("/api/result", headers={HEADER: sid}).json == {"value": "checked"}


def test_a_busy_check_finds_the_same(app: Flask, client: FlaskClient, silo: Silo) -> None:
    asked: list[str] = []

    def is_busy(sid: str, session: dict[str, Any]) -> bool:
        check(session, sid)
        asked.append(sid)
        return True

    @app.post("/api/reset")
    def reset() -> Any:
        silo.reset_current()
        return {}

    silo.store.set_busy_check(is_busy)
    sid = client.post("/api/increment").headers[HEADER]
    assert client.post("/api/reset", headers={HEADER: sid}).status_code == 409
    assert asked == [sid]


def test_what_a_factory_raises_is_not_taken_for_a_missing_namespace(
    app: Flask, client: FlaskClient, silo: Silo
) -> None:
    empty: dict[str, int] = {}
    found: list[str] = []

    @app.get("/api/broken")
    def broken() -> Any:
        silo.register("broken", lambda: empty["no such key"])
        for ask in (lambda: "broken" in g.silo, lambda: g.silo.get("broken"), lambda: g.silo["broken"]):
            try:
                found.append(str(ask()))
            except KeyError as error:
                found.append(repr(error))
        return {}

    sid = client.post("/api/increment").headers[HEADER]
    client.get("/api/broken", headers={HEADER: sid})
    assert found[0] != "False"
    assert found[1:] == ["KeyError('no such key')"] * 2
