"""The exceptions of silo-tasks."""

from __future__ import annotations


class TaskError(Exception):
    """Base of every error that silo-tasks raises to its callers."""


class TaskRunning(TaskError, RuntimeError):
    """The task is queued or running, and what was asked needs it to be at rest."""


class QueueFull(TaskError):
    """The runner's queue holds as many waiting runs as it may; nothing was started."""


class RunnerUnavailable(TaskError):
    """The task queue or the task store cannot be reached; nothing was started."""


class TaskCancelled(TaskError):
    """Raised by `result()`: the run was cancelled before it returned a value."""


class TaskFailed(TaskError):
    """Raised by `result()`: the run failed.

    The exception that ended the run is the `__cause__`, where there was one. The local variables of its frames are
    cleared, so that a failed task does not keep the data it worked on alive.

    Args:
        error: What went wrong, never empty, cut to `MAX_LINE` characters.
        error_type: Name of the exception's class, or None when `fail()` was called with a text.
        traceback: The formatted traceback, or "" when there is none. Of one longer than 20,000 characters the middle
            is left out.

    Attributes:
        public: Whether clients may read the text, should a task raise the error again.
    """

    public = True

    def __init__(self, error: str, error_type: str | None = None, traceback: str = "") -> None:
        super().__init__(error)
        self.error = error
        self.error_type = error_type
        self.traceback = traceback


class TaskTimeout(TaskFailed):
    """Raised by `result()`: the run went past its deadline.

    It is not a `TimeoutError`, because `result(timeout=...)` raises that one when only the waiting ran out.
    """


class TaskLost(TaskFailed):
    """Raised by `result()`: nobody will finish the run, as its process was killed or is cut off from the task store."""


class Cancelled(BaseException):
    """Raised inside a task's own code to stop it. Let it pass; use `finally` to clean up.

    It derives from `BaseException` so that an `except Exception` around one item cannot swallow a cancel.
    """
