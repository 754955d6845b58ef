"""Each request is committed and releases its write lock, whatever middleware is around the application."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, abort, stream_with_context
from flask.testing import FlaskClient
from flask_silo import SessionConflict, SessionExpired, Silo
from flask_silo_helpers import HEADER, as_, changes_in_a_get, counter_app
from silo_store import LockTimeout, SessionStore
from silo_store.testing import SID, TTL, Clock, in_threads
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder


def no_turn_is_kept(silo: Silo) -> bool:
    gc.collect()  # a test client may keep a response, and with it the request
    return not silo.store.locks.holders


def test_slashes_before_the_path_make_no_difference(client: FlaskClient, silo: Silo) -> None:
    for path in ("//api/increment", "///api/increment"):
        environ = {"PATH_INFO": path, "REQUEST_METHOD": "POST", "HTTP_X_SESSION_ID": SID}
        answer = client.open("/", environ_overrides=environ)
        assert (answer.status_code, answer.headers[HEADER]) == (200, SID)
    assert silo.store.get(SID)["counter"] == {"value": 2}
    assert no_turn_is_kept(silo)


def test_a_prefix_beyond_ascii(clock: Clock, url: str) -> None:
    silo = Silo(api_prefix="/äpi/", auto_cleanup=False, store_url=url, accept_client_ids=True)
    silo.register("counter", lambda: {"value": 0})
    app = Flask(__name__)
    silo.init_app(app)

    @app.post("/äpi/increment")
    def increment() -> Any:
        silo.state("counter")["value"] += 1
        return {}

    assert app.test_client().post("/äpi/increment", headers=as_(SID)).headers[HEADER] == SID
    assert silo.store.get(SID)["counter"] == {"value": 1}


def generator(inner: Any) -> Any:
    def middleware(environ: Any, start_response: Any) -> Iterable[bytes]:
        yield from inner(environ, start_response)

    return middleware


def copier(inner: Any) -> Any:
    return lambda environ, start_response: inner(dict(environ), start_response)


def rewriter(inner: Any) -> Any:
    def middleware(environ: Any, start_response: Any) -> Any:
        return inner({**environ, "PATH_INFO": environ["PATH_INFO"].replace("/v1/", "/api/")}, start_response)

    return middleware


@pytest.mark.parametrize("middleware", [generator, copier, rewriter])
@pytest.mark.parametrize("before", [True, False])
def test_any_middleware_on_either_side(silo: Silo, middleware: Any, before: bool) -> None:
    app = Flask(__name__)
    if before:
        app.wsgi_app = middleware(app.wsgi_app)  # type: ignore[method-assign]
    silo.init_app(app)
    if not before:
        app.wsgi_app = middleware(app.wsgi_app)  # type: ignore[method-assign]

    @app.post("/api/increment")
    def increment() -> Any:
        silo.state("counter")["value"] += 1
        return {}

    @app.post("/api/conflict")
    def conflict() -> Any:
        silo.current.request.jobs["to be refused"] = refuse
        return {}

    def refuse() -> None:
        raise SessionConflict(SID)

    start = "/v1/" if middleware is rewriter else "/api/"
    for _ in range(2):
        refused = app.test_client().post(start + "conflict", headers=as_(SID))
        assert (refused.status_code, refused.headers[HEADER]) == (409, SID)
        answer = app.test_client().post(start + "increment", headers=as_(SID))
        assert (answer.status_code, answer.headers[HEADER]) == (200, SID)
    assert silo.store.get(SID)["counter"] == {"value": 2}
    assert no_turn_is_kept(silo)
    with pytest.raises(RuntimeError):
        silo.sid  # noqa: B018 - the access raises


def test_a_context_pushed_by_hand_reads_and_keeps_nothing(app: Flask, silo: Silo, url: str) -> None:
    with app.test_request_context("/api/increment", method="POST", headers=as_(SID)):
        app.preprocess_request()
        assert silo.state("counter") == {"value": 0}
        assert silo.sid == SID
    assert no_turn_is_kept(silo)


def test_what_a_response_streams_may_edit(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/stream")
    def stream() -> Any:
        silo.state("counter")["value"] += 1

        def lines() -> Iterator[str]:
            yield "a"
            with silo.edit("counter") as counter:
                assert silo.store.locks.held(SID)
                counter["value"] += 1
            yield str(silo.state("counter")["value"])

        return Response(stream_with_context(lines()))

    assert client.post("/api/stream", headers=as_(SID)).text == "a2"
    assert silo.store.get(SID)["counter"] == {"value": 2}


@pytest.mark.parametrize("how", ["abort", "handled", "taken over"])
def test_a_view_that_raises_saves_and_starts_nothing_whatever_the_answer(
    app: Flask, client: FlaskClient, silo: Silo, url: str, how: str
) -> None:
    started: list[int] = []

    @silo.task
    def work() -> None:
        started.append(1)

    @app.post("/api/raise")
    def fail() -> Any:
        silo.state("counter")["value"] += 1
        work.start()
        abort(400) if how == "abort" else int("x")

    if how == "taken over":  # as Flask-RESTX does for its routes
        app.handle_user_exception = lambda _error: app.make_response(({}, 400))  # type: ignore[assignment, method-assign]

    @app.errorhandler(ValueError)
    def handle(error: ValueError) -> Any:
        return {}, 422

    assert client.post("/api/raise", headers=as_(SID)).status_code in (400, 422)
    if url != "memory://":
        assert silo.store.get(SID)["counter"] == {"value": 0}
    assert silo.binding.runs.find(silo.store.uid(SID), "work") is None
    assert started == []
    assert no_turn_is_kept(silo)


@changes_in_a_get
def test_a_conflict_is_answered_by_the_applications_own_handler(
    app: Flask, client: FlaskClient, silo: Silo, url: str
) -> None:
    @app.get("/api/careless")
    def careless() -> Any:
        silo.state("counter")["value"] += 1
        app.test_client().post("/api/increment", headers=as_(SID))
        return {}

    @app.errorhandler(SessionConflict)
    def handle(error: SessionConflict) -> Any:
        return "mine", 418

    @app.after_request
    def allow(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    client.post("/api/increment", headers=as_(SID))
    answer = client.get("/api/careless", headers=as_(SID))
    if url != "memory://":
        assert (answer.status_code, answer.text, answer.headers[HEADER]) == (418, "mine", SID)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_410_passes_the_applications_hooks_and_handlers(client: FlaskClient, silo: Silo, clock: Clock) -> None:
    silo.add_data_endpoints("count")
    app = client.application

    @app.errorhandler(SessionExpired)
    def handle(error: SessionExpired) -> Any:
        return "mine", 410

    @app.after_request
    def allow(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    client.post("/api/increment", headers=as_(SID))
    clock.advance(TTL + 1)
    answer = client.get("/api/count", headers=as_(SID))
    assert (answer.status_code, answer.text, answer.headers["Vary"]) == (410, "mine", HEADER)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_handler_that_was_registered_first_stays(silo: Silo, clock: Clock) -> None:
    from flask_silo import SiloError

    app = Flask(__name__)

    @app.errorhandler(SiloError)
    def handle(error: SiloError) -> Any:
        return "mine", 418

    silo.init_app(app)

    @app.get("/api/expired")
    def expired() -> Any:
        raise SessionExpired(silo.sid)

    assert app.test_client().get("/api/expired").status_code == 418


def test_a_view_inside_an_edit_of_the_store_joins_it(app: Flask, client: FlaskClient, silo: Silo) -> None:
    silo.store.lock_timeout = 0.01

    @app.post("/api/within")
    def within() -> Any:
        with silo.store.edit(silo.sid, "counter") as counter:
            counter["value"] += 1
            silo.state("counter")["value"] += 1
        return {}

    assert client.post("/api/within", headers=as_(SID)).status_code == 200
    assert silo.store.get(SID)["counter"] == {"value": 2}
    assert no_turn_is_kept(silo)


def test_a_request_within_another_leaves_the_write_lock_to_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    silo = Silo(store_url=url, auto_cleanup=False, accept_client_ids=True)
    silo.register("counter", lambda: {"value": 0})
    client = counter_app(silo).test_client()
    peer = SessionStore(backend=url, lock_timeout=0.01)
    client.post("/api/increment", headers=as_(SID))
    with silo.store.edit(SID, "counter") as counter:
        client.post("/api/increment", headers=as_(SID))
        with pytest.raises(LockTimeout), peer.edit(SID):
            pass
        counter["value"] += 1
    assert silo.store.get(SID)["counter"] == {"value": 3}
    for store in (silo.store, peer):
        store.close()


@changes_in_a_get
def test_a_reading_request_keeps_what_it_changed_around_an_edit(
    app: Flask, client: FlaskClient, silo: Silo, url: str
) -> None:
    silo.register("notes", list)

    @app.get("/api/mixed")
    def mixed() -> Any:
        silo.state("notes").append("before")
        with silo.edit("counter") as counter:
            counter["value"] += 1
        try:
            with silo.edit("counter") as counter:
                counter["value"] += 100
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        silo.state("notes").append("after")
        return {}

    assert client.get("/api/mixed", headers=as_(SID)).status_code == 200
    kept = silo.store.get(SID)
    assert kept["notes"] == ["before", "after"]
    if url != "memory://":
        assert kept["counter"] == {"value": 1}


def test_a_reader_whose_session_is_reset_meanwhile_is_answered(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.get("/api/overlap")
    def overlap() -> Any:
        before = silo.state("counter")["value"]
        silo.store.reset(SID)
        return {"before": before}

    @app.get("/api/late")
    def late() -> Any:
        before = silo.state("counter")["value"]
        silo.store.reset(SID)
        with silo.edit("counter") as counter:
            counter["value"] = before + 1
        return {}

    client.post("/api/increment", headers=as_(SID))
    assert client.get("/api/overlap", headers=as_(SID)).json == {"before": 1}
    assert client.get("/api/late", headers=as_(SID)).status_code == 410
    assert silo.store.get(SID)["counter"] == {"value": 0}


def test_after_a_rotation_the_request_keeps_its_write_lock(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/rotate")
    def rotate() -> Any:
        counter = silo.state("counter")
        new = silo.rotate()
        silo.store.lock_timeout = 0.01
        other = in_threads(1, lambda _: app.test_client().post("/api/increment", headers=as_(new)))[0]
        counter["value"] += 1
        return {"other": other.status_code}

    answer = client.post("/api/rotate", headers=as_(SID))
    assert answer.json == {"other": 503}
    assert silo.store.get(answer.headers[HEADER])["counter"] == {"value": 1}


def test_an_application_is_freed(silo: Silo) -> None:
    app = counter_app(silo)
    app.test_client().post("/api/increment")
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None
    counter_app(silo)


def test_one_silo_for_an_application(silo: Silo) -> None:
    app = Flask(__name__)
    silo.init_app(app)
    with pytest.raises(RuntimeError, match="serves the application already"):
        Silo(app)


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/count"), ("GET", "/api/idle"), ("POST", "/api/increment")])
def test_a_request_is_freed_without_the_garbage_collector(client: FlaskClient, method: str, path: str) -> None:
    class Input:
        def read(self, _size: int = -1) -> bytes:
            return b""

    environ: dict[str, Any] = EnvironBuilder(path=path, method=method, headers=Headers(as_(SID))).get_environ()
    environ["wsgi.input"] = body = Input()
    freed = weakref.ref(body)
    gc.disable()
    try:
        for _ in client.application.wsgi_app(environ, lambda *_: lambda _: None):
            pass
        del environ, body
        assert freed() is None
    finally:
        gc.enable()
