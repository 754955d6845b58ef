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

from .ext import Silo
from .namespace import Namespace

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

    from .files import ALL_ROUTES, MalformedUpload, SessionFileStore
    from .tasks import SessionTask

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

OF_TASKS = {
    "BackgroundTask",
    "QueueFull",
    "RunnerUnavailable",
    "SessionTask",
    "TaskError",
    "TaskRunning",
    "TaskState",
    "current_task",
    "step",
    "track",
}
"""The names of ``__all__`` that are imported with tasks. Those of files are the other names that are imported late."""


if not TYPE_CHECKING:  # otherwise no checker would report a name that does not exist

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            globals()[name] = found = version("flask-silo")
            return found
        if name in ("tasks", "files"):
            return import_module(f".{name}", __name__)
        if name in __all__:  # many applications have no tasks, or no files
            part = "tasks" if name in OF_TASKS else "files"
            own = import_module(f".{part}", __name__)
            home = own if name in own.__all__ else import_module(f"silo_{part}")
            globals()[name] = found = getattr(home, name)
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
