"""The answers that clients get for errors of tasks."""

from __future__ import annotations

from functools import partial

from flask import Flask
from silo_tasks import QueueFull, RunnerUnavailable, TaskError, TaskRunning

from ..replies import Answer, answer

ANSWERS: dict[type[Exception], Answer] = {
    TaskRunning: Answer(409, "task_running", "This task is still running."),
    RunnerUnavailable: Answer(503, "task_queue_unavailable", "Tasks cannot be started at the moment.", 5),
    QueueFull: Answer(503, "task_queue_full", "Too many tasks are waiting. Try again later.", 5),
}
"""The answer to each error of tasks that clients may know. Flask answers any other with 500."""


def answer_task_errors(app: Flask) -> None:
    """Answer the errors of tasks, unless the application has a handler for them. It may also register one later."""
    app.error_handler_spec[None][None].setdefault(TaskError, partial(answer, answers=ANSWERS))
