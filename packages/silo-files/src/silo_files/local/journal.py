"""The names of an area's files, as lines of JSON: one journal for each process that writes to the area.

Each writer has a folder in the area, with its journal in it. The first line holds the area's key. Only the writer
appends to its journal. A name is appended before its file appears, so a listing can name every file it finds. A line
that a crash or a full disk cut short is ignored, and the next name starts on a new line.
"""
# ruff: noqa: PTH105, PTH106, PTH108, PTH116, PTH118, PTH119  (see disk.py)

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re

from ..names import hash_key, hash_name
from .disk import APPEND, READ, create_file, is_real_dir, names_in, open_read, sync_dir, write_all

JOURNAL = "names"

_WRITER = re.compile(r"[wt]-([0-9a-f]{16})(?:-[0-9]+)?")

# A whole line as _line() writes it; the group is the JSON that is wanted. Decoding all of these at once is several
# times as fast as decoding each line, and cannot fail. Compiled when a journal is first read.
_STR = rb'"[ !#-\[\]-\x7f]*(?:\\(?:["\\bfnrt]|u[0-9a-f]{4})[ !#-\[\]-\x7f]*)*"'
_KEY_LINE = rb'(?m)^(\{"key": ' + _STR + rb'(?:, "origin": ' + _STR + rb")?\})$"
_NAME_LINE = rb'(?m)^\{"name": (' + _STR + rb")\}$"

# The first line, with the key, is usually shorter than this, in bytes.
_HEAD = 1024

# A journal drops the names of deleted files when it reaches this size, in bytes, and at each doubling after that.
_COMPACT_FROM = 128 * 1024


def start(folder: str, key: str, origin: str | None, *, durable: bool) -> None:
    """Write a journal without names into the new ``folder``.

    Args:
        folder: The writer's folder.
        key: The area's key.
        origin: The place where the session with this key is kept; None if it has no name.
        durable: Whether to sync to disk.
    """
    _create(os.path.join(folder, JOURNAL), _head(key, origin), durable=durable)


def append(folder: str, name: str, *, durable: bool) -> bool:
    """Append ``name``. Return whether the journal should be compacted.

    Raises:
        FileNotFoundError: The journal is gone, with its area.
    """
    line = f'\n{{"name": {json.dumps(name)}}}\n'.encode()
    fd = os.open(folder + "/" + JOURNAL, APPEND)
    try:
        write_all(fd, line)
        if durable:
            os.fsync(fd)
        end = os.lseek(fd, 0, os.SEEK_CUR)
    finally:
        os.close(fd)
    return end > _COMPACT_FROM and end.bit_length() != (end - len(line)).bit_length()


def compact(folder: str, area: str, key: str, upcoming: str, *, durable: bool) -> None:
    """Drop the names of files that no longer exist, if that at least halves the journal.

    Args:
        folder: The writer's folder, with the journal.
        area: The area that the folder lies in.
        key: The area's key.
        upcoming: Name of the file that is about to be committed. There is only one: commits of a key run one at a time.
        durable: Whether to sync to disk.
    """
    names = read_names(folder)
    if len(names) < 2 * len(names_in(area)):  # most names have a file: looking for each would take seconds
        return
    head = read_head(folder, hash_key(key))
    unique = dict.fromkeys(names)
    kept = [name for name in unique if name == upcoming or os.path.lexists(os.path.join(area, hash_name(name)))]
    data = _head(key, head[1] if head else None) + b"".join(_line({"name": name}) for name in kept)
    if 2 * len(data) <= os.stat(os.path.join(folder, JOURNAL)).st_size:
        replace(folder, data, durable=durable)


def replace(folder: str, data: bytes, *, durable: bool) -> None:
    """Write a journal with ``data`` in place of the one in ``folder``."""
    fresh = os.path.join(folder, "names.part")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    _create(fresh, data, durable=durable)
    os.replace(fresh, os.path.join(folder, JOURNAL))
    if durable:
        sync_dir(folder)


