"""What is wrong with the counts of an area or of the store, and how they are repaired."""
# ruff: noqa: PTH118  (see disk.py)

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial

from ..backend import Usage
from ..local import walk
from ..local.disk import LOCK, open_lock, open_read, same_file
from ..local.file_lock import lock_fd, unlock_fd
from ..local.owners import Owners
from ..local.record import Record, read_record, write_record
from .findings import Damage
from .text import plural


@contextlib.contextmanager
def locked(path: str, *, create: bool) -> Iterator[None]:
    """Hold the lock of a file of counts: no other process changes files meanwhile.

    Args:
        path: The file of counts. Something else in its place cannot be locked, also by no other process.
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
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        lock_fd(fd)
        if same_file(fd, path):
            return fd
        unlock_fd(fd)
        os.close(fd)


def check(path: str, count: Callable[[], Usage], owners: Owners, *, is_needed: bool) -> Iterator[Damage]:
    """Yield what is wrong with a file of counts. It is exact while its lock is held.

    Args:
        path: The file of counts.
        count: Counts the files.
        owners: Says which processes are alive.
        is_needed: Whether there must be counts of any files at all.
    """
    mend = partial(_count_again, path, count, owners)
    usage = count()
    record, is_certain, size = _read(path)
    if record is None and not size:
        if is_needed and usage.files and (size == 0 or not os.path.lexists(path)):
            yield Damage("missing-counts", path, mend)
    elif record is None:
        yield Damage("torn-counts", path, mend)
    elif not is_certain:
        yield Damage("dirty-counts", path, mend)
    elif record.usage != usage:
        note = f"{_text(record.usage)} counted, {_text(usage)} found"
        yield Damage("wrong-counts", path, mend, note)
    dead = [owner for owner in record.reserved if not owners.is_alive(owner)] if record else []
    if dead:
        free = partial(_drop_dead, path, owners) if is_certain else mend
        yield Damage("dead-reservation", path, free)


def usage_by_counts(area: str) -> Usage:
    """Return the bytes and files of an area by its counts, or by its files if they are damaged."""
    record, is_certain, _ = _read(os.path.join(area, walk.COUNTS))
    return record.usage if record is not None and is_certain else walk.usage(area)


def _read(path: str) -> tuple[Record | None, bool, int | None]:
    """Return the record in a file, whether it is certain, and the size of the file; None for what is not there."""
    try:
        fd = open_read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None, False, None
    try:
        return *read_record(fd), os.fstat(fd).st_size
    finally:
        os.close(fd)


def _drop_dead(path: str, owners: Owners) -> None:
    """Drop what processes that have ended had reserved. The caller holds the lock."""
    fd = open_lock(path)
    try:
        record, _ = read_record(fd)
        if record is not None:
            living = {owner: room for owner, room in record.reserved.items() if owners.is_alive(owner)}
            write_record(fd, Record(record.bytes, record.files, living))
    finally:
        os.close(fd)


def _count_again(path: str, count: Callable[[], Usage], owners: Owners) -> str:
    """Write what is there now, and drop what processes that have ended had reserved. The caller holds the lock."""
    usage = count()
    fd = open_lock(path)
    try:
        record, _ = read_record(fd)
        reserved = record.reserved.items() if record is not None else ()
        living = {owner: room for owner, room in reserved if owners.is_alive(owner)}
        write_record(fd, Record(usage.bytes, usage.files, living))
    finally:
        os.close(fd)
    return f"{_text(usage)} counted"


def _text(usage: Usage) -> str:
    return f"{plural(usage.bytes, 'byte')} in {plural(usage.files, 'file')}"
