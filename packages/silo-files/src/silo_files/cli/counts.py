"""The files of counts of a folder: what they say, what they should say, and their lock."""
# ruff: noqa: PTH118, PTH120  (see disk.py)

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ..backend import Usage
from ..local import walk
from ..local.disk import LOCK, open_lock, open_read, same_file
from ..local.file_lock import lock_fd, unlock_fd
from ..local.record import Record, read_record
from .folder import Folder
from .text import plural


@contextlib.contextmanager
def locked(path: str, *, create: bool) -> Iterator[None]:
    """Hold the lock of a file of counts: no other process changes files meanwhile.

    Args:
        path: The file of counts. A link or a folder in its place cannot be locked, also by no other process.
        create: Whether to create the file if it is missing.
    """
    fd = _lock(path, create=create)
    try:
        yield
    finally:
        if fd is not None:
            unlock_fd(fd)
            os.close(fd)


def _lock(path: str, *, create: bool) -> int | None:
    while True:
        try:
            fd = open_lock(path) if create else os.open(path, LOCK)
        except OSError:
            return None
        lock_fd(fd)
        if same_file(fd, path):
            return fd
        unlock_fd(fd)
        os.close(fd)


def read(path: str) -> tuple[Record | None, bool, int | None]:
    """Return the record in a file, whether it is certain, and the size of the file; None for what is not there."""
    try:
        fd = open_read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None, False, None
    try:
        return *read_record(fd), os.fstat(fd).st_size
    finally:
        os.close(fd)


def count(folder: Folder, path: str) -> Usage:
    """Return what a file of counts should say: the files of its area, or for the store the counts of all areas."""
    if path != folder.counts:
        return walk.usage(os.path.dirname(path))
    found = [_usage(area) for area in folder.areas_in_order()]
    return Usage(sum(usage.bytes for usage in found), sum(usage.files for usage in found))


def _usage(area: str) -> Usage:
    """Return the bytes and files of an area by its counts, or by its files if they are damaged."""
    record, is_certain, _ = read(os.path.join(area, walk.COUNTS))
    return record.usage if record is not None and is_certain else walk.usage(area)


def text(usage: Usage) -> str:
    """Return a number of bytes and files as text."""
    return f"{plural(usage.bytes, 'byte')} in {plural(usage.files, 'file')}"
