"""The errors of silo-files.

FileStoreError
 ├── InvalidKey            the session id or the key is malformed (also a ValueError)
 ├── InvalidFileName       the file name is not safe to store (also a ValueError)
 ├── InvalidSource         the data to save has the wrong type (also a TypeError)
 ├── TruncatedInput        the source ended early
 ├── FileTooLarge          a file exceeds ``max_file_bytes``, or its announced size
 ├── DigestMismatch        the bytes have another digest than the expected one
 ├── NameTaken             the session has a file of this name (also a FileExistsError)
 ├── ExtensionRefused      the store does not accept this extension
 ├── FileRefused           a validator refused the file
 ├── SessionQuotaExceeded  a session exceeds ``max_session_bytes`` or ``max_files``
 ├── StoreQuotaExceeded    all sessions together exceed ``max_store_bytes``
 ├── StorageFull           the disk is full (also an OSError)
 ├── AreaGone              the session was cleaned up during a save
 ├── BaseMissing           the base folder is missing (also a FileNotFoundError)
 ├── FolderUnusable        a folder cannot be created or written to (also an OSError)
 ├── UnsafeFolder          a link or a file stands in place of a folder (also a NotADirectoryError)
 ├── UnsafeCounts          a link or a folder stands in place of a file of counts (also an OSError)
 ├── FileMissing           the session has no such file (also a FileNotFoundError)
 └── NoLocalPath           the backend has no folders

A save that raises one of them has changed nothing. No message contains a session id, a key or a file name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any, ClassVar


class FileStoreError(Exception):
    """Base of every error of silo-files.

    Attributes:
        file: The name of the file that was refused. Set by a caller that saves several; otherwise None.
    """

    file: str | None = None

    _fields: ClassVar[tuple[str, ...] | None] = None
    """The parameters of ``__init__``, also attributes, by which an error is pickled; None to pickle its message."""

    def __reduce__(self) -> Any:
        if self._fields is None:
            return super().__reduce__()
        return _rebuild, (type(self), {name: getattr(self, name) for name in self._fields}, self.file)


def _rebuild(kind: type[FileStoreError], values: dict[str, Any], file: str | None = None) -> FileStoreError:
    error = kind(**values)
    if file is not None:
        error.file = file
    return error


class InvalidKey(FileStoreError, ValueError):
    """The session id, or the key that ``key_for`` returned for it, is refused by ``check_key``.

    Attributes:
        reason: What is wrong with the key. Never contains the key, which may be a secret.
    """

    _fields = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"key refused: {reason}")


class InvalidFileName(FileStoreError, ValueError):
    """The file name is refused by ``check_name``.

    Attributes:
        reason: What is wrong with the name. Never contains the name.
    """

    _fields = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"file name refused: {reason}")


class InvalidSource(FileStoreError, TypeError):
    """The data to save is neither bytes nor a file-like object that returns bytes.

    Attributes:
        reason: What is wrong with the source.
    """

    _fields = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"source refused: {reason}")


class TruncatedInput(FileStoreError):
    """The source ended early: it broke off, or gave fewer bytes than announced.

    Attributes:
        received: Bytes that the source gave.
        size: Bytes that were announced; None if none were.
    """

    _fields = ("received", "size")

    def __init__(self, received: int, size: int | None = None) -> None:
        self.received = received
        self.size = size
        if size is None:
            super().__init__(f"the source broke off after {received} bytes: send the whole file again")
        else:
            super().__init__(f"the source ended after {received} of {size} bytes: send the whole file again")


class FileTooLarge(FileStoreError):
    """The file has more bytes than ``max_file_bytes``, or more than its announced size.

    Attributes:
        max_bytes: The limit ``max_file_bytes``; None if only the announced size was exceeded.
        size: The announced size in bytes; None if none was announced.
    """

    _fields = ("max_bytes", "size")

    def __init__(self, max_bytes: int | None = None, *, size: int | None = None) -> None:
        self.max_bytes = max_bytes
        self.size = size
        if max_bytes is None:
            super().__init__(f"the source has more than the {size} bytes announced: pass its real size, or none")
        else:
            super().__init__(f"the file has more than {max_bytes} bytes: save a smaller one, or raise max_file_bytes")


class DigestMismatch(FileStoreError):
    """The bytes have another digest than the caller expected.

    Attributes:
        expected: The digest that was expected, such as ``"sha256:9f86d0..."``.
        actual: The digest that the bytes have.
    """

    _fields = ("expected", "actual")

    def __init__(self, expected: str, actual: str) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(f"the bytes have the digest {actual}, not {expected}: send the whole file again")


class NameTaken(FileStoreError, FileExistsError):
    """The session has a file of this name, and ``on_conflict`` is ``"error"``."""

    _fields = ()

    def __init__(self) -> None:
        super().__init__("the session has a file of this name: choose another name, or delete that file")


class ExtensionRefused(FileStoreError):
    """The store accepts certain extensions only, and the name has none of them, or it has a colon.

    Attributes:
        extensions: The extensions that are accepted, sorted.
    """

    _fields = ("extensions",)

    def __init__(self, extensions: Sequence[str]) -> None:
        self.extensions: tuple[str, ...] = tuple(extensions)
        super().__init__(f"the file was refused: its name must end with {' or '.join(extensions)} and have no colon")


class FileRefused(FileStoreError):
    """A validator refused the file. Validators raise it themselves.

    Attributes:
        reason: What is wrong with the file. An application may show it to its client.
    """

    _fields = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the file was refused: {reason}")


class SessionQuotaExceeded(FileStoreError):
    """The session would hold more than ``max_session_bytes`` or ``max_files``.

    Attributes:
        max_bytes: The limit ``max_session_bytes``; None if ``max_files`` was exceeded.
        max_files: The limit ``max_files``; None if ``max_session_bytes`` was exceeded.
    """

    _fields = ("max_bytes", "max_files")

    def __init__(self, *, max_bytes: int | None = None, max_files: int | None = None) -> None:
        self.max_bytes = max_bytes
        self.max_files = max_files
        if max_files is None:
            limit, setting = f"{max_bytes} bytes", "max_session_bytes"
        else:
            limit, setting = f"{max_files} files", "max_files"
        super().__init__(f"the session would hold more than {limit}: delete some of its files, or raise {setting}")


class StoreQuotaExceeded(FileStoreError):
    """All sessions together would hold more than ``max_store_bytes``.

    Attributes:
        max_bytes: The limit ``max_store_bytes``.
    """

    _fields = ("max_bytes",)

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        super().__init__(
            f"all sessions together would hold more than {max_bytes} bytes: clean up sessions, or raise max_store_bytes"
        )


class StorageFull(FileStoreError, OSError):
    """The file system is full, or the disk quota of this process's user is used up.

    Attributes:
        errno: ``ENOSPC`` or ``EDQUOT``.
    """

    _fields = ("errno",)

    def __init__(self, errno: int) -> None:
        super().__init__(errno, f"the file was not saved ({os.strerror(errno)}): free some space")


class AreaGone(FileStoreError):
    """The session's files were cleaned up while this file was being saved."""

    _fields = ()

    def __init__(self) -> None:
        super().__init__("the session was cleaned up while this file was being saved: nothing was saved")


