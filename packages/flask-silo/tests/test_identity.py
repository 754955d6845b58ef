"""The session of a request: the server issues ids, and an id is settled when it is first needed."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, g, stream_with_context
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo.request import client_id
from flask_silo_helpers import HEADER, as_
from issued_ids import RETAIN, SHARED, app, begin, make, silo, url, with_views
from links import RoundTrips
from server_fixtures import redis_server, redis_url
from servers import RedisServer
from silo_store.testing import SID, TTL, Clock

__all__ = ["app", "redis_server", "redis_url", "silo", "url"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_id_that_was_never_issued_is_not_adopted(client: FlaskClient, silo: Silo, method: str) -> None:
    path = "/api/count" if method == "GET" else "/api/increment"
    answer = client.open(path, method=method, headers=as_(SID))
    given = answer.headers[HEADER]
    assert given != SID
    assert silo.store.exists(given)
    assert not silo.store.exists(SID)
    assert not silo.store.locks.holders
    assert client.open(path, method=method, headers=as_(given)).headers[HEADER] == given


@pytest.mark.parametrize("sid", [None, SID])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_uses_no_state_gets_no_id(client: FlaskClient, silo: Silo, method: str, sid: str | None) -> None:
    answer = client.open("/api/idle", method=method, headers=as_(sid) if sid else {})
    assert answer.status_code == 200
    assert HEADER not in answer.headers
    assert answer.headers["Vary"] == HEADER
    assert silo.store.active_count == 0


def test_a_living_id_is_sent_back_and_its_session_renewed(client: FlaskClient, clock: Clock) -> None:
    sid = begin(client)
    for path in ("/api/idle", "/api/sid", "/api/count", "/api/report", "/api/tasks/work"):
        clock.advance(TTL)
        assert client.get(path, headers=as_(sid)).headers[HEADER] == sid, path
    clock.advance(TTL)
    assert client.post("/api/increment", headers=as_(sid)).json == {"value": 2, "sid": sid}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_session_that_expires_during_its_request_begins_again(
    app: Flask, client: FlaskClient, silo: Silo, clock: Clock, method: str
) -> None:
    def late() -> Any:
        sid = silo.sid
        silo.store.expire(sid)
        return {"sid": sid, "state": dict(silo.state("counter")), "same": silo.sid == sid}

    app.add_url_rule("/api/late", view_func=late, methods=[method])
    sid = begin(client)
    answer = client.open("/api/late", method=method, headers=as_(sid))
    known = {"value": 1} if method == "GET" else {"value": 0}  # a request that reads has loaded the session by then
    assert answer.json == {"sid": sid, "state": known, "same": True}
    assert silo.store.exists(sid) is (method == "POST")


def test_a_request_knows_the_uid_once_its_session_has_begun(app: Flask, client: FlaskClient, silo: Silo) -> None:
    def look() -> Any:
        return {"before": silo.uid, "sid": silo.sid, "settled": silo.uid}

    app.add_url_rule("/api/look", view_func=look, methods=["GET", "POST"])
    sid = begin(client)
    uid = silo.store.uid(sid)
    for method in ("GET", "POST"):
        answer = client.open("/api/look", method=method, headers=as_(sid))
        assert answer.json == {"before": uid, "sid": sid, "settled": uid}


@pytest.mark.parametrize("url", ["memory://?copy=1", "sqlite"], indirect=True)
def test_a_session_that_was_read_and_not_stored_has_no_uid(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.get("/api/read")
    def read() -> Any:
        return {"state": dict(silo.state("counter")), "uid": silo.uid}

    assert client.get("/api/read").json == {"state": {"value": 0}, "uid": None}


def test_a_whole_session_has_all_namespaces_in_a_request_that_writes(
    app: Flask, client: FlaskClient, silo: Silo
) -> None:
    @app.post("/api/names")
    def names() -> Any:
        with silo.edit() as session:
            return sorted(session)

    silo.register("notes", list)
    assert client.post("/api/names", headers=as_(begin(client))).json == ["counter", "notes"]


def test_a_hook_that_asks_for_state_begins_the_session_that_a_view_requires(
    app: Flask, client: FlaskClient, silo: Silo, clock: Clock
) -> None:
    asks: list[str] = []

    @app.before_request
    def ask() -> None:
        for namespace in asks:
            silo.state(namespace)

    sid = begin(client)
    clock.advance(TTL + 1)
    assert client.get("/api/mine", headers=as_(sid)).status_code == 410
    asks.append("counter")
    assert client.get("/api/mine", headers=as_(sid)).json == {"value": 0}


def test_an_id_that_was_never_issued_is_logged_once(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/api/count", "/api/report"):  # the latter needs a session
        monkeypatch.setattr(client_id, "_refused", False)
        caplog.clear()
        client.get(path, headers=as_(begin(client)))
        client.get("/api/idle", headers=as_(SID))
        assert caplog.messages == []
        for _ in range(2):
            client.get(path, headers=as_(SID))
        (said,) = caplog.messages
        assert "SILO_ACCEPT_CLIENT_IDS" in said
        assert SID not in said


def test_an_id_that_a_client_may_choose_is_not_logged(
    url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client_id, "_refused", False)
    client = with_views(make(url, clock, accept_client_ids=True)).test_client()
    for path in ("/api/count", "/api/report"):
        assert client.get(path, headers=as_(SID)).headers[HEADER] == SID
    assert caplog.messages == []


def test_an_expired_id_begins_again_until_it_is_forgotten(client: FlaskClient, silo: Silo, clock: Clock) -> None:
    for swept in (False, True):
        sid = begin(client)
        clock.advance(TTL + 1)
        if swept:
            silo.store.cleanup()
        assert client.post("/api/increment", headers=as_(sid)).json == {"value": 1, "sid": sid}
        clock.advance(TTL + 1)
        assert client.get("/api/count", headers=as_(sid)).headers[HEADER] == sid
    clock.advance(TTL + 1)
    silo.store.cleanup()
    clock.advance(RETAIN + 1)
    assert client.post("/api/increment", headers=as_(sid)).headers[HEADER] != sid


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_needs_a_session_answers_410_for_any_id_that_does_not_live(
    client: FlaskClient, silo: Silo, clock: Clock, method: str
) -> None:
    sid = begin(client)
    assert client.open("/api/report", method=method, headers=as_(sid)).json == {"value": 1}
    clock.advance(TTL + 1)
    for dead in (sid, SID):
        for path in ("/api/report", "/api/mine", "/api/tasks/work", "/api/tasks/events"):
            answer = client.open(path, method=method if path == "/api/report" else "GET", headers=as_(dead))
            assert (answer.status_code, (answer.json or {})["error"]) == (410, "session_expired"), path
            assert HEADER not in answer.headers
    assert client.open("/api/report", method=method).status_code == 200, "a new client"
    assert client.open("/api/report", method=method, headers=as_("too-short")).status_code == 200


def test_an_id_that_may_have_been_lost_gets_410_or_a_new_one(clock: Clock, tmp_path: Path) -> None:
    silo = make(f"sqlite:///{tmp_path}/sessions.db", clock)
    client = with_views(silo).test_client()
    sid = begin(client)
    for file in tmp_path.glob("sessions.db*"):
        if not file.name.endswith("-locks"):
            file.unlink()
    silo.store.backend.close()
    assert client.get("/api/report", headers=as_(sid)).status_code == 410
    assert silo.store.lookup(sid).status == "lost"
    assert client.post("/api/increment", headers=as_(sid)).headers[HEADER] != sid


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("presented", [None, SID])
def test_a_client_can_use_an_id_that_it_was_sent(
    client: FlaskClient, silo: Silo, method: str, presented: str | None
) -> None:
    answer = client.open("/api/sid", method=method, headers=as_(presented) if presented else {})
    sid = answer.headers[HEADER]
    assert answer.json == {"sid": sid, "g": sid, "get": sid}
    assert sid != presented
    assert silo.store.exists(sid)
    assert client.get("/api/report", headers=as_(sid)).json == {"value": 0}


def test_a_view_that_fails_hands_out_no_id_that_leads_nowhere(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/fail")
    def fail() -> Any:
        silo.sid  # noqa: B018 - the access settles the id
        raise ZeroDivisionError

    answer = client.post("/api/fail", headers=as_(SID))
    assert answer.status_code == 500
    assert HEADER not in answer.headers
    assert silo.store.active_count == 0
    sid = begin(client)
    assert client.post("/api/fail", headers=as_(sid)).headers[HEADER] == sid


def test_a_file_is_saved_under_the_settled_id(app: Flask, client: FlaskClient, silo: Silo, tmp_path: Path) -> None:
    uploads = silo.add_file_store("uploads", str(tmp_path / "uploads"))

    @app.put("/api/file")
    def put() -> Any:
        uploads.save(silo.sid, "a.txt", b"1")
        return {"files": uploads.list_files(silo.sid)}

    answer = client.put("/api/file", headers=as_(SID))
    sid = answer.headers[HEADER]
    assert sid != SID
    assert answer.json == {"files": ["a.txt"]}
    assert uploads.list_files(sid) == ["a.txt"]
    assert silo.store.exists(sid)


def test_an_ended_session_gives_its_client_no_id(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/leave")
    def leave() -> Any:
        silo.destroy_current()
        return {}

    @app.post("/api/leave-and-come-back")
    def come_back() -> Any:
        silo.destroy_current()
        return dict(silo.state("counter"))

    sid = begin(client)
    assert HEADER not in client.post("/api/leave", headers=as_(sid)).headers
    assert client.get("/api/report", headers=as_(sid)).status_code == 410
    sid = begin(client)
    answer = client.post("/api/leave-and-come-back", headers=as_(sid))
    assert answer.json == {"value": 0}
    assert answer.headers[HEADER] != sid
    assert client.get("/api/report", headers=as_(answer.headers[HEADER])).status_code == 200


def test_looking_at_what_there_is_begins_nothing(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.route("/api/look", methods=["GET", "POST"])
    def look() -> Any:
        return {"uid": silo.uid, "running": silo.binding.declared["work"].state.running}

    for method in ("GET", "POST"):
        for headers in ({}, as_(SID)):
            answer = client.open("/api/look", method=method, headers=headers)
            assert answer.json == {"uid": None, "running": False}
            assert HEADER not in answer.headers
        sid = begin(client)
        answer = client.open("/api/look", method=method, headers=as_(sid))
        assert (answer.json or {})["uid"] == silo.store.uid(sid) != ""
        assert answer.headers[HEADER] == sid


def test_clients_may_choose_their_ids_where_that_is_set(url: str, clock: Clock) -> None:
    app = with_views(make(url, clock, accept_client_ids=True))
    client = app.test_client()
    assert client.get("/api/idle", headers=as_(SID)).headers[HEADER] == SID
    assert len(client.get("/api/idle").headers[HEADER]) == 32
    assert client.get("/api/report", headers=as_(SID)).status_code == 200, "not known at all, so new"
    assert client.post("/api/increment", headers=as_(SID)).json == {"value": 1, "sid": SID}
    assert client.get("/api/sid", headers=as_("b" * 32)).json == {"sid": "b" * 32, "g": "b" * 32, "get": "b" * 32}
    clock.advance(TTL + 1)
    assert client.get("/api/report", headers=as_(SID)).status_code == 410


def test_round_trips_to_redis(redis_server: RedisServer, redis_url: str, clock: Clock) -> None:
    with RoundTrips(redis_server.port) as link:
        client = with_views(make(f"redis://127.0.0.1:{link.port}/0", clock)).test_client()
        sid = begin(client)

        def trips(method: str, path: str, sid: str | None = sid) -> int:
            link.reset()
            client.open(path, method=method, headers=as_(sid) if sid else {})
            return link.count

        for path in ("/api/idle", "/api/report", "/api/increment"):  # From now on the server knows each script.
            client.get(path, headers=as_(sid))
            client.post(path, headers=as_(sid))
        assert trips("GET", "/api/idle", None) == trips("GET", "/api/report", "too-short-to-be") - 1 == 0
        assert trips("GET", "/api/idle") == 1
        assert trips("GET", "/api/count") == 1
        assert trips("GET", "/api/report") == 1
        assert trips("POST", "/api/increment") == 2
        assert trips("POST", "/api/report") == 3, "the look, the claim with the load, the write or release"
        assert trips("GET", "/api/report", SID) == 1
        assert trips("POST", "/api/report", SID) == 1, "no claim"
        assert trips("GET", "/api/count", None) == 1
        assert trips("GET", "/api/count", SID) == 2
        assert trips("GET", "/api/sid") == 1


# An id that was rotated


def test_a_request_under_way_does_not_follow_its_session_to_another_id(app: Flask, silo: Silo) -> None:
    """It gets 409, whether or not its client holds the new id by then."""
    inside, leave = threading.Event(), threading.Event()
    answers: list[Any] = []

    @app.get("/api/slow")
    def slow() -> Any:
        counter = silo.state("counter")
        inside.set()
        assert leave.wait(30)
        counter["value"] += 100
        return dict(counter)

    client = app.test_client()
    sid = begin(client)
    thread = threading.Thread(target=lambda: answers.append(app.test_client().get("/api/slow", headers=as_(sid))))
    thread.start()
    assert inside.wait(30)
    new = client.post("/api/rotate", headers=as_(sid)).headers[HEADER]
    leave.set()
    thread.join(30)
    assert (answers[0].status_code, answers[0].json["error"]) == (409, "session_rotated")
    assert HEADER not in answers[0].headers
    assert answers[0].headers["Cache-Control"] == "no-store"
    if not silo.store.backend.live:  # live objects are changed at once
        assert client.get("/api/count", headers=as_(new)).json == {"value": 1}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("use", ["state", "edit", "file"])
def test_a_request_that_knew_the_id_begins_nothing_under_it(
    app: Flask, client: FlaskClient, silo: Silo, url: str, clock: Clock, tmp_path: Path, method: str, use: str
) -> None:
    uploads = silo.add_file_store("uploads", str(tmp_path / "uploads"))

    @app.route("/api/slow", methods=["GET", "POST"])
    def slow() -> Any:
        settled = silo.sid
        elsewhere.post("/api/rotate", headers=as_(settled))
        if use == "state":
            silo.state("counter")
        elif use == "edit":
            with silo.edit("counter"):
                pass
        else:
            uploads.save(settled, "a.txt", b"1")
        return {}

    elsewhere = app.test_client() if url.startswith("memory") else with_views(make(url, clock)).test_client()
    sid = begin(client)
    answer = client.open("/api/slow", method=method, headers=as_(sid))
    if use == "state" and method == "GET" and silo.store.backend.shared:
        assert answer.status_code == 200, "it has read before that, and writes nothing"
    else:
        assert (answer.status_code, (answer.json or {})["error"]) == (409, "session_rotated")
        assert HEADER not in answer.headers
    (new,) = silo.store.all_sids
    assert new != sid
    assert uploads.list_files(new) == []


@pytest.mark.parametrize("how", ["edit", "404", "sid"])
def test_a_request_under_way_neither_edits_nor_carries_the_old_id(
    app: Flask, client: FlaskClient, silo: Silo, how: str
) -> None:
    @app.get("/api/slow")
    def slow() -> Any:
        if how == "sid":
            silo.sid  # noqa: B018 - the access settles the id
        else:
            silo.state("counter")
        app.test_client().post("/api/rotate", headers=as_(sid))
        if how == "edit":
            with silo.edit("counter") as counter:
                counter["value"] += 100
        return {}, 404 if how == "404" else 200

    sid = begin(client)
    answer = client.get("/api/slow", headers=as_(sid))
    assert (answer.status_code, (answer.json or {}).get("error")) == (409, "session_rotated")
    assert HEADER not in answer.headers
    (new,) = silo.store.all_sids
    assert client.get("/api/count", headers=as_(new)).json == {"value": 1}


@pytest.mark.parametrize(
    ("url", "process"),
    [
        ("memory://", "same"),
        ("memory://?copy=1", "same"),
        ("sqlite", "same"),
        ("sqlite", "other"),
        pytest.param("redis", "same", marks=pytest.mark.slow),
        pytest.param("redis", "other", marks=pytest.mark.slow),
    ],
    indirect=["url"],
)
def test_an_upload_under_way_replaces_no_file_of_a_session_with_another_id(
    app: Flask, client: FlaskClient, silo: Silo, url: str, clock: Clock, tmp_path: Path, process: str
) -> None:
    uploads = silo.add_file_store("uploads", str(tmp_path / "uploads"))
    elsewhere = client if process == "same" else with_views(make(url, clock)).test_client()

    class Body(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            block = super().read(size)
            if block and self.tell() == 3:
                elsewhere.post("/api/rotate", headers=as_(sid))
            return block

        readinto = None  # type: ignore[assignment]

    @app.put("/api/file")
    def put() -> Any:
        uploads.save(silo.sid, "a.txt", b"old")
        return {}

    @app.get("/api/slow")
    def slow() -> Any:
        uploads.save(silo.sid, "a.txt", Body(b"new"))
        return {}

    sid = begin(client)
    assert client.put("/api/file", headers=as_(sid)).status_code == 200
    answer = client.get("/api/slow", headers=as_(sid))
    assert (answer.status_code, (answer.json or {})["error"]) == (409, "session_rotated")
    assert HEADER not in answer.headers
    (new,) = silo.store.all_sids
    assert new != sid
    with uploads.open(new, "a.txt") as file:
        assert file.read() == b"old"


@pytest.mark.parametrize("path", ["/api/increment", "/api/report", "/api/rotate", "/api/sid"])
def test_a_request_that_waited_or_comes_late_with_the_old_id_gets_409(
    client: FlaskClient, silo: Silo, clock: Clock, path: str
) -> None:
    sid = begin(client)
    new = client.post("/api/rotate", headers=as_(sid)).headers[HEADER]
    late = client.post(path, headers=as_(sid))
    assert (late.status_code, (late.json or {})["error"]) == (409, "session_rotated")
    assert HEADER not in late.headers
    assert client.get("/api/idle", headers=as_(sid)).status_code == 200
    assert client.get("/api/count", headers=as_(new)).json == {"value": 1}
    assert silo.store.active_count == 1
    clock.advance(61)  # longer than any such request takes; and the touch interval, so that the new session lives
    silo.store.cleanup()
    assert silo.store.lookup(sid).status == "unknown"


@pytest.mark.parametrize("url", SHARED, indirect=True)
def test_another_process_that_rotates_later_is_believed(url: str, clock: Clock, tmp_path: Path) -> None:
    one, two = (with_views(make(url, clock)).test_client() for _ in range(2))
    sid = begin(one)
    sid = one.post("/api/rotate", headers=as_(sid)).headers[HEADER]
    sid = two.post("/api/rotate", headers=as_(sid)).headers[HEADER]
    assert one.post("/api/increment", headers=as_(sid)).json == {"value": 2, "sid": sid}
    assert one.get("/api/report", headers=as_(sid)).headers[HEADER] == sid


@pytest.mark.parametrize("url", SHARED, indirect=True)
def test_a_writing_request_of_another_process_that_waited_gets_409(url: str, clock: Clock) -> None:
    one, two = make(url, clock), make(url, clock)
    first, second = with_views(one), with_views(two)
    inside, leave = threading.Event(), threading.Event()
    answers: list[Any] = []

    @first.post("/api/log-in")
    def log_in() -> Any:
        one.state("counter")
        inside.set()
        assert leave.wait(30)
        one.rotate()
        return {}

    sid = begin(first.test_client())
    threads = [
        threading.Thread(target=lambda a=a, p=p: answers.append(a.test_client().post(p, headers=as_(sid))))
        for a, p in ((first, "/api/log-in"), (second, "/api/increment"))
    ]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join(30)
    found = {answer.status_code: answer for answer in answers}
    if 409 in found:
        assert found[409].json["error"] == "session_rotated"
        assert two.store.active_count == 1
    else:  # it was the first in the queue
        assert [answer.status_code for answer in answers] == [200, 200]


# After the response has started


def test_a_session_cannot_begin_after_the_response_has_started(app: Flask, client: FlaskClient, silo: Silo) -> None:
    refused: list[str] = []

    @app.get("/api/stream")
    def stream() -> Any:
        def lines() -> Iterator[str]:
            yield "a"
            for use in (
                lambda: silo.state("counter"),
                lambda: silo.state(),
                lambda: silo.sid,
                lambda: silo.edit("counter").__enter__(),
                lambda: g.silo["counter"],
            ):
                with pytest.raises(RuntimeError, match=r"silo\.edit") as caught:
                    use()
                refused.append(str(caught.value))

        return Response(stream_with_context(lines()))

    @app.get("/api/read")
    def read() -> Any:
        def lines() -> Iterator[str]:
            yield "a"
            yield str(silo.state("counter")["value"])

        return Response(stream_with_context(lines()))

    for headers in ({}, as_(SID)):
        answer = client.get("/api/stream", headers=headers)
        assert answer.text == "a"
        assert HEADER not in answer.headers
    assert len(refused) == 10
    assert silo.store.active_count == 0
    sid = begin(client)

    assert client.get("/api/read", headers=as_(sid)).text == "a1"


def test_a_namespace_is_not_replaced_after_the_response_has_started(
    app: Flask, client: FlaskClient, silo: Silo
) -> None:
    visits = silo.register("visits", int)

    @app.post("/api/stream")
    def stream() -> Any:
        visits.state = 1

        def lines() -> Iterator[str]:
            yield "a"
            with pytest.raises(RuntimeError, match=r"silo\.edit"):
                visits.state = 2
            with pytest.raises(RuntimeError, match=r"silo\.edit"):
                g.silo["visits"] = 2
            with silo.edit() as session:
                session["visits"] += 4
            yield str(visits.state)

        return Response(stream_with_context(lines()))

    assert client.post("/api/stream").text == "a5"


def late_changes(app: Flask, silo: Silo) -> None:
    @app.post("/api/stream")
    def stream() -> Any:
        counter = silo.state("counter")

        def lines() -> Iterator[str]:
            yield "a"
            counter["value"] += 1

        return Response(stream_with_context(lines()))

    @app.post("/api/stream/found")
    def found() -> Any:
        silo.sid  # noqa: B018 - the access begins the session

        def lines() -> Iterator[str]:
            yield "a"
            silo.state("counter")["value"] += 1

        return Response(stream_with_context(lines()))

    @app.post("/api/close")
    def close() -> Any:
        counter = silo.state("counter")
        response = Response("a")
        response.call_on_close(lambda: counter.update(value=7))
        return response


@pytest.mark.parametrize("path", ["/api/stream", "/api/stream/found", "/api/close"])
def test_a_change_that_came_too_late_is_an_error_where_copies_are_kept(
    app: Flask, client: FlaskClient, silo: Silo, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    late_changes(app, silo)

    def ask() -> None:
        answer = client.post(path)
        assert answer.text == "a"
        answer.close()

    for _ in range(2):
        ask()
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    if silo.store.backend.live:
        assert errors == []
        return
    assert len(errors) == 1, "once for each endpoint"
    assert "'counter'" in errors[0]
    assert "silo.edit" in errors[0]
    app.testing = True
    with pytest.raises(RuntimeError, match=r"silo\.edit"):
        ask()
    if path != "/api/close":
        with pytest.raises(RuntimeError, match=r"silo\.edit"):
            client.post(path).text  # noqa: B018 - it reads the body, and closes nothing


@pytest.mark.parametrize("url", ["memory://?copy=1"], indirect=True)
def test_a_change_that_a_hook_makes_too_late_is_logged_without_the_path(
    app: Flask, client: FlaskClient, silo: Silo, caplog: pytest.LogCaptureFixture
) -> None:
    """A client chooses the path of a URL without a view."""

    @app.before_request
    def stream() -> Response:
        counter = silo.state("counter")

        def lines() -> Iterator[str]:
            yield "a"
            counter["value"] += 1

        return Response(lines())

    for path in ("/api/none", "/api/other%0AERROR forged"):
        assert client.post(path).text == "a"
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "the change is lost: 'counter' (a hook or an error handler)" in said


def test_a_stream_is_closed_whether_it_was_read_or_not(app: Flask, client: FlaskClient, silo: Silo) -> None:
    closed: list[str] = []

    class Lines:
        def __iter__(self) -> Iterator[str]:
            return iter(["a", "b"])

        def close(self) -> None:
            closed.append("closed")

    @app.get("/api/stream")
    def stream() -> Any:
        silo.state("counter")
        return Response(Lines())

    for read in (False, True):
        answer = client.get("/api/stream")
        if read:
            assert answer.text == "ab"
        answer.close()
        assert closed.pop() == "closed"
        assert closed == []


def test_a_stream_that_changes_nothing_or_edits_causes_no_error(
    app: Flask, client: FlaskClient, silo: Silo, caplog: pytest.LogCaptureFixture
) -> None:
    app.testing = True

    @app.post("/api/stream")
    def stream() -> Any:
        silo.state("counter")["value"] += 1

        def lines() -> Iterator[str]:
            yield str(silo.state("counter")["value"])
            with silo.edit("counter") as counter:
                counter["value"] += 1
            yield str(silo.state("counter")["value"])

        return Response(stream_with_context(lines()))

    assert client.post("/api/stream").text == "12"
    assert caplog.records == []