def writers(area: str) -> list[tuple[str, str]]:
    """Return the folder of each process that has written to ``area``, with its owner id."""
    found = ((os.path.join(area, entry), owner) for entry in names_in(area) if (owner := owner_of(entry)) is not None)
    return [(folder, owner) for folder, owner in found if is_real_dir(folder)]


def owner_of(name: str) -> str | None:
    """Return the owner id in the name of a writer's folder; None if ``name`` is another one."""
    match = _WRITER.fullmatch(name)
    return match[1] if match is not None else None


def is_complete(name: str) -> bool:
    """Return whether a writer's folder has its final ``name``: its journal was written."""
    return not name.startswith("t-")


def has_leftovers(folder: str) -> bool:
    """Return whether ``folder``, one of ``writers()``, has unfinished files or is unfinished itself."""
    return not is_complete(os.path.basename(folder)) or any(entry.endswith(".part") for entry in names_in(folder))


def drop_leftovers(folder: str) -> None:
    """Delete the unfinished files of a dead process in its ``folder``, one of ``writers()``.

    Raises:
        OSError: One of them cannot be deleted.
    """
    is_unfinished = not is_complete(os.path.basename(folder))
    for entry in names_in(folder):
        if is_unfinished or entry.endswith(".part"):
            os.unlink(os.path.join(folder, entry))
    if is_unfinished:
        os.rmdir(folder)


def read_names(folder: str) -> list[str]:
    """Return the names in the journal of ``folder``; an empty list if there is no journal.

    A file that was deleted and saved again has its name there twice.
    """
    names: list[str] = json.loads(b"[" + b",".join(_find(folder, _NAME_LINE)) + b"]")
    return names


def read_head(folder: str, digest: str) -> tuple[str, str | None] | None:
    """Return the key in the journal of ``folder`` whose hash is ``digest``, with its origin; None if there is none.

    Raises:
        OSError: The journal cannot be read. One that only seems to have no key would let its area be swept.
    """
    head = glance(folder, digest)
    if head is not None:
        return head
    heads = (_head_of(line, digest) for line in _find(folder, _KEY_LINE))
    return next((head for head in heads if head is not None), None)


def glance(folder: str, digest: str) -> tuple[str, str | None] | None:
    """Return what ``read_head()`` does, or None also if that takes more than a look at the first line."""
    try:
        fd = os.open(f"{folder}/{JOURNAL}", READ)
        try:
            found = _plain_head().match(os.read(fd, _HEAD))
        finally:
            os.close(fd)
    except OSError:
        return None
    if found is None or hash_key(key := found[1].decode()) != digest:
        return None
    return key, found[2].decode() if found[2] is not None else None


def _create(path: str, data: bytes, *, durable: bool) -> None:
    fd = create_file(path)
    try:
        write_all(fd, data)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


@functools.cache
def _plain_head() -> re.Pattern[bytes]:
    """Return the pattern of a first line that needs no decoding, as almost all are."""
    text = rb'"([ !#-\[\]-\x7f]*)"'
    return re.compile(rb'\{"key": ' + text + rb'(?:, "origin": ' + text + rb")?\}\n")


def _head_of(line: bytes, digest: str) -> tuple[str, str | None] | None:
    found = json.loads(line)
    return (found["key"], found.get("origin")) if hash_key(found["key"]) == digest else None


def _head(key: str, origin: str | None) -> bytes:
    return _line({"key": key} if origin is None else {"key": key, "origin": origin})


def _line(record: dict[str, str]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _find(folder: str, line: bytes) -> list[bytes]:
    """Return the group of each line that matches the pattern ``line``. Lines that a crash cut short are skipped."""
    try:
        with open(os.path.join(folder, JOURNAL), "rb", opener=open_read) as file:
            return re.findall(line, file.read())
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return []
        raise
