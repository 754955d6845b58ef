"""The repairs of ``fsck``. They follow no link, and move what they do not recognize to ``set-aside``."""
# ruff: noqa: PTH101, PTH104, PTH105, PTH108, PTH118, PTH119, PTH122  (see disk.py)

from __future__ import annotations

import contextlib
import json
import os
import stat

from ..local import journal
from ..local.disk import create_file, make_dir, open_read, write_all
from ..names import hash_name
from .folder import Folder

POSIX = os.name == "posix"


def set_aside(folder: Folder, path: str) -> str:
    """Move an entry that is not the store's, whatever it is, out of the folders of the store. Return its new place."""
    make_dir(folder.set_aside)
    # A name has at most 255 bytes on most file systems.
    name = os.fsencode(os.path.basename(path))[:240].decode(errors="ignore")
    target = os.path.join(folder.set_aside, f"{os.urandom(4).hex()}-{name}")
    os.rename(path, target)
    return f"moved to {folder.place(target)}"


def has_mode(path: str, mode: int) -> bool:
    """Return whether a file or a folder has ``mode``, or has none because of the system."""
    return not POSIX or stat.S_IMODE(os.lstat(path).st_mode) == mode


def set_mode(path: str, mode: int) -> None:
    """Set the mode of a file or a folder, which is not a link."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except PermissionError:
        # Its owner may not open it. A link has no mode of its own, so it is not what was found to have a wrong one.
        os.chmod(path, mode)
        return
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def whole_lines(folder: str) -> tuple[list[bytes], bool]:
    """Return the whole lines of the journal in ``folder``, and whether it has others."""
    with open(os.path.join(folder, journal.JOURNAL), "rb", opener=open_read) as file:
        lines = [line for line in file.read().split(b"\n") if line]
    whole = [line for line in lines if _is_whole(line)]
    return whole, len(whole) < len(lines)


def write_journal(folder: str, lines: list[bytes]) -> None:
    """Write a journal with ``lines`` in place of the one in ``folder``."""
    fresh = os.path.join(folder, "names.part")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    fd = create_file(fresh)
    try:
        write_all(fd, b"".join(line + b"\n" for line in lines))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(fresh, os.path.join(folder, journal.JOURNAL))


def name_file(path: str, writers: list[str]) -> str:
    """Give a file a new name, which the journal of the first of ``writers`` gets; of a new one if there are none."""
    area, stored = os.path.split(path)
    name = f"recovered-{os.urandom(4).hex()}{os.path.splitext(stored)[1]}"
    if not writers:
        # Named as the folder of an ended process. The key is unknown: an area whose key is known has a journal.
        writers = [os.path.join(area, "w-" + os.urandom(8).hex())]
        make_dir(writers[0])
        write_journal(writers[0], [])
    journal.append(writers[0], name, durable=True)
    os.rename(path, os.path.join(area, hash_name(name)))
    return f"named {name}"


def _is_whole(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and json.dumps(record).encode() == line and bool(record.keys() & {"key", "name"})
