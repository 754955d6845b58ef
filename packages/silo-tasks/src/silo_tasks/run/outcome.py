"""How a run ends, and what ``result()`` returns or raises for that."""

from typing import Any, NamedTuple

from ..errors import TaskCancelled, TaskError, TaskFailed, TaskLost, TaskTimeout
from ..status import Status
from .failure import Failure

NOT_KEPT = object()
"""The value of a run in another process whose record could not hold the value."""

MAX_VALUE = 65_536
"""Longest value in a record, in characters of JSON."""


class Outcome(NamedTuple):
    """How a run ends."""

    status: Status
    message: str | None = None
    """The new message of the run; None keeps the message that its code has set."""
    failure: Failure | None = None
    finished_at: float | None = None
    """When the run ended, in seconds since the epoch; None is now."""


SUCCEEDED, CANCELLED = Outcome(Status.SUCCEEDED), Outcome(Status.CANCELLED, "Cancelled")


def result_of(name: str, status: Status, failure: Failure | None, value: Any) -> Any:
    """Return the value of a run that is over.

    Args:
        name: Name of the task.
        status: Its final status.
        failure: The error of a failed run.
        value: The return value of a run that succeeded.

    Raises:
        TaskFailed: The run failed.
        TaskCancelled: The run was cancelled.
        TaskError: The run succeeded in another process, and its value could not be kept.
    """
    if status is Status.CANCELLED:
        raise TaskCancelled(name)
    if status is Status.FAILED:
        failure = failure or Failure("")
        kind = TaskFailed
        if failure.exception is None or isinstance(failure.exception, TaskFailed):
            kind = {"TaskTimeout": TaskTimeout, "TaskLost": TaskLost}.get(failure.error_type or "", TaskFailed)
        failed = kind(failure.text, failure.error_type, failure.traceback)
        failed.public = failure.public
        raise failed from failure.exception
    if value is NOT_KEPT:
        raise TaskError(
            f"task {name!r} has succeeded in another process, and its value was not kept: only plain values of up to "
            f"{MAX_VALUE} characters of JSON are. Put large results into a file or a store"
        )
    return value


def not_over(name: str, timeout: float | None) -> TimeoutError:
    """Return the error for a caller that has waited ``timeout`` seconds in vain."""
    return TimeoutError(f"task {name!r} is not over after {timeout or 0:.10g} seconds")
