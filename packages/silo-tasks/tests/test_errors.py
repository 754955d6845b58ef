from __future__ import annotations

import copy
import inspect
import pickle

import pytest
from silo_tasks import BackgroundTask, InlineRunner, TaskFailed, errors
from silo_tasks.errors import (
    Cancelled,
    QueueFull,
    RunnerUnavailable,
    TaskCancelled,
    TaskError,
    TaskLost,
    TaskRunning,
    TaskTimeout,
)

ERRORS: list[tuple[BaseException, str]] = [
    (TaskError("the runner has been shut down"), "the runner has been shut down"),
    (
        TaskRunning("job", "queued"),
        "Task 'job' is already running (status: queued). Wait for its end, or cancel it first",
    ),
    (TaskRunning("job", "queued", "reset"), "Cannot reset queued task 'job'. Wait for its end, or cancel it first"),
    (
        TaskRunning("job", remote=True),
        "Task 'job' is already running in another process. Wait for its end; another task needs another name or owner",
    ),
    (QueueFull(8), "the queue of the runner is full: 8 runs wait. Try again later"),
    (RunnerUnavailable("the broker", "Connection refused"), "the broker cannot be reached: Connection refused"),
    (TaskCancelled("job"), "task 'job' was cancelled"),
    (TaskFailed("no column B", "ValueError", "Traceback ..."), "no column B"),
    (TaskTimeout("took longer than 3 seconds", "TaskTimeout"), "took longer than 3 seconds"),
    (TaskLost("lost: its process was killed", "TaskLost"), "lost: its process was killed"),
    (Cancelled(), ""),
]


@pytest.mark.parametrize(("error", "text"), ERRORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])
def test_errors_survive_pickle(error: BaseException, text: str, copied: object) -> None:
    error.__dict__["public"] = False

    again = copied(error)  # type: ignore[operator]

    assert type(again) is type(error)
    assert str(again) == str(error) == text
    assert vars(again) == vars(error)


def test_every_class_of_errors_is_tested() -> None:
    classes = {each for _, each in inspect.getmembers(errors, inspect.isclass)}
    assert {type(error) for error, _ in ERRORS} == classes
    assert all(issubclass(each, TaskError) for each in classes - {Cancelled})


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("a"), "KeyError: 'a'"),
        (KeyError("it's"), 'KeyError: "it\'s"'),
        (KeyError("'\""), "KeyError: '\\'\"'"),
        (KeyError(("a", 1)), "KeyError: ('a', 1)"),
        (ValueError(-1.5), "ValueError: -1.5"),
        (KeyError(), "KeyError"),
        (ValueError("bad"), "bad"),
        (AttributeError("'list' object has no attribute 'size'"), "'list' object has no attribute 'size'"),
        (ValueError("(a) is not (b)"), "(a) is not (b)"),
    ],
    ids=["key", "quoted key", "both quotes", "pair", "number", "nothing", "words", "two names", "two brackets"],
)
def test_a_failure_says_its_class_if_its_text_is_only_a_value(error: Exception, text: str) -> None:
    def work(task: BackgroundTask) -> None:
        raise error

    task = BackgroundTask(runner=InlineRunner())
    task.start(work)

    with pytest.raises(TaskFailed) as caught:
        task.result()

    assert str(caught.value) == text
    assert caught.value.error_type == type(error).__name__


def test_the_text_of_fail_stays_as_it_is() -> None:
    task = BackgroundTask(runner=InlineRunner())
    task.start(lambda task: task.fail("'a'"))

    with pytest.raises(TaskFailed) as caught:
        task.result()

    assert str(caught.value) == "'a'"
