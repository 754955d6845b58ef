"""What is wrong in one area."""
# ruff: noqa: PTH106, PTH118, PTH119  (see disk.py)

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial

from ..local import journal, walk
from ..local.disk import DIR_MODE, FILE_MODE
from ..local.owners import Owners
from ..local.trash import Trash
from ..names import STORED_NAME, hash_name
from . import counts, mending
from .findings import Damage
from .folder import Folder

_OWNER = re.compile(r"([wt])-([0-9a-f]{16})(?:-[0-9]+)?")
_PART = re.compile(r"(?:[0-9]+|names)\.part")


class AreaCheck:
    """One look at an area. It is exact while no process changes the area.

    Args:
        folder: The folder of the store.
        owners: Says which processes are alive.
        trash: Removes an area.
        path: The area.
    """

    def __init__(self, folder: Folder, owners: Owners, trash: Trash, path: str) -> None:
        self._folder = folder
        self._owners = owners
        self._trash = trash
        self._path = path
        self._found: list[Damage] = []
        self._stored: list[str] = []
        self._writers: list[str] = []
        self._is_used = False

    def damages(self) -> list[Damage]:
        """Return what is wrong, in the order of the repairs.

        Raises:
            FileNotFoundError: Another process removed something meanwhile.
        """
        try:
            self._look()
        except PermissionError as error:  # perhaps because of a mode, which is repaired first
            self._found.append(Damage("unreadable", error.filename or self._path, note=error.strerror))
        return self._found

    def _look(self) -> None:
        self._check_mode(self._path, DIR_MODE)
        with os.scandir(self._path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                self._check_entry(entry)
        digest = os.path.basename(self._path)
        has_key = any(journal.read_head(writer, digest) is not None for writer in self._writers)
        self._check_names()
        if self._stored and not has_key:
            self._add("lost-key", self._path, None)
        self._found += counts.check(
            os.path.join(self._path, walk.COUNTS), partial(walk.usage, self._path), self._owners, is_needed=True
        )
        if not (self._stored or has_key or self._is_used):
            self._add("empty-area", self._path, partial(self._trash.add, digest))

    def _check_entry(self, entry: os.DirEntry[str]) -> None:
        if STORED_NAME.fullmatch(entry.name):
            if self._is_file(entry):
                self._stored.append(entry.name)
        elif entry.name == walk.COUNTS:
            self._is_file(entry)
        elif match := _OWNER.fullmatch(entry.name):
            if not entry.is_dir(follow_symlinks=False):
                self._set_aside("not-a-folder", entry)
            else:
                is_alive = self._owners.is_alive(match[2])
                self._is_used |= is_alive
                if match[1] == "w":
                    self._check_writer(entry.path, is_alive)
                elif not is_alive:
                    self._add("unfinished-folder", entry.path, partial(journal.drop_leftovers, entry.path))
        else:
            self._set_aside("foreign-entry", entry)

    def _check_writer(self, path: str, is_alive: bool) -> None:
        self._check_mode(path, DIR_MODE)
        has_journal = False
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name == journal.JOURNAL:
                    has_journal = self._is_file(entry)
                elif not _PART.fullmatch(entry.name):
                    self._set_aside("foreign-entry", entry)
                elif not entry.is_file(follow_symlinks=False):
                    self._set_aside("not-a-file", entry)
                elif not is_alive:
                    self._add("unfinished-file", entry.path, partial(os.unlink, entry.path))
        if not has_journal:
            self._add("missing-journal", path, partial(self._mend_missing_journal, path))
            return
        self._writers.append(path)
        lines, is_torn = mending.whole_lines(path)
        if is_torn:
            self._add("torn-journal", path, partial(mending.write_journal, path, lines))

    def _check_names(self) -> None:
        names = {hash_name(name) for writer in self._writers for name in journal.read_names(writer)}
        for stored in self._stored:
            if stored not in names:
                path = os.path.join(self._path, stored)
                self._add("unnamed-file", path, partial(mending.name_file, path, self._writers))

    def _is_file(self, entry: os.DirEntry[str]) -> bool:
        if entry.is_file(follow_symlinks=False):
            self._check_mode(entry.path, FILE_MODE)
            return True
        self._set_aside("not-a-file", entry)
        return False

    def _check_mode(self, path: str, mode: int) -> None:
        if not mending.has_mode(path, mode):
            self._add("wrong-mode", path, partial(mending.set_mode, path, mode))

    def _set_aside(self, code: str, entry: os.DirEntry[str]) -> None:
        self._add(code, entry.path, partial(mending.set_aside, self._folder, entry.path))

    def _add(self, code: str, path: str, mend: Callable[[], object] | None) -> None:
        self._found.append(Damage(code, path, mend))

    def _mend_missing_journal(self, path: str) -> None:
        """Remove the folder. One in which a living process writes gets a journal, if another journal has the key."""
        try:
            os.rmdir(path)
        except OSError:
            lines = [line for writer in self._writers for line in mending.whole_lines(writer)[0] if b'"key"' in line]
            if not lines:
                raise
            mending.write_journal(path, lines[:1])
