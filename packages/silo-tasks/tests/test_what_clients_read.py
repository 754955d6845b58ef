"""What clients may read of a task."""

from __future__ import annotations

import json
import logging
import pickle
import re
import threading
from typing import Any

import process_jobs
import pytest
from silo_tasks import (
    BackgroundTask,
    InlineRunner,
    MemoryTaskStore,
    ProcessRunner,
    TaskLost,
    TaskState,
    TaskTimeout,
    ThreadRunner,
)
from silo_tasks.runners.message import Message, message_of
from silo_tasks.stores.stored_run import StoredRun

WAIT = 30
SECRET = "cannot connect to postgres://admin:secret@db"
LOGGER = logging.getLogger("silo.public")


class BadFile(ValueError):
    """An error that clients may read."""


class NoColumn(BadFile):
    """A subclass of it."""


def failed(error: BaseException, **options: Any) -> TaskState:
    task = BackgroundTask(runner=InlineRunner(), **options)

    def work(task: BackgroundTask) -> None:
        raise error

    task.start(work)
    return task.state


def test_the_text_of_an_exception_is_for_the_server() -> None:
    state = failed(ConnectionError(SECRET))
    assert (state.error, state.message, state.error_public) == (SECRET, f"Failed: {SECRET}", False)
    full, public = state.to_dict(), state.to_dict(public=True)
    assert (full["error"], full["message"], full["error_public"]) == (SECRET, f"Failed: {SECRET}", False)
    assert (public["error"], public["message"]) == ("The task failed", "The task failed")
    assert (public["error_type"], public["status"], public["error_public"]) == ("ConnectionError", "failed", False)
    assert "secret" not in json.dumps(public)
    assert set(public) == set(full)


@pytest.mark.parametrize("given", [BadFile, (BadFile,), [KeyError, BadFile], {BadFile}], ids=str)
@pytest.mark.parametrize("kind", [BadFile, NoColumn])
def test_classes_that_are_named_are_public(given: Any, kind: type[Exception]) -> None:
    state = failed(kind("line 3 has no column B"), public_errors=given)
    public = state.to_dict(public=True)
    assert state.error_public
    assert (public["error"], public["message"]) == ("line 3 has no column B", "Failed: line 3 has no column B")
    assert not failed(ValueError(SECRET), public_errors=given).error_public


@pytest.mark.parametrize("kind", [TaskTimeout, TaskLost])
def test_timeouts_and_losses_are_public(kind: type[Exception]) -> None:
    assert failed(kind("took longer")).to_dict(public=True)["error"] == "took longer"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("KeyError", "'KeyError'"),
        (5, "5"),
        (None, "None"),
        ([KeyError, "BadFile"], "'BadFile'"),
        (int, "<class 'int'>"),
        ((KeyError, KeyError("x")), r"KeyError\('x'\)"),
        (iter([KeyError]), "<list_iterator"),
    ],
)
def test_only_exception_classes_can_be_public(given: Any, named: str) -> None:
    with pytest.raises(TypeError, match=f"public_errors takes exception classes, not {named}"):
        BackgroundTask(public_errors=given)


def test_fail_makes_a_text_public_and_an_exception_private(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "silo_tasks")

    def say(task: BackgroundTask, error: Any) -> None:
        try:
            raise OSError(SECRET)
        except OSError as caught:
            task.fail(error or caught)

    task = BackgroundTask("job", runner=InlineRunner(), public_errors=BadFile)
    for error, shown in (("no such file", "no such file"), (BadFile("bad"), "bad"), (None, "The task failed")):
        caplog.clear()
        task.start(say, error)
        assert task.state.to_dict(public=True)["error"] == shown
        record = caplog.records[-1]
        assert re.match(r"Task 'job' \(run [0-9a-f]{8}\) failed", record.getMessage())
        assert record.levelno == (logging.INFO if isinstance(error, str) else logging.ERROR)
        assert record.exc_info


