"""How a request gets its session, and which changes are saved."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from flask import Flask, g, jsonify, request
from flask.testing import FlaskClient
from flask_silo import NamespaceError, SessionExpired, Silo, StoreUnavailable, replies
from flask_silo_helpers import HEADER, as_, changes_in_a_get, counter_app
from silo_store.testing import SID, TTL, Clock, in_threads
from silo_tasks import InlineRunner


def count(client: FlaskClient, sid: str = SID) -> Any:
    return client.get("/api/count", headers=as_(sid)).json["value"]  # type: ignore[index]


def test_each_client_has_its_own_state(client: FlaskClient) -> None:
    first = client.post("/api/increment")
    sid = first.headers[HEADER]
    assert first.json == {"value": 1, "sid": sid}
    assert client.post("/api/increment", headers=as_(sid)).json == {"value": 2, "sid": sid}
    other = client.post("/api/increment")
    assert other.headers[HEADER] != sid
    assert (other.json or {})["value"] == 1


def test_a_client_may_bring_its_own_id_in_header_or_query(client: FlaskClient) -> None:
    assert client.post("/api/increment", headers=as_(f" {SID} ")).headers[HEADER] == SID
    assert client.get(f"/api/count?_sid={SID}").json == {"value": 1}
    assert client.get(f"/api/count?_sid={'b' * 32}", headers=as_(SID)).json == {"value": 1}
    assert client.get(f"/api/count?_sid={SID}", headers=as_("too-short")).json == {"value": 1}


@pytest.mark.parametrize("bad", ["short", "a" * 129, "a" * 20 + "/x", "a" * 20 + ";", "ä" * 20, f"{SID},{SID}", ""])
def test_an_invalid_id_is_answered_with_a_new_one(client: FlaskClient, silo: Silo, bad: str) -> None:
    for answer in (client.post("/api/increment", headers=as_(bad)), client.post(f"/api/increment?_sid={bad}")):
        assert answer.status_code == 200
        assert len(answer.headers[HEADER]) == 32
        assert answer.headers[HEADER] != bad
    assert silo.store.active_count == 2


def test_outside_the_prefix_there_is_no_session(client: FlaskClient, app: Flask, silo: Silo) -> None:
    @app.get("/state")
    def state() -> Any:
        return silo.state("counter")

    answer = client.get("/page", headers=as_(SID))
    assert answer.data == b"page"
    assert HEADER not in answer.headers
    assert "Vary" not in answer.headers
    app.testing = True
    with pytest.raises(RuntimeError, match="api_prefix"):
        client.get("/state", headers=as_(SID))
    for use in (lambda: silo.sid, lambda: silo.state("counter"), lambda: silo.edit().__enter__(), silo.reset_current):
        with pytest.raises(RuntimeError, match="no session here"):
            use()


def test_a_request_that_touches_no_state_creates_nothing_but_renews(
    client: FlaskClient, silo: Silo, clock: Clock
) -> None:
    client.post("/api/idle", headers=as_(SID))
    client.get("/api/missing", headers=as_(SID))
    assert silo.store.active_count == 0
    client.post("/api/increment", headers=as_(SID))
    for _ in range(3):
        clock.advance(TTL)
        client.get("/api/idle", headers=as_(SID))
    assert count(client) == 1


def test_reading_creates_the_session_that_was_read(client: FlaskClient, silo: Silo) -> None:
    assert count(client) == 0
    assert silo.store.exists(SID)


def test_g_is_as_release_0_1_had_it(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/g")
    def through_g() -> Any:
        g.silo["counter"]["value"] += 1
        assert g.silo["counter"] is silo.state("counter") is silo.state()["counter"]
        assert list(g.silo) == ["counter"]
        assert len(g.silo) == 1
        assert silo.state()["_meta"]["sid"] == g.silo_sid
        assert "silo" in g
        assert g.get("silo") is g.silo
        return {"sid": g.silo_sid}

    @app.get("/page-with-g")
    def without() -> Any:
        assert "silo" not in g
        assert g.get("silo") is g.get("silo_sid") is None
        g.silo = "the application's own"
        return {"own": g.silo, "found": "silo" in g and g.get("silo") == g.silo}

    @app.get("/api/own-g")
    def own() -> Any:
        g.silo = "the application's own"
        return {
            "own": g.silo,
            "found": "silo" in g and g.get("silo") == g.silo and g.pop("silo") == "the application's own",
        }

    assert client.post("/api/g", headers=as_(SID)).json == {"sid": SID}
    assert client.get("/api/own-g").json == {"own": "the application's own", "found": True}
    assert client.get("/page-with-g").json == {"own": "the application's own", "found": True}
    assert count(client) == 1


def test_an_unknown_namespace_is_an_error_of_the_application(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.get("/api/typo")
    def typo() -> Any:
        return silo.state("typo")

    assert client.get("/api/typo").status_code == 500
    app.testing = True
    with pytest.raises(NamespaceError, match="'typo'"):
        client.get("/api/typo")


@pytest.mark.parametrize(("status", "kept"), [(200, 1), (302, 1), (404, 1), (500, 0), (503, 0)])
def test_what_answers_5xx_saves_nothing(client: FlaskClient, url: str, status: int, kept: int) -> None:
    client.post(f"/api/answer/{status}", headers=as_(SID))
    live = url == "memory://"  # live objects are changed at once, as they always were
    assert count(client) == (1 if live else kept)


def test_a_view_that_raises_releases_its_write_lock(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/raise")
    def fail() -> Any:
        silo.state("counter")["value"] += 1
        raise ZeroDivisionError

    assert client.post("/api/raise", headers=as_(SID)).status_code == 500
    client.post("/api/increment", headers=as_(SID))
    app.testing = True
    with pytest.raises(ZeroDivisionError):
        client.post("/api/raise", headers=as_(SID))
    app.testing = False
    client.post("/api/increment", headers=as_(SID))
    assert not silo.store.locks.holders


@pytest.mark.slow
def test_writing_requests_run_one_after_the_other(app: Flask, silo: Silo) -> None:
    in_threads(8, lambda _: [app.test_client().post("/api/increment", headers=as_(SID)) for _ in range(50)])
    assert count(app.test_client()) == 400


def test_reading_requests_never_wait(app: Flask, client: FlaskClient, silo: Silo) -> None:
    inside, leave = threading.Event(), threading.Event()

    @app.post("/api/slow")
    def slow() -> Any:
        silo.state("counter")
        inside.set()
        assert leave.wait(30)
        return {}

    client.post("/api/increment", headers=as_(SID))
    writer = threading.Thread(target=lambda: app.test_client().post("/api/slow", headers=as_(SID)))
    writer.start()
    assert inside.wait(30)
    assert count(client) == 1
    assert client.post("/api/idle", headers=as_(SID)).status_code == 200, "no state, no write lock"
    assert client.post("/api/increment", headers=as_("b" * 32)).status_code == 200
    leave.set()
    writer.join(30)


def test_a_write_lock_that_is_not_released_is_answered_with_503(app: Flask, client: FlaskClient, silo: Silo) -> None:
    silo.store.lock_timeout = 0.01
    with silo.store.lock(SID) as lock:
        lock.take(1)
        answer = in_threads(1, lambda _: app.test_client().post("/api/increment", headers=as_(SID)))[0]
    assert (answer.status_code, answer.json["error"], answer.headers["Retry-After"]) == (503, "session_locked", "1")
    assert client.post("/api/increment", headers=as_(SID)).status_code == 200


def test_why_the_server_could_not_answer_is_logged_once_in_a_while(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replies, "_logged", {})

    @app.get("/api/away")
    def away() -> Any:
        raise StoreUnavailable("no folder /there")

    @app.get("/api/gone")
    def gone() -> Any:
        raise SessionExpired(SID)

    answers = [client.get("/api/away", headers=as_(SID)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert not any("there" in answer.text for answer in answers)
    said = "a request was answered with 503 store_unavailable: no folder /there"
    assert [record.getMessage() for record in caplog.records] == [said]
    assert client.get("/api/gone", headers=as_(SID)).status_code == 410
    monkeypatch.setattr(replies, "LOG_EVERY", 0)
    client.get("/api/away", headers=as_(SID))
    assert [record.getMessage() for record in caplog.records] == [said] * 2


def test_a_reading_request_may_edit(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.get("/api/visit")
    def visit() -> Any:
        seen = silo.state("counter")["value"]
        with silo.edit("counter") as counter:
            counter["value"] += 1
        return {"before": seen, "after": silo.state("counter")["value"]}

    in_threads(4, lambda _: [app.test_client().get("/api/visit", headers=as_(SID)) for _ in range(25)])
    assert count(client) == 100


@changes_in_a_get
def test_of_two_reading_requests_that_change_the_same_the_later_is_told(
    app: Flask, client: FlaskClient, silo: Silo, url: str
) -> None:
    @app.get("/api/careless")
    def careless() -> Any:
        silo.state("counter")["value"] += 1
        other = client.post("/api/increment", headers=as_(SID))
        assert other.status_code == 200
        return {}

    client.post("/api/increment", headers=as_(SID))
    answer = app.test_client().get("/api/careless", headers=as_(SID))
    if url == "memory://":
        assert count(client) == 3
    else:
        assert (answer.status_code, (answer.json or {})["error"]) == (409, "session_conflict")
        assert count(client) == 2


def test_edit_in_a_writing_request_belongs_to_the_request(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/twice")
    def twice() -> Any:
        with silo.edit("counter") as counter:
            counter["value"] += 1
        with silo.edit() as session:
            session["counter"]["value"] += 1
        with silo.store.edit(silo.sid, "counter") as counter:
            counter["value"] += 1
        with silo.edit("counter", sid="b" * 32) as other:
            other["value"] = 7
        return jsonify(silo.state("counter"))

    assert client.post("/api/twice", headers=as_(SID)).json == {"value": 3}
    assert (count(client), count(client, "b" * 32)) == (3, 7)


def test_commit_saves_now(app: Flask, client: FlaskClient, silo: Silo) -> None:
    seen: list[Any] = []

    @app.post("/api/commit")
    def commit() -> Any:
        silo.state("counter")["value"] += 1
        silo.commit()
        seen.append(count(app.test_client()))
        silo.state("counter")["value"] += 1
        raise ZeroDivisionError

    client.post("/api/commit", headers=as_(SID))
    assert seen == [1]
    assert count(client) in (1, 2)


def test_reset_destroy_and_rotate(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/reset")
    def reset() -> Any:
        silo.state("counter")["value"] = 99
        silo.reset_current()
        return jsonify(silo.state("counter"))

    @app.post("/api/destroy")
    def destroy() -> Any:
        silo.state("counter")["value"] = 99
        silo.destroy_current()
        return {}

    @app.post("/api/rotate")
    def rotate() -> Any:
        silo.state("counter")["value"] += 1
        new = silo.rotate()
        silo.state("counter")["value"] += 1
        return {"sid": new, "same": silo.sid == new}

    client.post("/api/increment", headers=as_(SID))
    assert client.post("/api/reset", headers=as_(SID)).json == {"value": 0}
    assert client.post("/api/reset", headers=as_("c" * 32)).json == {"value": 0}
    assert count(client) == 0

    client.post("/api/increment", headers=as_(SID))
    rotated = client.post("/api/rotate", headers=as_(SID))
    new = rotated.headers[HEADER]
    assert rotated.json == {"sid": new, "same": True}
    assert new != SID
    assert not silo.store.exists(SID)
    assert count(client, new) == 3
    fresh = client.post("/api/rotate", headers=as_("d" * 32)).headers[HEADER]
    assert count(client, fresh) == 2

    gone = client.post("/api/destroy", headers=as_(new))
    assert gone.headers[HEADER] != new
    assert not silo.store.exists(new)
    assert not silo.store.exists(gone.headers[HEADER])
    assert not silo.store.locks.holders


def test_the_response_tells_caches_and_browsers_about_the_header(app: Flask, client: FlaskClient) -> None:
    @app.get("/api/varied")
    def varied() -> Any:
        return "", 200, {"Vary": "Accept, x-session-id", "Access-Control-Expose-Headers": "X-Other"}

    plain = client.get("/api/idle")
    assert plain.headers.get("Vary") == HEADER
    assert "Access-Control-Expose-Headers" not in plain.headers
    crossed = client.get("/api/varied", headers={"Origin": "http://other.example"})
    assert crossed.headers["Vary"] == "Accept, x-session-id"
    assert crossed.headers["Access-Control-Expose-Headers"] == f"X-Other, {HEADER}"


def test_a_page_of_another_origin_can_read_the_id_and_its_preflight_begins_no_session(
    app: Flask, client: FlaskClient, silo: Silo
) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10
    origin = {"Origin": "http://other.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": HEADER.lower()}
    preflight = client.options("/api/increment", headers={**origin, **asked})
    assert preflight.status_code == 200
    assert silo.store.active_count == 0
    refused = client.post("/api/upload", headers={**origin, **as_(SID)}, data=b"x" * 11)
    assert refused.status_code == 413
    for answer in (preflight, refused, client.post("/api/increment", headers=origin)):
        assert answer.headers["Access-Control-Expose-Headers"] == HEADER


def test_a_kept_context_keeps_the_session(app: Flask, silo: Silo) -> None:
    with app.test_client() as client:
        client.post("/api/increment", headers=as_(SID))
        assert silo.sid == SID
        assert silo.state("counter") == {"value": 1}
    with pytest.raises(RuntimeError):
        silo.sid  # noqa: B018 - the access raises


def test_a_request_within_a_request_has_its_own_session(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/outer")
    def outer() -> Any:
        silo.state("counter")["value"] += 1
        inner = app.test_client().post("/api/increment", headers=as_("b" * 32))
        page = app.test_client().get("/page")
        return {"inner": inner.json, "page": page.text, "sid": silo.sid, **silo.state("counter")}

    answer: Any = client.post("/api/outer", headers=as_(SID)).json
    assert answer == {"inner": {"value": 1, "sid": "b" * 32}, "page": "page", "sid": SID, "value": 1}


def test_a_view_keeps_its_session_in_other_contexts(app: Flask, client: FlaskClient, silo: Silo) -> None:
    plain = Flask("plain")
    plain.add_url_rule("/", view_func=lambda: silo.sid)

    @app.post("/api/outer")
    def outer() -> Any:
        silo.state("counter")["value"] += 1
        with app.test_request_context("/page"):
            silo.state("counter")["value"] += 10
        with plain.app_context():
            silo.state("counter")["value"] += 100
        return plain.test_client().get("/").text

    assert client.post("/api/outer", headers=as_(SID)).text == SID
    assert count(client) == 111


def test_a_view_may_pass_on_the_environment_of_its_request(
    app: Flask, client: FlaskClient, silo: Silo, url: str, clock: Clock
) -> None:
    other = Silo(store_url=url, auto_cleanup=False, clock=clock, accept_client_ids=True)
    other.register("counter", lambda: {"value": 100})
    inner = counter_app(other)

    @app.post("/api/increment_both")
    def both() -> Any:
        silo.state("counter")["value"] += 1
        environ = request.environ
        environ["PATH_INFO"] = "/api/increment"
        body = b"".join(inner.wsgi_app(environ, lambda *_: lambda _: None))
        silo.state("counter")["value"] += 1
        return json.loads(body)

    assert client.post("/api/increment_both", headers=as_(SID)).json == {"value": 101, "sid": SID}
    assert count(client) == 2
    assert other.store.get_namespace(SID, "counter") == {"value": 101}


def test_a_view_may_use_the_silo_of_another_application(
    app: Flask, client: FlaskClient, silo: Silo, url: str, clock: Clock
) -> None:
    other = Silo(store_url=url, auto_cleanup=False, clock=clock)
    other.register("counter", lambda: {"value": 0})
    theirs = counter_app(other).test_client()

    @silo.task(name="work", runner=InlineRunner())
    @other.task(name="work")
    def work() -> None:
        with other.edit("counter", sid=SID) as counter:
            counter["value"] += 100

    @app.post("/api/both")
    def both() -> Any:
        silo.state("counter")["value"] += 1
        with other.edit("counter", sid=SID) as counter:
            counter["value"] += 10
        with pytest.raises(RuntimeError, match="no session here"):
            other.state("counter")
        with pytest.raises(RuntimeError, match="no session here"):
            other.current.request  # noqa: B018 - the access raises
        work.start()
        return {}

    assert client.post("/api/both", headers=as_(SID)).json == {}
    assert client.get("/api/count", headers=as_(SID)).json == {"value": 1}
    assert theirs.get("/api/count", headers=as_(SID)).json == {"value": 110}


def test_a_late_after_request_function_may_still_change_state(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.after_request
    def stamp(response: Any) -> Any:
        silo.state("counter")["value"] += 10
        return response

    client.post("/api/increment", headers=as_(SID))
    assert silo.store.get(SID)["counter"] == {"value": 11}
