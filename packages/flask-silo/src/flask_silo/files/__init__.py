"""Files that belong to a session. The module exports the public names of files, of which ``FileStore`` is of 0.1."""

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

from .errors import MalformedUpload
from .routes import ALL_ROUTES
from .store import SessionFileStore

__all__ = [
    "ALL_ROUTES",
    "AreaGone",
    "DigestMismatch",
    "ExtensionRefused",
    "FileMissing",
    "FileRefused",
    "FileStore",
    "FileStoreError",
    "FileTooLarge",
    "InvalidFileName",
    "MalformedUpload",
    "NameTaken",
    "SessionFileStore",
    "SessionQuotaExceeded",
    "StorageFull",
    "StoreQuotaExceeded",
    "TruncatedInput",
]
