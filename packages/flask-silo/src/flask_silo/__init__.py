"""A private, expiring workspace for every client of a Flask API: state, tasks, files."""

from silo_files import FileStore, FileStoreError
from silo_store import (
    CleanupDaemon,
    InMemoryStorage,
    InvalidSessionId,
    NamespaceError,
    SessionBusy,
    SessionConflict,
    SessionExpired,
    SessionRotated,
    SessionStore,
    SiloError,
    SiloStorage,
    StateDecodeError,
    StateEncodeError,
    StateTooLarge,
    StateValueError,
    StoreUnavailable,
    TooManySessions,
    TooManyWaiters,
    TurnTimeout,
)
from silo_tasks import BackgroundTask, TaskError, TaskRunning, TaskState, current_task, step, track

from .ext import Silo
from .namespace import Namespace
from .tasks import SessionTask

__version__ = "0.2.0"

__all__ = [
    "BackgroundTask",
    "CleanupDaemon",
    "FileStore",
    "FileStoreError",
    "InMemoryStorage",
    "InvalidSessionId",
    "Namespace",
    "NamespaceError",
    "SessionBusy",
    "SessionConflict",
    "SessionExpired",
    "SessionRotated",
    "SessionStore",
    "SessionTask",
    "Silo",
    "SiloError",
    "SiloStorage",
    "StateDecodeError",
    "StateEncodeError",
    "StateTooLarge",
    "StateValueError",
    "StoreUnavailable",
    "TaskError",
    "TaskRunning",
    "TaskState",
    "TooManySessions",
    "TooManyWaiters",
    "TurnTimeout",
    "__version__",
    "current_task",
    "step",
    "track",
]
