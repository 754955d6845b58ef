"""Walks the folder of a store, and repairs what is wrong if asked to.

An area is looked at twice: without a lock, and if something seems wrong, once more with the locks that keep other
processes from changing it meanwhile. What is wrong then is repaired under these locks.
"""
# ruff: noqa: PTH118  (see disk.py)

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

from ..backend import Usage
from ..local import walk
from ..local.counts import Counts
from ..local.disk import DIR_MODE, FILE_MODE, is_real_dir
from ..local.owners import Owners
from ..local.trash import Trash
from . import counts, mending
from .area import AreaCheck
from .findings import Damage, Finding
from .folder import PREFIX, Folder, is_area, readable_names

_LOCK = re.compile(r"([0-9a-f]{16})\.lock")
_GATE = "areas.lock"
_REMOVED = re.compile(r"[0-9a-f]{32}\.gone")

# Findings that may be, or hide, what an ended process has left in an area.
_LEFT = frozenset({"unfinished-file", "unfinished-folder", "unreadable"})

# A repair may reveal more: behind a damaged journal, a file that has lost its name.
_ROUNDS = 5

# Attempts to read an area that another process is changing.
_ATTEMPTS = 100


class Fsck:
    """One run over a folder.

    Args:
        folder: The folder.
        repair: Whether to repair what is found.
        only: The codes to look for; None for all.
        on_area: Called with the number of areas that are done.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        repair: bool = False,
        only: frozenset[str] | None = None,
        on_area: Callable[[int], object] = lambda _areas: None,
    ) -> None:
        self.areas: int = 0
        self._folder = folder
        self._repair = repair
        self._only = only
        self._on_area = on_area
        self._owners = Owners(folder.owners)
        self._trash = Trash(folder.areas, folder.trash, Counts(folder.root, self._owners))
        self._can_lock = True

    def run(self) -> list[Finding]:
        """Return all findings, in the order of the walk."""
        found = self._treat(self._top)
        dead = {damage.path for damage in self._dead_owners()}
        removed = {damage.path for damage in self._undeleted()}
        self._can_lock = self._repair or os.path.lexists(os.path.join(self._folder.owners, _GATE))
        if is_real_dir(self._folder.areas):
            found += self._treat(self._prefixes)
            for path in self._folder.areas_in_order():
                found += self._area(path)
                self.areas += 1
                self._on_area(self.areas)
        found += self._store()
        # Again now: a process that just began has made its lock file by now, or has deleted what was in the trash.
        # To other sweeps, the lock file of an ended process means that the process has left something.
        if not self._repair or all(finding.repaired or finding.code not in _LEFT for finding in found):
            found += self._treat(lambda: [damage for damage in self._dead_owners() if damage.path in dead])
        found += self._treat(lambda: [damage for damage in self._undeleted() if damage.path in removed])
        if self._repair:
            self._trash.purge()  # of the areas that a repair has removed
        return found

    def _treat(self, look: Callable[[], list[Damage]]) -> list[Finding]:
        """Look for damage, repair it if asked to, and look again, until only what cannot be repaired is left."""
        done: dict[tuple[str, str], Finding] = {}
        failed: dict[tuple[str, str], str | None] = {}
        found = self._wanted(look())
        for _ in range(_ROUNDS if self._repair else 0):
            for damage in found:
                place = damage.code, damage.path
                if done.pop(place, None):
                    failed[place] = "it is there again"
                if damage.mend is None or place in failed:
                    continue
                try:
                    note = damage.mend()
                except OSError as error:
                    failed[place] = error.strerror
                else:
                    done[place] = self._finding(damage, True, note if isinstance(note, str) else None)
            found = self._wanted(look())
            if all(damage.mend is None or (damage.code, damage.path) in failed for damage in found):
                break
        left = [self._finding(each, False, failed.get((each.code, each.path), each.note)) for each in found]
        return [*done.values(), *left]

    def _wanted(self, found: list[Damage]) -> list[Damage]:
        return found if self._only is None else [damage for damage in found if damage.code in self._only]

    def _finding(self, damage: Damage, repaired: bool, note: str | None) -> Finding:
        return Finding(damage.code, self._folder.place(damage.path), repaired, note)

    def _area(self, path: str) -> list[Finding]:
        def look() -> list[Damage]:
            for _ in range(_ATTEMPTS):
                if not is_real_dir(path):
                    return []
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # another process is at work
                    return AreaCheck(self._folder, self._owners, self._trash, path).damages()
            return [Damage("unreadable", path, note="it changed at each attempt to read it")]

        if not self._wanted(look()):
            return []
        odd_counts = ("not-a-file", file := os.path.join(path, walk.COUNTS))
        with self._locked():
            # What cannot be locked goes first, and the area goes last: its removal takes the lock again.
            found = self._treat(lambda: [each for each in look() if (each.code, each.path) == odd_counts])
            with counts.locked(file, create=self._repair and is_real_dir(path)):
                rest = {"empty-area", odd_counts}
                found += self._treat(
                    lambda: [each for each in look() if not {each.code, (each.code, each.path)} & rest]
                )
            found += self._treat(lambda: [each for each in look() if each.code == "empty-area"])
        return found

    def _store(self) -> list[Finding]:
        """Check the counts of all areas together. While they are locked, no file changes."""
        path = os.path.join(self._folder.owners, walk.COUNTS)

        def count() -> Usage:
            found = [counts.usage_by_counts(area) for area in self._folder.areas_in_order()]
            return Usage(sum(usage.bytes for usage in found), sum(usage.files for usage in found))

        def look() -> list[Damage]:
            return list(counts.check(path, count, self._owners, is_needed=False))

        if not is_real_dir(self._folder.owners) or not os.path.lexists(path) or not self._wanted(look()):
            return []
        with counts.locked(path, create=False):
            return self._treat(look)

    def _locked(self) -> AbstractContextManager[None]:
        # Without a repair nothing is created, also no lock file. A folder without one has no living process.
        return self._owners.areas_lock(shared=False) if self._can_lock else contextlib.nullcontext()

    def _top(self) -> list[Damage]:
        """Check the folders of the store, and the entries of those whose names are not hashes of sessions."""
        found: list[Damage] = []
        for path in (self._folder.areas, self._folder.owners, self._folder.trash):
            found += self._check_folder(path)
        for path, mode in ((self._folder.owners, FILE_MODE), (self._folder.trash, None)):
            if is_real_dir(path):
                found += [damage for entry in _entries(path) for damage in self._check_entry(entry, mode)]
        return found

    def _check_folder(self, path: str) -> Iterator[Damage]:
        if is_real_dir(path):
            if not mending.has_mode(path, DIR_MODE):
                yield Damage("wrong-mode", path, partial(mending.set_mode, path, DIR_MODE))
            if not os.access(path, os.R_OK | os.X_OK):
                yield Damage("unreadable", path, note=os.strerror(errno.EACCES))
        elif os.path.lexists(path):
            yield self._aside("not-a-folder", path)

    def _check_entry(self, entry: os.DirEntry[str], mode: int | None) -> Iterator[Damage]:
        """Check an entry of ``owners``, where files have a ``mode``, or of ``trash``."""
        if mode is None:
            if not _REMOVED.fullmatch(entry.name):
                yield self._aside("foreign-entry", entry.path)
        elif entry.name not in (_GATE, walk.COUNTS) and not _LOCK.fullmatch(entry.name):
            yield self._aside("foreign-entry", entry.path)
        elif not entry.is_file(follow_symlinks=False):
            yield self._aside("not-a-file", entry.path)
        elif not mending.has_mode(entry.path, mode):
            yield Damage("wrong-mode", entry.path, partial(mending.set_mode, entry.path, mode))

    def _prefixes(self) -> list[Damage]:
        found: list[Damage] = []
        for name in readable_names(self._folder.areas):
            path = os.path.join(self._folder.areas, name)
            if not PREFIX.fullmatch(name):
                found.append(self._aside("foreign-entry", path))
                continue
            found += self._check_folder(path)
            if is_real_dir(path):
                for entry in _entries(path):
                    if not is_area(name, entry.name):
                        found.append(self._aside("foreign-entry", entry.path))
                    elif not entry.is_dir(follow_symlinks=False):
                        found.append(self._aside("not-a-folder", entry.path))
        return found

    def _dead_owners(self) -> list[Damage]:
        found = []
        for name in self._names(self._folder.owners):
            if (match := _LOCK.fullmatch(name)) and not self._owners.is_alive(match[1]):
                path = os.path.join(self._folder.owners, name)
                found.append(Damage("dead-owner", path, partial(self._owners.is_alive, match[1], delete=True)))
        return found

    def _undeleted(self) -> list[Damage]:
        """Return what is in the trash. Without a repair, none while a living process may be about to delete it."""
        if not self._repair and self._any_alive():
            return []
        paths = [
            os.path.join(self._folder.trash, name)
            for name in self._names(self._folder.trash)
            if _REMOVED.fullmatch(name)
        ]
        return [Damage("undeleted-trash", path, self._trash.purge) for path in paths]

    def _any_alive(self) -> bool:
        locks = map(_LOCK.fullmatch, self._names(self._folder.owners))
        return any(match is not None and self._owners.is_alive(match[1]) for match in locks)

    def _names(self, path: str) -> list[str]:
        return readable_names(path) if is_real_dir(path) else []

    def _aside(self, code: str, path: str) -> Damage:
        return Damage(code, path, partial(mending.set_aside, self._folder, path))


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
