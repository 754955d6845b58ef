"""Tasks of sessions. The names that release 0.1 had for its module are here."""

from silo_tasks import BackgroundTask, TaskState

from .task import SessionTask

__all__ = ["BackgroundTask", "SessionTask", "TaskState"]
