"""What a reading request that looks at tasks several times sees, while others change the session."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import SessionTask, Silo
from flask_silo_helpers import as_
from silo_store.testing import SID
from silo_tasks import InlineRunner
from store_urls import urls

url = urls("memory://?copy=1")


def declare(silo: Silo, app: Flask, name: str) -> SessionTask[[], int]:
    @silo.task(name=name, runner=InlineRunner())
    def task() -> int:
        return 7

    def start() -> Any:
        task.start()
        return {}

    app.add_url_rule(f"/api/start/{name}", f"start_{name}", start, methods=["POST"])
    return task


def test_a_second_look_follows_a_rotation(silo: Silo, app: Flask, client: FlaskClient) -> None:
    job = declare(silo, app, "job")
    seen: list[bool] = []

    @app.get("/api/look")
    def look() -> Any:
        seen.append(job.state.complete)
        silo.store.rotate(SID)
        seen.append(job.state.complete)
        return {}

    assert client.post("/api/start/job", headers=as_(SID)).status_code == 200
    client.get("/api/look", headers=as_(SID))
    assert seen == [True, True]


def test_a_second_look_does_not_show_the_tasks_of_the_next_life(silo: Silo, app: Flask, client: FlaskClient) -> None:
    job = declare(silo, app, "job")
    seen: list[bool] = []

    @app.get("/api/look")
    def look() -> Any:
        seen.append(job.state.complete)
        silo.store.reset(SID)
        client.post("/api/start/job", headers=as_(SID))
        seen.append(job.state.complete)
        return {}

    client.post("/api/start/job", headers=as_(SID))
    client.get("/api/look", headers=as_(SID))
    assert seen == [True, False]


@pytest.mark.parametrize("wait", ["result", "edit"])
def test_the_first_look_at_another_task_is_of_a_moment_after_a_wait(
    silo: Silo, app: Flask, client: FlaskClient, wait: str
) -> None:
    job, other = declare(silo, app, "job"), declare(silo, app, "other")
    seen: list[bool] = []

    @app.get("/api/look")
    def look() -> Any:
        if wait == "result":
            assert job.result() == 7
        else:
            assert job.state.complete
            with silo.edit("counter") as counter:
                counter["value"] += 1
        client.post("/api/start/other", headers=as_(SID))
        seen.append(other.state.complete)
        return {}

    client.post("/api/start/job", headers=as_(SID))
    client.get("/api/look", headers=as_(SID))
    assert seen == [True]
