"""What is wrong in the folders of a store. Each check is exact while no process changes what it looks at."""
# ruff: noqa: PTH118, PTH119  (see disk.py)

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator

from ..local import journal, walk
from ..local.disk import DIR_MODE, FILE_MODE, is_real_dir, names_in
from ..names import STORED_NAME, hash_name
from . import counts, mending
from .folder import Folder, readable_names
from .problems import Finding

_LOCK_FILE = re.compile(r"([0-9a-f]{16})\.lock")
_REMOVED = re.compile(r"[0-9a-f]{32}\.gone")
_PART = re.compile(r"(?:[0-9]+|names)\.part")

# What an entry must be: its kind and, if that matters, its mode.
_FOLDER = stat.S_IFDIR | DIR_MODE
_FILE = stat.S_IFREG | FILE_MODE
_ANY = 0

Rules = tuple[tuple[Callable[[str], object], int], ...]
"""Which names a store gives to the entries of a folder, and what each must be."""

# The mode of an area is checked with the area, and that of a file that is being written depends on the umask.
_IN_AREAS: Rules = ((walk.PREFIX.fullmatch, _FOLDER),)
_IN_OWNERS: Rules = ((re.compile(rf"areas\.lock|{walk.COUNTS}|{_LOCK_FILE.pattern}").fullmatch, _FILE),)
_IN_TRASH: Rules = ((_REMOVED.fullmatch, _ANY),)
_IN_AREA: Rules = (
    (re.compile(rf"{walk.COUNTS}|{STORED_NAME.pattern}").fullmatch, _FILE),
    (journal.owner_of, _FOLDER),
)
_IN_WRITER: Rules = ((re.compile(journal.JOURNAL).fullmatch, _FILE), (_PART.fullmatch, stat.S_IFREG))


def top(folder: Folder) -> Iterator[Finding]:
    """Yield what is wrong with the folders ``areas``, ``owners`` and ``trash``, and with the entries of each."""
    for path, rules in (
        (folder.areas, _IN_AREAS),
        (folder.owners_path, _IN_OWNERS),
        (folder.trash_path, _IN_TRASH),
    ):
        if os.path.lexists(path):
            yield from _entry(path, _FOLDER)
            yield from _readable(path, _entries(path, rules))


def prefix(path: str) -> Iterator[Finding]:
    """Yield what is wrong with the entries of a folder of areas."""
    of_area = re.compile(os.path.basename(path) + "[0-9a-f]{62}")
    yield from _readable(path, _entries(path, ((of_area.fullmatch, stat.S_IFDIR),)))


def area(folder: Folder, path: str) -> Iterator[Finding]:
    """Yield what is wrong in an area, in the order of the repairs."""
    if is_real_dir(path):
        yield from _readable(path, _area(folder, path))


def empty_area(folder: Folder, path: str) -> Iterator[Finding]:
    """Yield an area that has no files and belongs to no session."""
    with contextlib.suppress(PermissionError):  # the check of the area says so
        is_used = any(folder.owners.is_alive(owner) for _, owner in journal.writers(path))
        if is_real_dir(path) and not (is_used or _has_key(path) or _stored(path)):
            yield Finding("empty-area", path)


def counts_file(path: str) -> Iterator[Finding]:
    """Yield what is in place of a file of counts."""
    if os.path.lexists(path):
        yield from _entry(path, _FILE)


def store_counts(folder: Folder) -> Iterator[Finding]:
    """Yield what is wrong with the counts of the store, if it has any."""
    if is_real_dir(folder.owners_path) and os.path.lexists(folder.counts):
        yield from _readable(folder.counts, _counts(folder, folder.counts))


def dead_owners(folder: Folder) -> Iterator[Finding]:
    """Yield the lock file of each process that has ended."""
    return (Finding("dead-owner", path) for path, owner in _locks(folder) if folder.owners.has_ended(owner))


def undeleted(folder: Folder, *, repair: bool) -> Iterator[Finding]:
    """Yield what is in the trash. Without a repair, nothing while a living process may be about to delete it."""
    if repair or not any(folder.owners.is_alive(owner) for _, owner in _locks(folder)):
        for name in filter(_REMOVED.fullmatch, readable_names(folder.trash_path)):
            yield Finding("undeleted-trash", os.path.join(folder.trash_path, name))


