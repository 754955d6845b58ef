"""Looks through the folders of areas for what is in them."""
# ruff: noqa: PTH118  (see disk.py)

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator

from ..backend import Usage
from ..names import STORED_NAME
from . import journal
from .disk import is_real_dir, names_in

COUNTS = "counts"
"""Name of the file with the counts of an area, beside its files, and of that of the store, in ``owners``."""

PREFIX = re.compile(r"[0-9a-f]{2}")
"""Name of a folder of areas."""

AREA = re.compile(r"[0-9a-f]{64}")
"""Name of an area: the hash of its session's key. It begins with the name of its folder."""


def area(areas: str, digest: str) -> str:
    """Return the path of an area in the folder ``areas``."""
    return f"{areas}/{digest[:2]}/{digest}"


def digests(areas: str) -> Iterator[str]:
    """Yield the name of each area in the folder ``areas``. Reads the next of its 256 folders when it is needed."""
    for prefix, path in _prefixes(areas):
        yield from (name for name in _folders(path) if AREA.fullmatch(name) and name.startswith(prefix))


def count(areas: str) -> int:
    """Return about how many names ``digests()`` yields, without a look at each on most file systems."""
    return sum(_count_folders(path) for _, path in _prefixes(areas))


def _count_folders(path: str) -> int:
    """Return the number of folders in a folder, by its links where it has one for each: their ``..``, and two more."""
    links = os.lstat(path).st_nlink
    return links - 2 if links > 2 else len(names_in(path))


def _prefixes(areas: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the path of each folder that has areas in it."""
    for prefix in names_in(areas) if is_real_dir(areas) else ():
        if PREFIX.fullmatch(prefix) and is_real_dir(path := os.path.join(areas, prefix)):
            yield prefix, path


def _folders(path: str) -> list[str]:
    """Return the names of the folders in a folder, without links to folders."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def regular(path: str) -> os.stat_result | None:
    """Return the status of a regular file; None if there is none at ``path``."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def scan(area: str) -> tuple[set[str], list[str]]:
    """Return the regular files in the folder of an area, and its folders of writers. Calls no ``stat()`` of a file."""
    files, writers = set(), []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(area) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                files.add(entry.name)
            elif journal.owner_of(entry.name) is not None and entry.is_dir(follow_symlinks=False):
                writers.append(entry.path)
    files.discard(COUNTS)
    return files, writers


def usage(area: str) -> Usage:
    """Count the finished files in the folder of an area. Looks at each."""
    files, _ = scan(area)
    found = [regular(f"{area}/{entry}") for entry in files if STORED_NAME.fullmatch(entry)]
    sizes = [status.st_size for status in found if status is not None]
    return Usage(sum(sizes), len(sizes))


def total(areas: str, count: Callable[[str], Usage]) -> Usage:
    """Add up what ``count`` returns for the path of each area."""
    size = files = 0
    for digest in digests(areas):
        found = count(area(areas, digest))
        size += found.bytes
        files += found.files
    return Usage(size, files)
