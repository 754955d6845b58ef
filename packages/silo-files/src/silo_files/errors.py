"""The errors of this package. All are `FileStoreError`."""

from __future__ import annotations


class FileStoreError(Exception):
    """Base of every error that this package raises by itself."""


class InvalidKey(FileStoreError, ValueError):
    """The session id, or the key made from it, is not one that the store accepts."""


class InvalidFileName(FileStoreError, ValueError):
    """The file name was refused by `check_name`. The text gives the reason, never the name."""


class InvalidSource(FileStoreError, TypeError):
    """What should be saved is neither bytes nor a file-like object whose `read` returns bytes."""


class TruncatedInput(FileStoreError):
    """The source ended before it gave the announced number of bytes. Nothing was saved."""


class FileTooLarge(FileStoreError):
    """The file has more bytes than `max_file_bytes`, or than its announced size. Nothing was saved.

    `max_bytes` is `max_file_bytes`; None if only the announced size was exceeded.
    """

    def __init__(self, message: str, *, max_bytes: int | None = None) -> None:
        super().__init__(message)
        self.max_bytes = max_bytes


class SessionQuotaExceeded(FileStoreError):
    """The session would hold more than `max_session_bytes` or `max_files`. Nothing was saved.

    `max_bytes` or `max_files` is the limit that was exceeded; the other one is None.
    """

    def __init__(self, message: str, *, max_bytes: int | None = None, max_files: int | None = None) -> None:
        super().__init__(message)
        self.max_bytes = max_bytes
        self.max_files = max_files


class StoreQuotaExceeded(FileStoreError):
    """All sessions together would hold more than `max_store_bytes`. Nothing was saved."""


class StorageFull(FileStoreError, OSError):
    """The file system has no room left, or the user's disk quota is used up. Nothing was saved."""


class AreaGone(FileStoreError):
    """The session's files were cleaned up while this file was being saved. Nothing was saved."""


class BaseMissing(FileStoreError, FileNotFoundError):
    """`base_dir` is not there, perhaps an unmounted disk, and `auto_create` is off. Nothing was saved."""


class FolderUnusable(FileStoreError, OSError):
    """The folder cannot be created, or this process may not write to it. The text names it and says what to do."""


class UnsafeFolder(FileStoreError, NotADirectoryError):
    """Where the store wants a folder of its own there is a link, or no folder. It was left alone."""


class FileMissing(FileStoreError, FileNotFoundError):
    """The session has no file of this name."""


class NoLocalPath(FileStoreError):
    """The backend keeps files where no path of this machine leads."""