def _readable(path: str, check: Iterator[Finding]) -> Iterator[Finding]:
    """Yield what a check of ``path`` finds until it may not read something."""
    try:
        yield from check
    except PermissionError as error:  # perhaps because of a mode, which is repaired first
        yield Finding("unreadable", error.filename or path, error.strerror)


def _locks(folder: Folder) -> Iterator[tuple[str, str]]:
    """Yield the path of each lock file, and the owner id of its process."""
    for match in filter(None, map(_LOCK_FILE.fullmatch, readable_names(folder.owners_path))):
        yield os.path.join(folder.owners_path, match[0]), match[1]


def _area(folder: Folder, path: str) -> Iterator[Finding]:
    yield from _entry(path, _FOLDER)
    yield from _entries(path, _IN_AREA)
    for writer, owner in sorted(journal.writers(path)):
        yield from _writer(writer, is_alive=folder.owners.is_alive(owner))
    stored = _stored(path)  # before the journals: a name is written before its file appears
    names = {hash_name(name) for writer in mending.journals(path) for name in journal.read_names(writer)}
    for each in stored:
        if each not in names:
            yield Finding("unnamed-file", os.path.join(path, each))
    if stored and not _has_key(path):
        yield Finding("lost-key", path)
    yield from _counts(folder, os.path.join(path, walk.COUNTS))


def _counts(folder: Folder, path: str) -> Iterator[Finding]:
    """Check the counts of an area or of the store."""
    usage = counts.count(folder, path)
    record, is_certain, size = counts.read(path)
    if record is None and not size:
        # There must be counts of the files of an area only.
        if path != folder.counts and usage.files and (size == 0 or not os.path.lexists(path)):
            yield Finding("missing-counts", path)
    elif record is None:
        yield Finding("torn-counts", path)
    elif not is_certain:
        yield Finding("dirty-counts", path)
    elif record.usage != usage:
        yield Finding("wrong-counts", path, f"{counts.text(record.usage)} counted, {counts.text(usage)} found")
    if record is not None and not all(map(folder.owners.is_alive, record.reserved)):
        yield Finding("dead-reservation", path)


def _stored(area: str) -> list[str]:
    """Return the names on disk of the files of an area."""
    return sorted(filter(STORED_NAME.fullmatch, walk.scan(area)[0]))


def _has_key(area: str) -> bool:
    digest = os.path.basename(area)
    return any(journal.read_head(writer, digest) is not None for writer in mending.journals(area))


def _writer(path: str, *, is_alive: bool) -> Iterator[Finding]:
    """Check the folder of a process in an area."""
    if not journal.is_complete(os.path.basename(path)):
        if not is_alive:
            yield Finding("unfinished-folder", path)
        return
    yield from _entries(path, _IN_WRITER)
    for name in filter(_PART.fullmatch, sorted(names_in(path))):
        if not is_alive and walk.regular(part := os.path.join(path, name)):
            yield Finding("unfinished-file", part)
    if walk.regular(os.path.join(path, journal.JOURNAL)) is None:
        yield Finding("missing-journal", path)
    elif mending.whole_lines(path)[1]:
        yield Finding("torn-journal", path)


def _entries(path: str, rules: Rules) -> Iterator[Finding]:
    """Check the entries of a folder."""
    for name in sorted(names_in(path)) if is_real_dir(path) else ():
        expected = next((expected for is_named, expected in rules if is_named(name)), None)
        if expected is None:
            yield Finding("foreign-entry", os.path.join(path, name))
        elif expected:
            yield from _entry(os.path.join(path, name), expected)


def _entry(path: str, expected: int) -> Iterator[Finding]:
    """Check the kind of an entry, and its mode if one is expected."""
    found, mode = os.lstat(path).st_mode, stat.S_IMODE(expected)
    if stat.S_IFMT(found) != stat.S_IFMT(expected):
        yield Finding("not-a-folder" if stat.S_ISDIR(expected) else "not-a-file", path)
    elif mode and os.name == "posix" and stat.S_IMODE(found) != mode:
        yield Finding("wrong-mode", path)
