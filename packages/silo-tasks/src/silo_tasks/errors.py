"""The errors of silo-tasks.

TaskError
 ├── TaskRunning        the task is queued or running (also a RuntimeError)
 ├── QueueFull          as many runs wait as may
 ├── RunnerUnavailable  the task queue or the task store cannot be reached
 ├── TaskCancelled      the run was cancelled
 └── TaskFailed         the run failed
      ├── TaskTimeout   it took longer than it may
      └── TaskLost      its process was killed or is cut off from the store
Cancelled              stops a task's own code (a BaseException)
"""

from __future__ import annotations

import re

_VALUE = re.compile(r"""'.*'|".*"|\(.*\)|[-+.\d]+""", re.DOTALL)


class TaskError(Exception):
    """Base of every error that silo-tasks raises to its callers."""


class TaskRunning(TaskError, RuntimeError):
    """Raised by ``start()`` and ``reset()``: the task is queued or running. Nothing was started or reset.

    Args:
        name: The name of the task.
        status: The status of its run, "queued" or "running"; None if it is not known which.
        action: What was refused, "start" or "reset".
        remote: Whether the run is in another process, as the task store says.

    Attributes:
        name, status, action, remote: As given.
    """

    def __init__(self, name: str, status: str | None = None, action: str = "start", remote: bool = False) -> None:
        super().__init__(name, status, action, remote)
        self.name, self.status, self.action, self.remote = name, status, action, remote

    def __str__(self) -> str:
        if self.action == "reset":
            return f"Cannot reset {self.status} task {self.name!r}. Wait for its end, or cancel it first"
        if self.remote:
            what = f"Task {self.name!r} is already running in another process"
            return f"{what}. Wait for its end; another task needs another name or owner"
        status = f" (status: {self.status})" if self.status else ""
        return f"Task {self.name!r} is already running{status}. Wait for its end, or cancel it first"


class QueueFull(TaskError):
    """Raised by ``start()``: as many runs wait as the runner accepts. Nothing was started.

    Attributes:
        waiting: How many runs wait.
    """

    def __init__(self, waiting: int) -> None:
        super().__init__(waiting)
        self.waiting = waiting

    def __str__(self) -> str:
        return f"the queue of the runner is full: {self.waiting} runs wait. Try again later"


class RunnerUnavailable(TaskError):
    """Raised where the task queue or the task store cannot be reached. ``start()`` has started nothing then.

    Attributes:
        service: What cannot be reached, such as "the task store in Redis".
        reason: What its client library reports.
    """

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(service, reason)
        self.service, self.reason = service, reason

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

    ``str()`` gives ``error``; with the class before it if the text is only a value, as in ``KeyError: 'a'``.

    Args:
        error: What went wrong, never empty, cut to ``MAX_LINE`` characters.
        error_type: Name of the exception's class; None if ``fail()`` was called with a text.
        traceback: The formatted traceback; "" if there is none. The middle of one longer than 20,000 characters is left
            out.

    Attributes:
        error, error_type, traceback: As given.
        public: Whether clients may read the text, should a task raise this error again.
    """

    public = True

    def __init__(self, error: str, error_type: str | None = None, traceback: str = "") -> None:
        super().__init__(error)
        self.error = error
        self.error_type = error_type
        self.traceback = traceback

    def __str__(self) -> str:
        if self.error_type is not None and _VALUE.fullmatch(self.error):
            return f"{self.error_type}: {self.error}"
        return self.error


class TaskTimeout(TaskFailed):
    """Raised by ``result()``: the run took longer than its ``timeout``.

    It is not a ``TimeoutError``: ``result(timeout=...)`` raises that one when only the waiting took too long.
    """


class TaskLost(TaskFailed):
    """Raised by ``result()``: the run never finishes, as its process was killed or is cut off from the task store."""


class Cancelled(BaseException):
    """Raised inside a task's own code, by reports and ``checkpoint()``, to stop it. Use ``finally`` to clean up.

    It derives from ``BaseException`` so that ``except Exception`` around one item cannot swallow a cancel.
    """
