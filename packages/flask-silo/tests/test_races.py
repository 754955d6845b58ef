"""Requests whose session another request rotates, ends or resets meanwhile, in this process or in another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo_helpers import HEADER, as_, changes_in_a_get
from issued_ids import app, begin, make, silo, url, with_views
from server_fixtures import redis_server, redis_url
from silo_store.testing import SID, TTL, Clock

__all__ = ["app", "redis_server", "redis_url", "silo", "url"]

pytestmark = pytest.mark.slow


@pytest.fixture
def other(app: Flask, url: str, clock: Clock) -> FlaskClient:
    """Another request; of another process, if processes share sessions."""
    return (app if url.startswith("memory") else with_views(make(url, clock))).test_client()


def test_a_second_edit_begins_nothing_under_a_rotated_id(
    app: Flask, client: FlaskClient, silo: Silo, other: FlaskClient
) -> None:
    @app.get("/api/twice")
    def twice() -> Any:
        with silo.edit("counter") as counter:
            counter["value"] += 10
        other.post("/api/rotate", headers=as_(sid))
        with silo.edit("counter") as counter:
            counter["value"] += 100
        return {}

    sid = begin(client)
    answer = client.get("/api/twice", headers=as_(sid))
    assert (answer.status_code, answer.headers.get(HEADER)) == (409, None)
    (new,) = silo.store.all_sids
    assert new != sid
    assert silo.store.get(new)["counter"] == {"value": 11}, "an edit of a reading request is saved at its end"


@changes_in_a_get
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("use", ["state", "edit", "file"])
@pytest.mark.parametrize("how", ["rotated long ago", "destroyed"])
def test_a_request_begins_nothing_under_an_id_that_was_left(
    app: Flask,
    client: FlaskClient,
    silo: Silo,
    other: FlaskClient,
    clock: Clock,
    tmp_path: Path,
    method: str,
    use: str,
    how: str,
) -> None:
    uploads = silo.add_file_store("uploads", str(tmp_path / "uploads"))

    @app.post("/api/leave")
    def leave() -> Any:
        silo.destroy_current()
        return {}

    @app.route("/api/slow", methods=["GET", "POST"])
    def slow() -> Any:
        mine = silo.sid
        if how == "destroyed":
            app.test_client().post("/api/leave", headers=as_(mine))
        else:
            new = other.post("/api/rotate", headers=as_(mine)).headers[HEADER]
            clock.advance(TTL - 1)
            other.get("/api/idle", headers=as_(new))
            clock.advance(2)  # the store no longer remembers that the id was rotated
        if use == "state":
            silo.state("counter")["value"] += 100
        elif use == "edit":
            with silo.edit("counter") as counter:
                counter["value"] += 100
        else:
            uploads.save(mine, "a.txt", b"1")
        return {}

    sid = begin(client)
    answer = client.open("/api/slow", method=method, headers=as_(sid))
    assert sid not in silo.store.all_sids
    reads_live_objects = silo.store.backend.live and (method, use) == ("GET", "state")  # no change is lost
    assert answer.status_code in ((200, 409) if reads_live_objects else (409, 410))
    assert HEADER not in answer.headers


def test_a_view_that_needs_its_session_gets_410_after_waiting_for_a_log_out(
    app: Flask, client: FlaskClient, silo: Silo, other: FlaskClient
) -> None:
    @app.post("/api/needs-it")
    @silo.requires_session
    def needs_it() -> Any:
        silo.store.destroy(silo.sid)  # by another request, while this one waits for the write lock
        return dict(silo.state("counter"))

    sid = begin(client)
    answer = client.post("/api/needs-it", headers=as_(sid))
    assert (answer.status_code, answer.headers.get(HEADER)) == (410, None)
    assert silo.store.active_count == 0


def test_a_view_that_needs_its_session_does_not_begin_it_again(
    app: Flask, client: FlaskClient, silo: Silo, clock: Clock
) -> None:
    @app.post("/api/needs-it")
    @silo.requires_session
    def needs_it() -> Any:
        clock.advance(TTL + 1)
        return dict(silo.state("counter"))

    sid = begin(client)
    assert client.post("/api/needs-it", headers=as_(sid)).status_code == 410


def test_a_session_that_ended_after_a_commit_is_not_told_as_living(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.get("/api/commit")
    def commit() -> Any:
        silo.commit()
        silo.store.destroy(sid)
        return {"sid": silo.sid}

    sid = begin(client)
    answer = client.get("/api/commit", headers=as_(sid))
    new = answer.headers[HEADER]
    assert answer.json == {"sid": new}
    assert new != sid
    assert silo.store.exists(new)


def test_a_reset_of_what_has_ended_carries_no_id(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/reset")
    def reset() -> Any:
        silo.store.destroy(silo.current.request.sid)
        silo.reset_current()
        return {}

    sid = begin(client)
    answer = client.post("/api/reset", headers=as_(sid))
    assert (answer.status_code, answer.headers.get(HEADER)) == (200, None)
    assert silo.store.active_count == 0


def test_a_reset_is_not_refused_when_the_limit_is_reached(url: str, clock: Clock) -> None:
    silo = make(url, clock, max_sessions=1)
    app = with_views(silo)

    @app.post("/api/reset")
    def reset() -> Any:
        silo.reset_current()
        return dict(silo.state("counter"))

    client = app.test_client()
    sid = begin(client)
    remove = silo.store.backend.remove

    def raced(life: Any) -> bool:
        removed = remove(life)
        assert app.test_client().post("/api/increment").status_code == 200, "the place is free just now"
        return removed

    silo.store.backend.remove = raced  # type: ignore[method-assign]
    answer = client.post("/api/reset", headers=as_(sid))
    assert (answer.status_code, answer.headers[HEADER]) == (200, sid)
    assert app.test_client().post("/api/increment").status_code == 503


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_former_id_of_a_view_that_rotates_is_its_session(
    app: Flask, client: FlaskClient, silo: Silo, tmp_path: Path, method: str
) -> None:
    uploads = silo.add_file_store("uploads", str(tmp_path / "uploads"))

    @app.route("/api/log-in", methods=["GET", "POST"])
    def log_in() -> Any:
        former = silo.sid
        new = silo.rotate()
        uploads.save(former, "a.txt", b"1")
        with silo.edit("counter", sid=former) as counter:
            counter["value"] += 10
        return {"files": uploads.list_files(former), "sid": new}

    for sid in (begin(client), None):
        answer = client.open("/api/log-in", method=method, headers=as_(sid) if sid else {})
        new = answer.headers[HEADER]
        assert answer.json == {"files": ["a.txt"], "sid": new}
        assert uploads.list_files(new) == ["a.txt"]
        assert silo.store.get(new)["counter"]["value"] == (11 if sid else 10)
        assert silo.store.all_sids == [new]
        silo.store.destroy(new)


def test_an_id_that_the_view_takes_from_the_request_is_not_adopted(
    app: Flask, client: FlaskClient, silo: Silo, tmp_path: Path
) -> None:
    uploads = silo.add_file_store("uploads", str(tmp_path / "uploads"))

    @app.post("/api/file")
    def put() -> Any:
        uploads.save(SID, "a.txt", b"1")
        with silo.edit("counter", sid=SID) as counter:
            counter["value"] += 1
        return {"files": uploads.list_files(SID)}

    answer = client.post("/api/file", headers=as_(SID))
    assert answer.json == {"files": ["a.txt"]}
    sid = answer.headers[HEADER]
    assert silo.store.all_sids == [sid]
    assert sid != SID


@pytest.mark.parametrize("path", ["/api/no/such", "/api/abort"])
def test_a_4xx_renews_and_carries_the_id_that_lives(
    app: Flask, client: FlaskClient, silo: Silo, clock: Clock, path: str
) -> None:
    @app.get("/api/abort")
    def abort() -> Any:
        raise KeyError

    @app.errorhandler(KeyError)
    def missing(_error: KeyError) -> Any:
        return {}, 404

    sid = begin(client)
    for _ in range(2):
        clock.advance(TTL)
        answer = client.get(path, headers=as_(sid))
        assert (answer.status_code, answer.headers[HEADER]) == (404, sid)
        assert answer.headers["Cache-Control"] == "no-store"
    assert HEADER not in client.get(path, headers=as_(SID)).headers


def test_an_id_that_the_answer_to_an_error_tells_can_be_used(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/fail")
    def fail() -> Any:
        silo.state("counter")["value"] += 7
        raise KeyError

    @app.errorhandler(KeyError)
    def tell(_error: KeyError) -> Any:
        return {"sid": silo.sid}, 422

    answer = client.post("/api/fail")
    sid = answer.headers[HEADER]
    assert answer.json == {"sid": sid}
    assert client.get("/api/report", headers=as_(sid)).json == {"value": 7 if silo.store.backend.live else 0}
