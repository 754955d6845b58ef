"""The errors of silo-tasks.

TaskError
 ├── TaskRunning        the task is queued or running (also a RuntimeError)
 ├── QueueFull          the queue of the runner is full
 ├── RunnerUnavailable  the task queue or the task store cannot be reached
 ├── TaskCancelled      the run was cancelled
 └── TaskFailed         the run failed
      ├── TaskTimeout   the run took longer than its timeout
      └── TaskLost      the process of the run was killed or is cut off from the store
Cancelled              stops a task's own code (a BaseException)
"""

from __future__ import annotations

import re

_VALUE = r"""(?s)'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\([^()]*\)|[-+.\d]+"""
"""Matches the text of a single value, such as a number or a quoted text."""


class TaskError(Exception):
    """Base of every error that silo-tasks raises to its callers."""


class TaskRunning(TaskError, RuntimeError):
    """Raised by ``start()`` and ``reset()``: the task is queued or running. Nothing was started or reset.

    Args:
        name: The name of the task.
        status: The status of its run, "queued" or "running"; None if it is unknown.
        action: The action that was refused, "start" or "reset".
        remote: Whether the run is in another process, according to the task store.

    Attributes:
        name, status, action, remote: As given.
    """

    def __init__(self, name: str, status: str | None = None, action: str = "start", remote: bool = False) -> None:
        super().__init__(name, status, action, remote)
        self.name = name
        self.status = status
        self.action = action
        self.remote = remote

    def __str__(self) -> str:
        if self.action == "reset":
            return f"Cannot reset {self.status} task {self.name!r}. Wait for its end, or cancel it first"
        if self.remote:
            what = f"Task {self.name!r} is already running in another process"
            return f"{what}. Wait for its end; another task needs another name or owner"
        status = f" (status: {self.status})" if self.status else ""
        return f"Task {self.name!r} is already running{status}. Wait for its end, or cancel it first"


class QueueFull(TaskError):
    """Raised by ``start()``: the queue of the runner is full. Nothing was started.

    Attributes:
        waiting: Number of runs that wait.
    """

    def __init__(self, waiting: int) -> None:
        super().__init__(waiting)
        self.waiting = waiting

    def __str__(self) -> str:
        return f"the queue of the runner is full: {self.waiting} runs wait. Try again later"


class RunnerUnavailable(TaskError):
    """Raised if the task queue or the task store cannot be reached. If ``start()`` raises it, nothing was started.

    Attributes:
        service: The service that cannot be reached, such as "the task store in Redis".
        reason: The error of its client library.
    """

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(service, reason)
        self.service = service
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.service} cannot be reached: {self.reason}"


class TaskCancelled(TaskError):
    """Raised by ``result()``: the run was cancelled before it returned a value.

    Attributes:
        name: The name of the task.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"task {self.name!r} was cancelled"


class TaskFailed(TaskError):
    """Raised by ``result()``: the run failed.

    The exception that ended the run is the ``__cause__``, if it was raised in this process. The local variables of its
    frames are cleared, so that a failed task does not keep the data it worked on alive.

    ``str()`` returns ``error``. If that is only a value, the class stands before it, as in ``KeyError: 'a'``.

    Args:
        error: What went wrong, never empty, cut to ``MAX_LINE`` characters.
        error_type: Name of the exception's class; None if ``fail()`` was called with a text.
        traceback: The formatted traceback; "" if there is none. If it is longer than 20,000 characters, its middle is
            left out.

    Attributes:
        error, error_type, traceback: As given.
        public: Whether clients may read the text if a task raises this error again.
    """

    public = True

    def __init__(self, error: str, error_type: str | None = None, traceback: str = "") -> None:
        super().__init__(error)
        self.error = error
        self.error_type = error_type
        self.traceback = traceback

    def __str__(self) -> str:
        if self.error_type is not None and re.fullmatch(_VALUE, self.error):
            return f"{self.error_type}: {self.error}"
        return self.error


class TaskTimeout(TaskFailed):
    """Raised by ``result()``: the run took longer than its ``timeout``.

    This is not a ``TimeoutError``: ``result(timeout=...)`` raises that one if only the waiting took too long.
    """


class TaskLost(TaskFailed):
    """Raised by ``result()``: the process of the run was killed or is cut off from the task store."""


class Cancelled(BaseException):
    """Raised inside a task's own code, by reports and ``checkpoint()``, to stop it. Use ``finally`` to clean up.

    Derives from ``BaseException``, so that ``except Exception`` around one item cannot swallow a cancel.
    """
