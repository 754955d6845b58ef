"""Files that belong to a session: saved whole or not at all, deleted together."""

from typing import TYPE_CHECKING

from .backend import Block, FileBackend, FileInfo, SavedPath, StagedFile, Usage
from .errors import (
    AreaGone,
    BaseMissing,
    DigestMismatch,
    ExtensionRefused,
    FileMissing,
    FileRefused,
    FileStoreError,
    FileTooLarge,
    FolderUnusable,
    InvalidFileName,
    InvalidKey,
    InvalidSource,
    NameTaken,
    NoLocalPath,
    SessionQuotaExceeded,
    StorageFull,
    StoreQuotaExceeded,
    TruncatedInput,
    UnsafeCounts,
    UnsafeFolder,
)
from .ledger import Change, Ledger, Limits, Reservation
from .local import LocalFileBackend
from .names import MAX_KEY_LENGTH, MAX_NAME_BYTES, check_key, check_name, portable_names
from .policy import OnConflict, Validator
from .source import Source
from .store import FileStore
from .writer import Saving, Writer

__version__: str

__all__ = [
    "MAX_KEY_LENGTH",
    "MAX_NAME_BYTES",
    "AreaGone",
    "BaseMissing",
    "Block",
    "Change",
    "DigestMismatch",
    "ExtensionRefused",
    "FileBackend",
    "FileInfo",
    "FileMissing",
    "FileRefused",
    "FileStore",
    "FileStoreError",
    "FileTooLarge",
    "FolderUnusable",
    "InvalidFileName",
    "InvalidKey",
    "InvalidSource",
    "Ledger",
    "Limits",
    "LocalFileBackend",
    "NameTaken",
    "NoLocalPath",
    "OnConflict",
    "Reservation",
    "SavedPath",
    "Saving",
    "SessionQuotaExceeded",
    "Source",
    "StagedFile",
    "StorageFull",
    "StoreQuotaExceeded",
    "TruncatedInput",
    "UnsafeCounts",
    "UnsafeFolder",
    "Usage",
    "Validator",
    "Writer",
    "__version__",
    "check_key",
    "check_name",
    "portable_names",
]


if not TYPE_CHECKING:  # otherwise no checker would report a name that does not exist

    def __getattr__(name: str) -> str:
        if name == "__version__":
            from importlib.metadata import version  # takes longer to import than this package

            globals()[name] = found = version("silo-files")
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
