"""Background tasks of sessions. The module exports the names that it had in release 0.1."""

from silo_tasks import BackgroundTask, TaskState

from .task import SessionTask

__all__ = ["BackgroundTask", "SessionTask", "TaskState"]
