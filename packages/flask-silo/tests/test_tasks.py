"""Tasks that belong to a session."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, jsonify
from flask.testing import FlaskClient
from flask_silo import SessionExpired, Silo, current_task, track
from flask_silo.tasks.runs import HostedTask
from flask_silo.tasks.worker import TaskAddress, find
from flask_silo_helpers import HEADER, as_
from silo_store import Hold, InvalidSessionId
from silo_store.testing import SID, TTL, Clock
from silo_tasks import BackgroundTask, TaskError, TaskRunning, ThreadRunner


class Job:
    """A task of the application, whose steps the tests control."""

    def __init__(self, app: Flask, silo: Silo) -> None:
        self.entered, self.leave, self.done = threading.Event(), threading.Event(), threading.Event()
        self.seen: list[Any] = []

        @silo.task(name="count up")
        def count_up(times: int) -> int:
            try:
                self.entered.set()
                assert self.leave.wait(30)
                self.seen += [current_app.name, silo.sid, silo.uid]
                for _ in track(range(times)):
                    with silo.edit("counter") as counter:
                        counter["value"] += 1
                return silo.state("counter")["value"]  # type: ignore[no-any-return]
            except BaseException as error:
                self.seen.append(error)
                raise
            finally:
                self.done.set()

        self.task = count_up

        @app.post("/api/start/<int:times>")
        def start(times: int) -> Any:
            count_up.start(times)
            return jsonify(count_up.state.to_dict()), 202

        @app.post("/api/start-and-fail")
        def start_and_fail() -> Any:
            count_up.start(1)
            return {}, 500

        @app.post("/api/start-twice")
        def start_twice() -> Any:
            count_up.start(1)
            count_up.start(1)
            return {}

        @app.post("/api/start-wrong")
        def start_wrong() -> Any:
            count_up.start(nonsense=1)  # type: ignore[call-arg]
            return {}

        @app.post("/api/start-after-commit")
        def start_after_commit() -> Any:
            count_up.start(1)
            silo.commit()
            assert self.entered.wait(30)
            return {}

        @app.get("/api/task")
        def state() -> Any:
            return jsonify(count_up.state.to_dict())

        @app.post("/api/cancel")
        def cancel() -> Any:
            return {"cancelled": count_up.cancel()}

        @app.get("/api/task/result")
        def result() -> Any:
            return {"result": count_up.result(30)}

        @app.post("/api/reset")
        def reset() -> Any:
            silo.reset_current()
            return {}

        @app.post("/api/rotate")
        def rotate() -> Any:
            return silo.rotate()


@pytest.fixture
def job(app: Flask, silo: Silo) -> Job:
    return Job(app, silo)


def test_a_task_works_for_the_session_that_started_it(client: FlaskClient, silo: Silo, job: Job) -> None:
    started = client.post("/api/start/5", headers=as_(SID))
    assert started.status_code == 202
    assert (started.json or {})["running"] is True
    job.leave.set()
    assert client.get("/api/task/result", headers=as_(SID)).json == {"result": 5}
    state: Any = client.get("/api/task", headers=as_(SID)).json
    assert (state["complete"], state["progress"], state["name"]) == (True, 100.0, "count up")
    assert job.seen == ["counter", SID, silo.store.uid(SID)]
    assert client.get("/api/count", headers=as_(SID)).json == {"value": 5}
    other: Any = client.get("/api/task", headers=as_("b" * 32)).json
    assert (other["status"], other["running"]) == ("idle", False)


def test_asking_for_the_state_begins_no_session(client: FlaskClient, silo: Silo, job: Job) -> None:
    client.get("/api/task", headers=as_(SID))
    client.post("/api/cancel", headers=as_(SID))
    assert silo.store.active_count == 0


def test_a_failed_view_starts_nothing(client: FlaskClient, silo: Silo, job: Job) -> None:
    client.post("/api/start-and-fail", headers=as_(SID))
    assert (client.get("/api/task", headers=as_(SID)).json or {})["status"] == "idle"
    assert not job.entered.is_set()


def test_arguments_are_checked_in_the_request(app: Flask, client: FlaskClient, job: Job) -> None:
    app.testing = True
    with pytest.raises(TypeError, match=r"times|nonsense"):
        client.post("/api/start-wrong", headers=as_(SID))


@pytest.mark.parametrize(("args", "why"), [((), "missing a required argument"), ((1, 2, 3), "too many positional")])
def test_arguments_that_do_not_fit_are_told_with_the_task_and_its_parameters(
    app: Flask, client: FlaskClient, silo: Silo, args: tuple[int, ...], why: str
) -> None:
    app.testing = True

    @silo.task(name="sums")
    def add(n: int, m: int) -> int:
        return n + m

    @app.post("/api/add")
    def start() -> Any:
        add.start(*args)
        return {}

    with pytest.raises(TypeError) as caught:
        client.post("/api/add", headers=as_(SID))
    assert str(caught.value).startswith(f"task 'sums': add(n, m) cannot be called with the arguments of start(): {why}")
    assert "current_task" not in str(caught.value)


def test_a_function_that_expects_its_task_is_told_how_to_get_it(app: Flask, client: FlaskClient, silo: Silo) -> None:
    app.testing = True

    @silo.task
    def summarise(task: Any, n: int) -> None: ...

    @app.post("/api/summarise")
    def start() -> Any:
        summarise.start(5)  # type: ignore[call-arg]
        return {}

    with pytest.raises(TypeError, match=r"^task 'summarise': summarise\(task, n\) cannot .*[.]current_task\(\)$"):
        client.post("/api/summarise", headers=as_(SID))


def test_a_second_start_is_refused_while_it_runs(client: FlaskClient, job: Job) -> None:
    client.post("/api/start/1", headers=as_(SID))
    again = client.post("/api/start/1", headers=as_(SID))
    assert (again.status_code, (again.json or {})["error"]) == (409, "task_running")
    assert client.post("/api/start/1", headers=as_("b" * 32)).status_code == 202
    job.leave.set()
    client.get("/api/task/result", headers=as_(SID))
    client.get("/api/task/result", headers=as_("b" * 32))
    assert client.post("/api/start/1", headers=as_(SID)).status_code == 202
    assert client.get("/api/task/result", headers=as_(SID)).json == {"result": 2}


def test_what_is_said_of_a_task_that_runs(app: Flask, client: FlaskClient, job: Job) -> None:
    @app.post("/api/again")
    def again() -> Any:
        task = job.task.task
        if task is None:
            job.task.start(1)
        with pytest.raises(RuntimeError, match="already running"):
            job.task.start(1)
        if task is not None:
            with pytest.raises(RuntimeError, match="Cannot reset"):
                task.reset()
        return {}

    app.testing = True
    assert client.post("/api/again", headers=as_(SID)).status_code == 200
    assert client.post("/api/again", headers=as_(SID)).status_code == 200
    job.leave.set()
    client.get("/api/task/result", headers=as_(SID))


def test_of_two_requests_that_start_it_at_once_one_is_refused(
    app: Flask, client: FlaskClient, silo: Silo, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, beginning, go_on = HostedTask.start, threading.Event(), threading.Event()

    def slow(work: HostedTask, *args: Any, **kwargs: Any) -> None:
        if not beginning.is_set():  # the first one waits here
            beginning.set()
            assert go_on.wait(30)
        start(work, *args, **kwargs)

    monkeypatch.setattr(HostedTask, "start", slow)
    client.post("/api/increment", headers=as_(SID))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(app.test_client().post, "/api/start/1", headers=as_(SID))
        assert beginning.wait(30)
        second = client.post("/api/start/1", headers=as_(SID))
        go_on.set()
        assert sorted([first.result().status_code, second.status_code]) == [202, 409]
    work = silo.binding.runs.find(silo.store.uid(SID), "count up")
    assert work is not None
    assert work.is_running
    assert (client.get("/api/task", headers=as_(SID)).json or {})["running"]
    job.leave.set()
    assert client.get("/api/task/result", headers=as_(SID)).json == {"result": 2}


def test_starting_twice_in_one_request_is_refused(client: FlaskClient, job: Job) -> None:
    job.leave.set()
    assert client.post("/api/start-twice", headers=as_(SID)).status_code == 409


def test_commit_hands_over(client: FlaskClient, job: Job) -> None:
    assert client.post("/api/start-after-commit", headers=as_(SID)).status_code == 200
    job.leave.set()
    client.get("/api/task/result", headers=as_(SID))


def test_cancel_stops_at_the_next_item(client: FlaskClient, job: Job) -> None:
    client.post("/api/start/1000000", headers=as_(SID))
    assert job.entered.wait(30)
    assert client.post("/api/cancel", headers=as_(SID)).json == {"cancelled": True}
    job.leave.set()
    assert job.done.wait(30)
    work = job.task._silo.binding.runs.find(job.task._silo.store.uid(SID), "count up")
    assert work is not None
    assert work.wait(30)
    assert work.records is None or work.records.settled.wait(30)
    assert (client.get("/api/task", headers=as_(SID)).json or {})["status"] == "cancelled"
    assert client.post("/api/cancel", headers=as_(SID)).json == {"cancelled": False}


def test_a_running_task_holds_its_session(client: FlaskClient, silo: Silo, job: Job, clock: Clock) -> None:
    client.post("/api/start/1", headers=as_(SID))
    assert job.entered.wait(30)
    clock.advance(10 * TTL)
    assert silo.store.cleanup() == []
    job.leave.set()
    assert client.get("/api/task/result", headers=as_(SID)).json == {"result": 1}
    clock.advance(TTL + 1)
    assert silo.store.cleanup() == [SID]
    assert silo.binding.runs._tasks == {}


def test_reset_cancels_and_the_late_task_cannot_write(
    client: FlaskClient, silo: Silo, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    client.post("/api/start/3", headers=as_(SID))
    assert job.entered.wait(30)
    work = job.task._silo.binding.runs.find(silo.store.uid(SID), "count up")
    assert work is not None
    client.post("/api/reset", headers=as_(SID))
    assert (client.get("/api/task", headers=as_(SID)).json or {})["status"] == "idle"
    job.leave.set()
    assert job.done.wait(30)
    assert client.get("/api/count", headers=as_(SID)).json == {"value": 0}
    assert work.wait(30)
    assert work.state.status == "cancelled"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_task_whose_session_ends_when_it_begins_is_cancelled(
    client: FlaskClient, silo: Silo, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = silo.store.hold

    def held(sid: str) -> Hold:
        taken = hold(sid)
        silo.store.destroy(sid)
        return taken

    monkeypatch.setattr(silo.store, "hold", held)
    client.post("/api/start/3", headers=as_(SID))
    job.leave.set()
    assert silo.binding.runs._tasks == {}


def test_a_task_of_an_ended_session_is_told(client: FlaskClient, app: Flask, silo: Silo) -> None:
    entered, leave, told = threading.Event(), threading.Event(), threading.Event()

    @silo.task
    def stubborn() -> None:
        task = current_task()
        assert task is not None
        with task.shield():
            entered.set()
            assert leave.wait(30)
            with pytest.raises(SessionExpired), silo.edit("counter"):
                pass
            with pytest.raises(SessionExpired):
                silo.state("counter")
            told.set()

    @app.post("/api/stubborn")
    def start() -> Any:
        stubborn.start()
        return {}

    client.post("/api/stubborn", headers=as_(SID))
    assert entered.wait(30)
    silo.store.destroy(SID)
    leave.set()
    assert told.wait(30)


def test_a_task_follows_its_session_to_a_new_id(client: FlaskClient, silo: Silo, job: Job) -> None:
    client.post("/api/start/2", headers=as_(SID))
    assert job.entered.wait(30)
    new = client.post("/api/rotate", headers=as_(SID)).headers[HEADER]
    job.leave.set()
    assert client.get("/api/task/result", headers=as_(new)).json == {"result": 2}
    assert job.seen[1] == new
    assert client.get("/api/count", headers=as_(new)).json == {"value": 2}


def test_a_task_reads_and_writes_files_of_its_own_life_only(
    client: FlaskClient, app: Flask, silo: Silo, tmp_path: Path
) -> None:
    files = silo.add_file_store("files", tmp_path / "files")
    entered, leave, told = threading.Event(), threading.Event(), threading.Event()
    seen: list[Any] = []

    @silo.task
    def work() -> None:
        files.save(silo.sid, "mine.txt", b"1")
        with current_task().shield():  # type: ignore[union-attr]
            entered.set()
            assert leave.wait(30)
            seen.append(files.list_files(silo.sid))
            assert not files.delete(silo.sid, "next.txt")
            with pytest.raises(SessionExpired), silo.edit("counter", sid=silo.sid):
                pass
            with pytest.raises(SessionExpired):
                files.save(silo.sid, "late.txt", b"1")
            told.set()

    @app.post("/api/work")
    def start() -> Any:
        work.start()
        return {}

    client.post("/api/work", headers=as_(SID))
    assert entered.wait(30)
    assert files.list_files(SID) == ["mine.txt"]
    silo.store.reset(SID)
    files.save(SID, "next.txt", b"1")
    leave.set()
    assert told.wait(30)
    assert seen == [[]]
    assert files.list_files(SID) == ["next.txt"]


def test_a_full_queue_is_answered_with_503_and_keeps_the_task_before(
    client: FlaskClient, silo: Silo, app: Flask, job: Job, clock: Clock
) -> None:
    pool = ThreadRunner(workers=1, queue_size=0)
    job.task._options["runner"] = pool
    job.leave.set()
    client.post("/api/start/1", headers=as_(SID))
    client.get("/api/task/result", headers=as_(SID))
    job.leave.clear()
    job.entered.clear()
    other = "b" * 32
    while client.post("/api/start/1", headers=as_(other)).status_code == 503:
        pass  # the worker thread may still be finishing the previous task
    assert job.entered.wait(30)
    full = client.post("/api/start/1", headers=as_(SID))
    assert (full.status_code, (full.json or {})["error"]) == (503, "task_queue_full")
    assert full.headers["Retry-After"] == "5"
    assert client.get("/api/task/result", headers=as_(SID)).json == {"result": 1}
    clock.advance(TTL + 1)
    assert silo.store.cleanup() == [SID], "what was not started holds nothing"
    job.leave.set()
    client.get("/api/task/result", headers=as_(other))


@pytest.mark.parametrize("handler", [None, TaskError, TaskRunning])
def test_an_error_of_a_task_of_the_applications_own_has_an_answer(handler: type[Exception] | None) -> None:
    app, leave = Flask(__name__), threading.Event()
    if handler is not None:
        app.register_error_handler(handler, lambda _: ("own", 418))
    Silo(app)
    report = BackgroundTask("report")

    @app.post("/report")
    def start() -> str:
        report.start(lambda _: leave.wait(30))
        return ""

    client = app.test_client()
    try:
        assert client.post("/report").status_code == 200
        response = client.post("/report")
    finally:
        leave.set()
        report.wait()

    if handler is None:
        assert (response.status_code, response.get_json()["error"]) == (409, "task_running")
    else:
        assert (response.status_code, response.text) == (418, "own")


def test_a_handler_that_is_registered_after_the_task_wins(app: Flask, client: FlaskClient, job: Job) -> None:
    app.register_error_handler(TaskError, lambda _: ("own", 418))

    assert client.post("/api/start-twice", headers=as_(SID)).status_code == 418


def test_a_task_outside_a_request_needs_one(silo: Silo, job: Job) -> None:
    with pytest.raises(ValueError, match="already"):

        @silo.task(name="count up")
        def another() -> None: ...

    with pytest.raises(RuntimeError, match="no session here"):
        job.task.start(1)
    with pytest.raises(RuntimeError, match="no session here"):
        job.task.state  # noqa: B018 - the access raises


def test_the_id_in_a_message_passes_the_gate(app: Flask, job: Job) -> None:
    place = TaskAddress(app=app.import_name, task=job.task.name, sid=SID, uid="life")
    assert find(place)[1] is not None
    with pytest.raises(InvalidSessionId):
        find({**place, "sid": "no id"})


def test_of_several_applications_of_one_module_the_one_with_the_session_is_found(tmp_path: Path) -> None:
    silo = Silo(auto_cleanup=False)

    @silo.task
    def work() -> None: ...

    for number in range(4):
        app = Flask("several")
        app.config["SILO_STORE_URL"] = f"sqlite:///{tmp_path / str(number)}.db"
        silo.init_app(app)
    stores = [binding.store for binding in silo.apps.bindings()]
    for store in stores:
        place = TaskAddress(app="several", task="work", sid=SID, uid=store.get(SID).uid)
        assert find(place)[0].store is store
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"runner": "rq"}, TypeError, "not 'rq'"),
        ({"runner": ThreadRunner}, TypeError, "not the class ThreadRunner"),
        ({"timeout": 0}, ValueError, "timeout must be positive"),
    ],
)
def test_wrong_options_are_refused_where_the_task_is_declared(
    silo: Silo, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        silo.task(**options)(lambda: None)


async def fetch() -> None: ...


def rows() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (fetch, "@silo.task takes a plain function, and 'fetch' is a coroutine function: .* asyncio.run"),
        (rows, "'rows' is a generator function"),
        ("a name", "@silo.task takes a function, not a str"),
    ],
    ids=["async", "generator", "name"],
)
def test_a_function_that_is_not_a_plain_one_is_refused_at_its_declaration(
    silo: Silo, function: Any, words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        silo.task(function)
    with pytest.raises(TypeError, match=words):
        silo.task(name="named")(function)


def test_the_request_that_starts_it_cannot_wait_for_it(app: Flask, client: FlaskClient, job: Job) -> None:
    errors = []

    @app.post("/api/wait")
    def wait() -> Any:
        job.task.start(1)
        with pytest.raises(RuntimeError) as raised:
            job.task.result()
        errors.append(str(raised.value))
        job.task.cancel()
        return {}

    assert client.post("/api/wait", headers=as_(SID)).status_code == 200
    assert errors == ["task 'count up' begins when this request has succeeded: ask for its result in a later one"]


def test_called_it_is_the_function(silo: Silo) -> None:
    @silo.task
    def double(number: int) -> int:
        """Twice."""
        return 2 * number

    assert double(4) == 8
    assert (double.__doc__, double.name) == ("Twice.", "double")
    again = silo.task(name="again", timeout=1)(double)
    assert (again(4), again.name, double.name) == (8, "again", "double")


def test_called_in_a_request_it_runs_there_and_the_log_warns_once_for_each_task(
    app: Flask, client: FlaskClient, silo: Silo, caplog: pytest.LogCaptureFixture
) -> None:
    @silo.task
    def double(number: int) -> int:
        return 2 * number

    @silo.task(name="again")
    def other(number: int) -> int:
        return double(number)  # in a task it is part of the task

    @app.post("/api/call")
    def call() -> Any:
        return {"value": double(4) + other.__wrapped__(0)}  # type: ignore[attr-defined]

    @app.post("/api/call-other")
    def call_other() -> Any:
        return {"value": other(4)}

    @app.get("/outside")
    def outside() -> Any:
        return {"value": double(5)}  # outside the prefix a request has no session

    @app.post("/api/start-other")
    def start_other() -> Any:
        other.start(1)
        return {}

    @app.get("/api/other")
    def result() -> Any:
        return {"value": other.result(30)}

    assert double(4) == 8
    assert client.get("/outside").json == {"value": 10}
    assert client.post("/api/start-other", headers=as_(SID)).status_code == 200
    assert client.get("/api/other", headers=as_(SID)).json == {"value": 2}
    assert not caplog.records
    for _ in range(2):
        assert client.post("/api/call", headers=as_(SID)).json == {"value": 8}
    (warning,) = caplog.records
    assert (warning.name, warning.levelname) == ("flask_silo", "WARNING")
    assert warning.getMessage().startswith("task 'double' was called and runs inside the request")
    assert "double.start(...)" in warning.getMessage()

    for _ in range(2):
        assert client.post("/api/call-other", headers=as_(SID)).json == {"value": 8}
    assert [record.getMessage().split()[1] for record in caplog.records] == ["'double'", "'again'"]
