"""Run functions in the background, with progress, a log, cancellation and deadlines."""

from typing import TYPE_CHECKING, Any

from .errors import (
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
from .log.lines import LogLine
from .progress.steps import StepState
from .reporting import step, track
from .run.target import check_target, explain_call
from .status import Status
from .task import BackgroundTask, current_task
from .text import MAX_LINE

if TYPE_CHECKING:
    from .run.job import Job
    from .runners.base import Runner
    from .runners.inline import InlineRunner
    from .runners.process import ProcessRunner
    from .runners.thread import ThreadRunner, default_runner
    from .state import TaskState
    from .stores.base import RunChange, TaskStore
    from .stores.memory import MemoryTaskStore
    from .stores.stored_run import StoredRun, TaskRecord

__version__: str

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
    "RunChange",
    "Runner",
    "RunnerUnavailable",
    "Status",
    "StepState",
    "StoredRun",
    "TaskCancelled",
    "TaskError",
    "TaskFailed",
    "TaskLost",
    "TaskRecord",
    "TaskRunning",
    "TaskState",
    "TaskStore",
    "TaskTimeout",
    "ThreadRunner",
    "__version__",
    "check_target",
    "current_task",
    "default_runner",
    "explain_call",
    "step",
    "track",
]


_LATE = {
    "InlineRunner": "runners.inline",
    "Job": "run.job",
    "MemoryTaskStore": "stores.memory",
    "ProcessRunner": "runners.process",
    "RunChange": "stores.base",
    "Runner": "runners.base",
    "StoredRun": "stores.stored_run",
    "TaskRecord": "stores.stored_run",
    "TaskState": "state",
    "TaskStore": "stores.base",
    "ThreadRunner": "runners.thread",
    "default_runner": "runners.thread",
}
"""The modules of the names that most programs need after their start or not at all."""

if not TYPE_CHECKING:  # otherwise no checker would report a name that does not exist

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version  # takes longer to import than this package

            globals()[name] = found = version("silo-tasks")
            return found
        if name in _LATE:
            from importlib import import_module

            if name == "TaskState":
                # With what stores it, so that an application that names it imports nothing in its first request.
                import_module(".run.publishing", __name__)
            globals()[name] = found = getattr(import_module(f".{_LATE[name]}", __name__), name)
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
