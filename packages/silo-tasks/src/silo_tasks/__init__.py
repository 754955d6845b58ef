"""Run a function in the background and watch it: progress, log, cancel, deadline."""

from typing import TYPE_CHECKING, Any

from silo_tasks._context import current_task
from silo_tasks._logs import MAX_LINE, LogLine
from silo_tasks._reporting import step, track
from silo_tasks.errors import (
    Cancelled,
    QueueFull,
    RunnerUnavailable,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskRunning,
    TaskTimeout,
)
from silo_tasks.runner import Job, Runner
from silo_tasks.runners.inline import InlineRunner
from silo_tasks.runners.thread import ThreadRunner, default_runner
from silo_tasks.state import StepState, TaskState
from silo_tasks.status import Status
from silo_tasks.store import TaskStore
from silo_tasks.stores.memory import MemoryTaskStore
from silo_tasks.task import BackgroundTask

if TYPE_CHECKING:
    from silo_tasks.runners.process import ProcessRunner

__version__ = "0.2.0"

__all__ = [
    "MAX_LINE",
    "BackgroundTask",
    "Cancelled",
    "InlineRunner",
    "Job",
    "LogLine",
    "MemoryTaskStore",
    "ProcessRunner",
    "QueueFull",
    "Runner",
    "RunnerUnavailable",
    "Status",
    "StepState",
    "TaskCancelled",
    "TaskError",
    "TaskFailed",
    "TaskLost",
    "TaskRunning",
    "TaskState",
    "TaskStore",
    "TaskTimeout",
    "ThreadRunner",
    "__version__",
    "current_task",
    "default_runner",
    "step",
    "track",
]


def __getattr__(name: str) -> Any:
    # What starts processes is imported by those who start some.
    if name == "ProcessRunner":
        from silo_tasks.runners.process import ProcessRunner

        globals()[name] = ProcessRunner
        return ProcessRunner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