def test_a_deadline_is_public_and_logged(runner: ThreadRunner, caplog: pytest.LogCaptureFixture) -> None:
    now, entered, leave = [0.0], threading.Event(), threading.Event()
    task = BackgroundTask("slow", runner=runner, timeout=1000, clock=lambda: now[0])

    def work(task: BackgroundTask) -> None:
        entered.set()
        leave.wait(WAIT)

    task.start(work)
    assert entered.wait(WAIT)
    now[0] = 2000.0
    # This look is what sees it, so that the log is written by this thread.
    assert task.state.to_dict(public=True)["error"] == "took longer than 1000 seconds"
    assert re.search(r"Task 'slow' \(run [0-9a-f]{8}\) failed: took longer than 1000 seconds", caplog.text)
    leave.set()


def test_the_log_names_a_task_by_its_label(caplog: pytest.LogCaptureFixture) -> None:
    task = BackgroundTask("job", runner=InlineRunner())
    assert task.label == "'job'"

    def work(task: BackgroundTask) -> None:
        task.label = "'job' of anna"
        raise KeyError

    task.start(work)
    assert re.search(r"Task 'job' of anna \(run [0-9a-f]{8}\) failed: KeyError\n", caplog.text)
    assert task.label == "'job' of anna"


def test_a_run_that_is_over_or_new_has_no_public_error() -> None:
    task = BackgroundTask(runner=InlineRunner(), public_errors=BadFile)
    assert not task.state.error_public
    task.start(lambda task: task.fail("text"))
    assert task.state.error_public
    task.start(lambda task: None)
    assert (task.state.error_public, task.state.to_dict(public=True)["error"]) == (False, None)


# The log.


def chat(task: BackgroundTask) -> None:
    task.log("mine %d", 1)
    with task.logging("silo.public"):
        LOGGER.error("SELECT password FROM users")
        task.log("mine %d", 2)
        LOGGER.error("of a library")
    with task.logging("silo.public", public=True):
        LOGGER.error("for clients")


def test_lines_captured_from_loggers_are_for_the_server() -> None:
    task = BackgroundTask(runner=InlineRunner())
    task.start(chat)
    state = task.state
    assert state.logs == ["mine 1", "SELECT password FROM users", "mine 2", "of a library", "for clients"]
    assert [line.public for line in task.logs()] == [True, False, True, False, True]
    public = state.to_dict(public=True)
    assert public["logs"] == ["mine 1", "mine 2", "for clients"]
    # As a page counts: the number of the last line, of those that it gets.
    assert (public["last_seq"], public["dropped"]) == (3, 0)
    assert state.to_dict(public=True, max_logs=1)["logs"] == ["for clients"]
    assert state.to_dict(public=True, max_logs=0)["logs"] == []
    assert state.to_dict()["private_logs"] == [1, 3]
    assert state.to_dict(max_logs=2)["private_logs"] == [0]


def test_numbers_of_public_lines_rise_from_run_to_run_and_count_what_was_dropped() -> None:
    task, seen = BackgroundTask(runner=InlineRunner(), max_logs=4), [0]

    def work(task: BackgroundTask) -> None:
        for i in range(20):
            before = task.state.to_dict(public=True)["last_seq"]
            with task.logging("silo.public"):
                LOGGER.error("hidden") if i % 3 else task.log("%d", i)
            public = task.state.to_dict(public=True)
            assert public["last_seq"] == before + (i % 3 == 0)
            assert public["last_seq"] >= seen[-1]
            seen.append(public["last_seq"])
            assert len(public["logs"]) + public["dropped"] == i // 3 + 1

    for _ in range(3):
        task.start(work)
        task.result()


def through_json(state: TaskState) -> TaskState:
    return TaskState.from_dict(json.loads(json.dumps(state.to_dict())))


def test_a_record_keeps_what_is_public() -> None:
    task = BackgroundTask(runner=InlineRunner(), public_errors=BadFile)

    def work(task: BackgroundTask, error: Exception) -> None:
        chat(task)
        raise error

    for error in (BadFile("bad"), OSError(SECRET)):
        task.start(work, error)
        state = task.state
        public = state.to_dict(public=True)
        assert through_json(state) == state
        assert through_json(state).to_dict(public=True) == public
        assert pickle.loads(pickle.dumps(state)).to_dict(public=True) == public
        assert TaskState.from_dict(public).to_dict(public=True) == public


