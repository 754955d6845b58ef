"""The answers of an application while its store cannot be reached."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response, jsonify
from flask.testing import FlaskClient
from flask_silo import Silo, StoreUnavailable
from servers import RedisServer, until

pytestmark = [pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX"), pytest.mark.slow]

AS = {"X-Session-ID": "a" * 32}
OTHER = {"X-Session-ID": "b" * 32}


@pytest.fixture
def app(lasting_redis: RedisServer) -> Flask:
    app = Flask("away")
    silo = Silo(
        app,
        store_url=f"{lasting_redis.url}?timeout=0.3&lease=1",
        auto_cleanup=False,
        data_endpoints=["/api/report"],
        accept_client_ids=True,
    )
    silo.register("counter", lambda: {"value": 0})

    @app.get("/api/count")
    @app.get("/api/report", endpoint="report")
    def count() -> Response:
        return jsonify(silo.state("counter"))

    @app.post("/api/increment")
    def increment() -> Response:
        counter = silo.state("counter")
        counter["value"] += 1
        return jsonify(counter)

    @app.post("/api/pause")
    def pause() -> dict[str, str]:
        silo.state("counter")["value"] += 100
        lasting_redis.pause()
        return {"said": "done"}

    @app.post("/api/kill")
    def kill() -> dict[str, str]:
        silo.state("counter")["value"] += 100
        lasting_redis.kill()
        return {"said": "done"}

    @app.post("/api/caught")
    def caught() -> tuple[dict[str, str], int]:
        try:
            silo.state("counter")
        except StoreUnavailable:
            return {"said": "sorry"}, 200
        return {"said": "fine"}, 200

    @app.route("/api/hello", methods=["GET", "POST"])
    def hello() -> dict[str, str]:
        return {"said": "hello"}

    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def assert_away(answer: Any) -> None:
    assert answer.status_code == 503
    assert answer.get_json()["error"] == "store_unavailable"
    assert int(answer.headers["Retry-After"]) >= 1
    assert "aaaaaaa" not in answer.get_data(as_text=True)


def back(ask: Callable[[], Any]) -> Any:
    """Repeat a request until the store can be reached again, and return the answer."""
    found: list[Any] = []

    def answered() -> bool:
        found.append(ask())
        return bool(found[-1].status_code != 503)

    until(answered, "the store does not come back")
    return found[-1]


ASKED: list[Callable[[FlaskClient], Any]] = [
    lambda client: client.get("/api/count", headers=AS),
    lambda client: client.get("/api/report", headers=AS),
    lambda client: client.post("/api/increment", headers=AS),
    lambda client: client.post("/api/increment"),
]


def test_a_store_that_hangs_is_told_and_then_all_is_as_before(client: FlaskClient, lasting_redis: RedisServer) -> None:
    assert client.post("/api/increment", headers=AS).get_json() == {"value": 1}
    lasting_redis.pause()
    for ask in ASKED:
        assert_away(ask(client))
    lasting_redis.resume()
    assert back(lambda: client.get("/api/count", headers=AS)).get_json() == {"value": 1}
    assert back(lambda: client.get("/api/report", headers=AS)).get_json() == {"value": 1}
    assert back(lambda: client.post("/api/increment", headers=AS)).get_json() == {"value": 2}


def test_a_store_that_dies_is_told_and_then_all_is_as_before(client: FlaskClient, lasting_redis: RedisServer) -> None:
    assert client.post("/api/increment", headers=AS).get_json() == {"value": 1}
    lasting_redis.kill()
    for ask in ASKED:
        assert_away(ask(client))
    lasting_redis.restart()
    assert client.get("/api/count", headers=AS).get_json() == {"value": 1}
    assert client.post("/api/increment", headers=AS).get_json() == {"value": 2}


@pytest.mark.parametrize("how", ["pause", "kill"])
def test_a_store_that_goes_before_the_commit_takes_the_answer_with_it(
    client: FlaskClient, lasting_redis: RedisServer, how: str
) -> None:
    assert client.post("/api/increment", headers=AS).get_json() == {"value": 1}
    answer = client.post(f"/api/{how}", headers=AS)
    assert_away(answer)
    assert "done" not in answer.get_data(as_text=True)
    if how == "kill":
        lasting_redis.restart()
        expected = [{"value": 2}]
    else:
        lasting_redis.resume()
        expected = [{"value": 2}, {"value": 102}]  # the server may still execute a command that it received before
    assert back(lambda: client.post("/api/increment", headers=AS)).get_json() in expected


def test_a_view_may_answer_by_itself(client: FlaskClient, lasting_redis: RedisServer) -> None:
    lasting_redis.pause()
    assert client.post("/api/caught", headers=AS).get_json() == {"said": "sorry"}
    lasting_redis.resume()


def test_a_request_that_needs_no_state_needs_no_store(client: FlaskClient, lasting_redis: RedisServer) -> None:
    assert client.post("/api/increment", headers=AS).get_json() == {"value": 1}
    lasting_redis.kill()
    for headers in ({}, AS, OTHER):
        assert client.get("/api/hello", headers=headers).get_json() == {"said": "hello"}
        assert client.post("/api/hello", headers=headers).get_json() == {"said": "hello"}


def test_what_the_store_has_lost_has_expired(client: FlaskClient, lasting_redis: RedisServer) -> None:
    for headers in (AS, OTHER):
        assert client.post("/api/increment", headers=headers).get_json() == {"value": 1}
    lasting_redis.restart(empty=True)
    answer = client.get("/api/report", headers=AS)
    assert (answer.status_code, answer.get_json()["error"]) == (410, "session_expired")
    assert client.post("/api/increment", headers=AS).get_json() == {"value": 1}
    assert client.get("/api/report", headers=AS).get_json() == {"value": 1}
    assert client.get("/api/report", headers=OTHER).status_code == 410
