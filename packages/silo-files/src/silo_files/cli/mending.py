"""The repairs of ``fsck``. They follow no link, and move what they do not recognize to ``set-aside``.

Each takes the folder of a store and the path of what is wrong, and may return a note. The caller holds the locks.
"""
# ruff: noqa: ARG001, PTH101, PTH104, PTH106, PTH108, PTH118, PTH119, PTH120, PTH122  (see disk.py)

from __future__ import annotations

import json
import os

from ..local import journal, walk
from ..local.disk import DIR_MODE, FILE_MODE, READ, is_real_dir, make_dir, open_lock, open_read
from ..local.record import Record, read_record, write_record
from ..names import hash_name
from . import counts
from .folder import Folder


def set_aside(folder: Folder, path: str) -> str:
    """Move an entry that is not the store's, whatever it is, out of the folders of the store. Return its new place."""
    make_dir(folder.set_aside)
    # A name has at most 255 bytes on most file systems.
    name = os.fsencode(os.path.basename(path))[:240].decode(errors="ignore")
    target = os.path.join(folder.set_aside, f"{os.urandom(4).hex()}-{name}")
    os.rename(path, target)
    return f"moved to {folder.place(target)}"


def set_mode(folder: Folder, path: str) -> None:
    """Give a file or a folder, which is not a link, the mode of the store's own."""
    mode = DIR_MODE if is_real_dir(path) else FILE_MODE
    try:
        fd = os.open(path, READ)
    except PermissionError:
        # Its owner may not open it. A link has no mode of its own, so it is not what was found to have a wrong one.
        os.chmod(path, mode)
        return
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def drop_lock(folder: Folder, path: str) -> None:
    """Delete the lock file of an ended process."""
    folder.owners.delete([os.path.basename(path).removesuffix(".lock")])


def purge(folder: Folder, path: str) -> None:
    """Delete all that is in the trash."""
    folder.trash.purge()


def delete_file(folder: Folder, path: str) -> None:
    """Delete an unfinished file."""
    os.unlink(path)


def delete_unfinished(folder: Folder, path: str) -> None:
    """Delete the folder of a process that ended before it had a journal there."""
    journal.drop_leftovers(path)


def remove_area(folder: Folder, path: str) -> None:
    """Move an area into the trash. The caller does not hold the lock of its counts."""
    folder.trash.add(os.path.basename(path))


def replace_journal(folder: Folder, path: str) -> None:
    """Remove a writer's folder. One in which a living process writes gets a journal, if another journal has the key."""
    try:
        os.rmdir(path)
    except OSError:
        others = [line for other in journals(os.path.dirname(path)) for line in whole_lines(other)[0]]
        keys = [line for line in others if b'"key"' in line]
        if not keys:
            raise
        _write_journal(path, keys[:1])


def keep_whole_lines(folder: Folder, path: str) -> None:
    """Drop the damaged lines of the journal in a writer's folder."""
    _write_journal(path, whole_lines(path)[0])


def name_file(folder: Folder, path: str) -> str:
    """Give a file a new name, which a journal of its area gets; a new one if the area has none."""
    area, stored = os.path.split(path)
    name = f"recovered-{os.urandom(4).hex()}{os.path.splitext(stored)[1]}"
    writer = next(iter(journals(area)), None)
    if writer is None:
        # Named as the folder of an ended process. The key is unknown: an area whose key is known has a journal.
        writer = os.path.join(area, "w-" + os.urandom(8).hex())
        make_dir(writer)
        _write_journal(writer, [])
    journal.append(writer, name, durable=True)
    os.rename(path, os.path.join(area, hash_name(name)))
    return f"named {name}"


def count_again(folder: Folder, path: str) -> str:
    """Write the counts of what is there now, and drop what ended processes had reserved."""
    usage = counts.count(folder, path)
    fd = open_lock(path)
    try:
        record, _ = read_record(fd)
        reserved = record.reserved.items() if record is not None else ()
        living = {owner: room for owner, room in reserved if folder.owners.is_alive(owner)}
        write_record(fd, Record(usage.bytes, usage.files, living))
    finally:
        os.close(fd)
    return f"{counts.text(usage)} counted"


def journals(area: str) -> list[str]:
    """Return the folders of writers in an area that have a journal."""
    folders = sorted(path for path, _ in journal.writers(area) if journal.is_complete(os.path.basename(path)))
    return [path for path in folders if walk.regular(os.path.join(path, journal.JOURNAL))]


def whole_lines(folder: str) -> tuple[list[bytes], bool]:
    """Return the whole lines of the journal in ``folder``, and whether it has others."""
    with open(os.path.join(folder, journal.JOURNAL), "rb", opener=open_read) as file:
        lines = [line for line in file.read().split(b"\n") if line]
    whole = [line for line in lines if _is_whole(line)]
    return whole, len(whole) < len(lines)


def _write_journal(folder: str, lines: list[bytes]) -> None:
    """Write a journal with ``lines`` in place of the one in ``folder``."""
    journal.replace(folder, b"".join(line + b"\n" for line in lines), durable=True)


def _is_whole(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and json.dumps(record).encode() == line and bool(record.keys() & {"key", "name"})
