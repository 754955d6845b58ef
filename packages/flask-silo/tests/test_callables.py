"""Factories and callbacks that cannot work, such as async functions, are refused when they are passed."""

from __future__ import annotations

import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo_helpers import as_
from silo_store.testing import SID


async def load() -> dict[str, int]:
    return {}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"value": 0}, "lambda: {'value': 0}"),
        (None, "lambda: None"),
        (0, "lambda: 0"),
        (load, "load is async"),
        (lambda sid: {}, "missing a required argument: 'sid'"),
    ],
    ids=["dict", "None", "0", "async", "with-sid"],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_invalid_factory_is_refused_when_it_is_registered(when: str, given: Any, shown: str, url: str) -> None:
    silo = Silo(store_url=url, auto_cleanup=False)
    app = Flask("late")
    if when == "after":
        silo.init_app(app)
    with pytest.raises(TypeError, match=r"^namespace 'c' needs a factory") as caught:
        silo.register("c", given)
    assert shown in str(caught.value)
    if when == "before":
        silo.init_app(app)
    app.add_url_rule("/api/names", view_func=lambda: list(silo.state()))
    assert app.test_client().get("/api/names").json == []


def test_a_clock_is_a_function() -> None:
    now: Any = time.time()
    with pytest.raises(TypeError, match=r"^clock takes a function that is called as function\(\), not 1\d+"):
        Silo(clock=now)


def test_an_async_change_is_refused(app: Flask, client: FlaskClient, silo: Silo) -> None:
    counter = silo.register("counter", lambda: {"value": 0})

    async def change(state: dict[str, int]) -> None:
        state["value"] = 1

    @app.post("/api/change")
    def change_it() -> Any:
        with pytest.raises(TypeError, match="change is async and returns a coroutine"):
            counter.update(change)  # type: ignore[arg-type]
        return counter.state

    assert client.post("/api/change", headers=as_(SID)).json == {"value": 0}
