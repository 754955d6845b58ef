"""Tasks whose session ends while they run."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import SessionExpired, Silo
from flask_silo_helpers import as_
from silo_store import short
from silo_store.testing import SID
from silo_tasks import InlineRunner


@pytest.fixture
def ending(app: Flask, silo: Silo, caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO)

    @silo.task(runner=InlineRunner())
    def work(how: str) -> None:
        if how in ("state", "other"):
            silo.store.destroy(SID)
        if how == "state":
            silo.state("counter")
        if how == "foreign":
            raise SessionExpired("b" * 32)
        raise OSError("the file is gone")

    @app.post("/api/work/<how>")
    def start(how: str) -> Any:
        work.start(how)
        return {}

    return work


@pytest.mark.parametrize("how", ["state", "other"])
def test_a_task_whose_session_has_ended_is_cancelled_and_not_failed(
    client: FlaskClient, ending: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.post(f"/api/work/{how}", headers=as_(SID))
    told = [record for record in caplog.records if record.levelno >= logging.INFO and "work" in record.getMessage()]
    assert [(record.levelno, record.exc_info) for record in told] == [(logging.INFO, None)]
    assert f"task 'work' of session {short(SID)} was cancelled, as its session has ended" in told[0].getMessage()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("how", ["bug", "foreign"])
def test_a_task_whose_session_lives_has_failed(
    client: FlaskClient, ending: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.post(f"/api/work/{how}", headers=as_(SID))
    state: Any = client.get("/api/tasks/work", headers=as_(SID)).json
    assert state["status"] == "failed"
    assert [record.levelno for record in caplog.records if "'work'" in record.getMessage()] == [logging.ERROR]
