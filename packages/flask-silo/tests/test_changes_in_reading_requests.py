"""State that a reading request changes is saved without the write lock, and copies warn of it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, jsonify
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo_helpers import as_, counter_app
from silo_store.testing import SID, in_threads
from store_urls import urls

TEXT = r"{} changed state in a {} request \('counter'\)"


url = urls("memory://?copy=1", "sqlite")  # stores that keep copies


def view_of(app: Flask, name: str, view: Callable[[], Any], method: str = "GET") -> None:
    app.add_url_rule(f"/api/{name}", name, view, methods=[method])


@pytest.fixture
def app(silo: Silo) -> Iterator[Flask]:
    app = counter_app(silo)

    def changing() -> Any:
        silo.state("counter")["value"] += 1
        return jsonify(silo.state("counter"))

    for name in ("change", "change-too"):
        view_of(app, name, changing)
    yield app
    silo.store.close()


def value(silo: Silo) -> Any:
    return silo.store.get(SID)["counter"]["value"]


@pytest.mark.parametrize("known", [True, False], ids=["lives", "begins"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_it_is_saved_and_warned_of(client: FlaskClient, silo: Silo, method: str, known: bool) -> None:
    if known:
        silo.store.get(SID)
    with pytest.warns(UserWarning, match=TEXT.format("change", method)) as caught:
        client.open("/api/change", method=method, headers=as_(SID))
    assert "with silo.edit('counter') as state:" in str(caught[0].message)
    assert value(silo) == 1


def test_each_endpoint_is_warned_of_once(client: FlaskClient) -> None:
    with pytest.warns(UserWarning, match=TEXT.format("change(-too)?", "GET")) as caught:
        [client.get(f"/api/{name}", headers=as_(SID)) for name in ("change", "change", "change-too", "change-too")]
    assert [str(each.message).split()[1] for each in caught] == ["change", "change-too"]


def test_a_hook_that_answers_without_a_view_is_warned_of(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.before_request
    def count() -> Any:
        silo.state("counter")["value"] += 1
        return {}

    with pytest.warns(UserWarning, match=TEXT.format("a hook before the view", "GET")):
        answers = [client.get(f"/api/missing/{name}", headers=as_(SID)) for name in "ab"]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert value(silo) == 2


def test_a_commit_and_an_edit_that_comes_later_are_warned_of_too(app: Flask, client: FlaskClient, silo: Silo) -> None:
    def commit() -> Any:
        silo.state("counter")["value"] += 1
        silo.commit()
        return {}

    def edit_later() -> Any:
        silo.state("counter")["value"] += 1
        with silo.edit("counter") as counter:
            counter["value"] += 1
        return {}

    for name, view in {"commit": commit, "later": edit_later}.items():
        view_of(app, name, view)
    for name in ("commit", "later"):
        with pytest.warns(UserWarning, match=TEXT.format(name, "GET")):
            client.get(f"/api/{name}", headers=as_(SID))
    assert value(silo) == 3


def test_what_is_meant_gives_no_warning(app: Flask, client: FlaskClient, silo: Silo) -> None:
    """Warnings are errors here."""
    app.testing = True
    counter = silo.register("counter", lambda: {"value": 0})

    def edit() -> Any:
        with silo.edit("counter") as state:
            state["value"] += 1
        return counter.state

    def edit_all() -> Any:
        with silo.edit() as session:
            session["counter"]["value"] += 1
            silo.commit()
        return {}

    def replace() -> Any:
        counter.state = {"value": counter.state["value"] + 1}
        return {}

    def update() -> Any:
        return counter.update(lambda state: {"value": state["value"] + 1})

    def begin() -> Any:
        return {"sid": silo.sid, "state": silo.state()}

    def fail() -> Any:
        silo.state("counter")["value"] += 1
        return {}, 500

    for view in (begin, edit, edit_all, replace, update, fail):
        view_of(app, view.__name__, view)
    for name in ("begin", "edit", "edit_all", "replace", "update", "fail"):
        client.get(f"/api/{name}", headers=as_(SID))
    client.post("/api/increment", headers=as_(SID))
    assert value(silo) == 5


@pytest.mark.filterwarnings("error")
def test_an_error_by_filter_fails_the_test_and_saves_nothing(app: Flask, client: FlaskClient, silo: Silo) -> None:
    app.testing = True
    for _ in range(2):
        with pytest.raises(UserWarning, match=TEXT.format("change", "GET")):
            client.get("/api/change", headers=as_(SID))
    assert value(silo) == 0


def test_an_error_by_filter_breaks_no_request_outside_of_tests(
    client: FlaskClient, silo: Silo, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert client.get("/api/change", headers=as_(SID)).json
    assert value(silo) == 2
    assert [record.getMessage().split(" changed")[0] for record in caplog.records] == ["endpoint change"]


def test_of_two_that_meet_one_is_refused_and_the_warning_says_so(app: Flask, client: FlaskClient, silo: Silo) -> None:
    silo.store.get(SID)
    both = threading.Barrier(2, timeout=20)

    def race() -> Any:
        counter = silo.state("counter")
        both.wait()
        counter["value"] += 1
        return {}

    view_of(app, "race", race)
    with pytest.warns(UserWarning, match="one is refused with 409, or silently lost on memory://"):
        statuses = in_threads(2, lambda _: app.test_client().get("/api/race", headers=as_(SID)).status_code)
    assert sorted(statuses) == [200, 409]
    assert value(silo) == 1