def test_a_record_without_marks_is_private() -> None:
    task = BackgroundTask(runner=InlineRunner())

    def work(task: BackgroundTask) -> None:
        chat(task)
        task.fail("text")

    task.start(work)
    record = task.state.to_dict()
    for name in ("error_public", "private_logs", "private_count"):
        del record[name]
    public = TaskState.from_dict(record).to_dict(public=True)
    assert (public["error"], public["message"], public["logs"]) == ("The task failed", "The task failed", [])
    assert (public["last_seq"], public["dropped"]) == (0, 0)
    assert TaskState(logs=["line"], error="text").to_dict(public=True)["logs"] == []


def test_a_watcher_of_the_record_knows_what_is_public() -> None:
    store = MemoryTaskStore()
    task = BackgroundTask("job", runner=InlineRunner(), store=store, public_errors=BadFile, max_logs=4)

    def work(task: BackgroundTask) -> None:
        chat(task)
        raise NoColumn("no column B")

    task.start(work)
    other = BackgroundTask.attach("job", store)
    assert other is not None
    assert other.state.to_dict(public=True) == task.state.to_dict(public=True)
    assert [line.public for line in other.logs()] == [line.public for line in task.logs()]


def test_a_stored_record_without_marks_is_private() -> None:
    store = MemoryTaskStore()
    record = TaskState(name="job", last_seq=1, error="text").to_dict() | {"status": "failed", "run": 1}
    for name in ("error_public", "logs", "private_logs", "private_count"):
        del record[name]
    record["log"] = [[1, 0.0, "info", "line"]]
    assert store.begin("", "job", "token", record, expect=None)
    task = BackgroundTask.attach("job", store)
    assert task is not None
    assert task.state.logs == ["line"]
    public = task.state.to_dict(public=True)
    assert (public["error"], public["logs"], public["last_seq"]) == ("The task failed", [], 0)


def test_a_lost_run_is_public() -> None:
    record = StoredRun("token", TaskState(running=True).to_dict(), 0.0).at(1000.0).record
    assert TaskState.from_dict(record).to_dict(public=True)["error"].startswith("lost: ")


def test_a_message_names_the_classes() -> None:
    sent: list[Message] = []

    class Runner(InlineRunner):
        def submit(self, job: Any) -> None:
            sent.append(message_of(job))

    task = BackgroundTask(runner=Runner(), public_errors=(BadFile, KeyError))
    task.start(chat)
    assert list(sent[0].public_errors) == sorted([f"{__name__}:BadFile", "builtins:KeyError"])
    assert Message.of(json.loads(json.dumps(sent[0].head())), (), {}).public_errors == sent[0].public_errors
    task.cancel()


def test_a_class_with_the_name_of_a_public_error_is_private() -> None:
    """Only the name of the class is known of an error in another process."""
    runner = ProcessRunner(workers=1)
    inner, outer = BackgroundTask("inner", runner=runner), BackgroundTask("outer")
    inner.start(process_jobs.raise_namesake)
    outer.start(lambda _: inner.result(30))
    assert outer.wait(30)
    runner.shutdown()
    assert inner.state.error_type == "TaskTimeout"
    assert "secret" in (outer.state.error or "")
    assert outer.state.to_dict(public=True)["error"] == "The task failed"
    assert "secret" not in str(outer.state.to_dict(public=True))


def test_a_private_loss_stays_private_in_another_task() -> None:
    error = TaskLost("lost: no process could be started: /srv/secret", "TaskLost")
    error.public = False

    def again(_: BackgroundTask) -> None:
        raise error

    task = BackgroundTask("again")
    task.start(again)
    assert task.wait(30)
    assert task.state.to_dict(public=True)["error"] == "The task failed"
    assert task.state.error == "lost: no process could be started: /srv/secret"
