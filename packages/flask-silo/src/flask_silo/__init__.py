"""A private, expiring workspace for every client of a Flask API: state, tasks, files."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from silo_store import (
    CleanupDaemon,
    InvalidSessionId,
    LockTimeout,
    NamespaceError,
    SessionBusy,
    SessionConflict,
    SessionExpired,
    SessionRotated,
    SessionStore,
    SiloError,
    StateDecodeError,
    StateEncodeError,
    StateTooLarge,
    StateValueError,
    StoreUnavailable,
    TooManySessions,
    TooManyWaiters,
)
from silo_tasks import (
    BackgroundTask,
    QueueFull,
    RunnerUnavailable,
    TaskError,
    TaskRunning,
    TaskState,
    current_task,
    step,
    track,
)

from .ext import Silo
from .namespace import Namespace
from .tasks.task import SessionTask

if TYPE_CHECKING:
    from silo_files import (
        AreaGone,
        DigestMismatch,
        ExtensionRefused,
        FileMissing,
        FileRefused,
        FileStore,
        FileStoreError,
        FileTooLarge,
        InvalidFileName,
        NameTaken,
        SessionQuotaExceeded,
        StorageFull,
        StoreQuotaExceeded,
        TruncatedInput,
    )

    from .files import ALL_ROUTES, MalformedUpload, SessionFileStore

__version__: str

__all__ = [
    "ALL_ROUTES",
    "AreaGone",
    "BackgroundTask",
    "CleanupDaemon",
    "DigestMismatch",
    "ExtensionRefused",
    "FileMissing",
    "FileRefused",
    "FileStore",
    "FileStoreError",
    "FileTooLarge",
    "InvalidFileName",
    "InvalidSessionId",
    "LockTimeout",
    "MalformedUpload",
    "NameTaken",
    "Namespace",
    "NamespaceError",
    "QueueFull",
    "RunnerUnavailable",
    "SessionBusy",
    "SessionConflict",
    "SessionExpired",
    "SessionFileStore",
    "SessionQuotaExceeded",
    "SessionRotated",
    "SessionStore",
    "SessionTask",
    "Silo",
    "SiloError",
    "StateDecodeError",
    "StateEncodeError",
    "StateTooLarge",
    "StateValueError",
    "StorageFull",
    "StoreQuotaExceeded",
    "StoreUnavailable",
    "TaskError",
    "TaskRunning",
    "TaskState",
    "TooManySessions",
    "TooManyWaiters",
    "TruncatedInput",
    "__version__",
    "current_task",
    "step",
    "track",
]


if not TYPE_CHECKING:  # otherwise no checker would report a name that does not exist

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            globals()[name] = found = version("flask-silo")
            return found
        if name == "files" or name in __all__:  # many applications have no files
            files = import_module(".files", __name__)
            home = files if name in files.__all__ else import_module("silo_files")
            globals()[name] = found = files if name == "files" else getattr(home, name)
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