class BaseMissing(FileStoreError, FileNotFoundError):
    """``base_dir`` is missing, perhaps because a disk is not mounted, and ``auto_create`` is off.

    Attributes:
        folder: Absolute path of the folder.
    """

    _fields = ("folder",)

    def __init__(self, folder: str) -> None:
        self.folder = folder
        super().__init__(errno.ENOENT, f"the folder {folder} is missing: create it, or choose another folder")


class FolderUnusable(FileStoreError, OSError):
    """A folder cannot be created, or this process may not write to it.

    Attributes:
        folder: Absolute path of the folder.
        errno: The system's error number.
        obstacle: What kept the folder from being created; None if it exists but is not writable.
    """

    _fields = ("folder", "errno", "obstacle")

    def __init__(self, folder: str, errno: int | None, obstacle: str | None = None) -> None:
        self.folder = folder
        self.obstacle = obstacle
        if obstacle is None:
            message = (
                f"this process may not write to {folder}. Give that folder and what is in it to the user of this "
                "process, or choose another folder"
            )
        else:
            message = (
                f"the folder {folder} cannot be created ({obstacle}). Create it for the user of this process, or "
                "choose another folder"
            )
        super().__init__(errno, message)


class UnsafeFolder(FileStoreError, NotADirectoryError):
    """A link or a file stands in place of a folder of the store. The store does not touch it.

    Attributes:
        folder: Path of the link or the file.
    """

    _fields = ("folder",)

    def __init__(self, folder: str) -> None:
        self.folder = folder
        super().__init__(errno.ENOTDIR, f"{folder} is a link or a file where the store needs a folder: move it away")


class UnsafeCounts(FileStoreError, OSError):
    """A link, a folder, a pipe or a socket stands in place of a file of counts. The store does not touch it.

    Attributes:
        path: Path of what stands there.
        found: What it is, such as ``"a link"``.
        base_dir: The folder of the store.
    """

    _fields = ("path", "found", "base_dir")

    def __init__(self, path: str, found: str, base_dir: str) -> None:
        self.path = path
        self.found = found
        self.base_dir = base_dir
        repair = f"python -m silo_files fsck {base_dir} --repair"
        super().__init__(
            errno.EINVAL, f"{path} is {found} where the store needs a file of counts: `{repair}` sets it aside"
        )


class FileMissing(FileStoreError, FileNotFoundError):
    """The session has no file of this name."""

    _fields = ()

    def __init__(self) -> None:
        super().__init__("the session has no file of this name")


class NoLocalPath(FileStoreError):
    """The backend's files have no local paths."""

    _fields = ()

    def __init__(self) -> None:
        super().__init__("this backend has no folders: read files with open()")
