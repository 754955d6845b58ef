"""What a client may read of its task, and what the log of the server says of the task."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_silo import Silo, current_task
from flask_silo.tasks.worker import TaskAddress, serve
from flask_silo_helpers import as_
from silo_store import short
from silo_store.testing import SID
from silo_tasks import BackgroundTask, InlineRunner, TaskFailed

SECRET = "cannot connect to postgres://admin:secret@db"
LOGGER = logging.getLogger("silo.public.flask")


class BadFile(ValueError):
    """An error whose text clients may read."""


@pytest.fixture
def failing(app: Flask, silo: Silo) -> Any:
    @silo.task(runner=InlineRunner(), public_errors=BadFile)
    def work(text: str, public: bool) -> None:
        task = current_task()
        assert task is not None
        task.log("mine")
        with task.logging(LOGGER.name):
            LOGGER.error(text)
        raise (BadFile if public else ConnectionError)(text)

    @app.post("/api/work/<int:public>")
    def start(public: int) -> Any:
        work.start("no column B" if public else SECRET, bool(public))
        return {}

    return work


def said(client: FlaskClient) -> list[dict[str, Any]]:
    """Return the state of the task from its endpoint and from the stream."""
    state: Any = client.get("/api/tasks/work", headers=as_(SID)).json
    stream = client.get("/api/tasks/events", headers=as_(SID)).get_data(as_text=True)
    told = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: ")]
    assert len(told) == 1
    return [state, *told]


def test_clients_do_not_read_the_text_of_an_exception(client: FlaskClient, failing: Any) -> None:
    client.post("/api/work/0", headers=as_(SID))
    for state in said(client):
        assert (state["status"], state["error_type"]) == ("failed", "ConnectionError")
        assert (state["error"], state["message"], state["logs"]) == ("The task failed", "The task failed", ["mine"])
        assert state["last_seq"] == 1
        assert "secret" not in json.dumps(state)


def test_clients_read_what_is_written_for_them(client: FlaskClient, failing: Any) -> None:
    client.post("/api/work/1", headers=as_(SID))
    for state in said(client):
        assert (state["error"], state["message"], state["logs"]) == ("no column B", "Failed: no column B", ["mine"])


def test_everything_goes_out_while_the_application_is_debugged(app: Flask, client: FlaskClient, failing: Any) -> None:
    app.debug = True
    client.post("/api/work/0", headers=as_(SID))
    for state in said(client):
        assert (state["error"], state["logs"]) == (SECRET, ["mine", SECRET])


def test_the_state_has_all(app: Flask, client: FlaskClient, failing: Any) -> None:
    @app.get("/api/state")
    def state() -> Any:
        return failing.state.to_dict()

    client.post("/api/work/0", headers=as_(SID))
    found: Any = client.get("/api/state", headers=as_(SID)).json
    assert (found["error"], found["logs"]) == (SECRET, ["mine", SECRET])


@pytest.mark.parametrize(("handled", "status"), [(False, 500), (True, 409)])
def test_a_result_that_there_is_not_is_the_applications_to_answer(
    app: Flask, client: FlaskClient, failing: Any, handled: bool, status: int
) -> None:
    @app.get("/api/result")
    def result() -> Any:
        return {"result": failing.result()}

    if handled:

        @app.errorhandler(TaskFailed)
        def no_result(error: TaskFailed) -> Any:
            return {"error": "no_result"}, 409

    client.post("/api/work/0", headers=as_(SID))
    answer = client.get("/api/result", headers=as_(SID))
    assert answer.status_code == status
    assert "secret" not in answer.text


def test_the_log_names_task_and_session(client: FlaskClient, failing: Any, caplog: pytest.LogCaptureFixture) -> None:
    client.post("/api/work/0", headers=as_(SID))
    failed = [record for record in caplog.records if "failed" in record.getMessage()]
    words = rf"Task 'work' of session {short(SID)} \(run [0-9a-f]{{8}}\) failed: ConnectionError: {re.escape(SECRET)}"
    assert [bool(re.fullmatch(words, record.getMessage())) for record in failed] == [True]
    assert failed[0].exc_info
    assert SID not in caplog.text


@pytest.mark.parametrize("given", ["BadFile", 5, [BadFile, int]], ids=str)
def test_what_is_public_is_checked_when_the_task_is_declared(silo: Silo, given: Any) -> None:
    with pytest.raises(TypeError, match="public_errors takes exception classes, not"):
        silo.task(public_errors=given)(lambda: None)


def test_the_log_of_a_worker_names_task_and_session(app: Flask, silo: Silo, caplog: pytest.LogCaptureFixture) -> None:
    task = BackgroundTask("unknown", runner=InlineRunner())
    task.start(serve, TaskAddress(app=app.import_name, task="unknown", sid=SID, uid="uid"))
    assert not task.state.error_public
    assert re.search(rf"Task 'unknown' of session {short(SID)} \(run [0-9a-f]{{8}}\) failed: TaskError: ", caplog.text)
    assert SID not in caplog.text
