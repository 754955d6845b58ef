"""Walks the folder of a store, and repairs what is wrong if asked to.

An area is looked at twice: without a lock, and if something seems wrong, once more with the locks that keep other
processes from changing it meanwhile. What is wrong then is repaired under these locks.
"""
# ruff: noqa: PTH118  (see disk.py)

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial

from ..local import walk
from ..local.disk import is_real_dir
from . import checks, counts
from .folder import Folder
from .problems import PROBLEMS, Finding

# Findings that may be, or hide, what an ended process has left in an area.
_LEFT = frozenset({"unfinished-file", "unfinished-folder", "unreadable"})

# A repair may reveal more: behind a damaged journal, a file that has lost its name.
_ROUNDS = 5

# Attempts to read what another process is changing.
_ATTEMPTS = 100


class Fsck:
    """One run over a folder.

    Args:
        folder: The folder.
        repair: Whether to repair what is found.
        only: The codes to look for; None for all.
        on_area: Called with the number of areas that are done.

    Attributes:
        areas: The number of areas that are done.
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
        self._only = PROBLEMS.keys() if only is None else only
        self._on_area = on_area

    def run(self) -> list[Finding]:
        """Return all findings, in the order of the walk."""
        folder = self._folder
        found = self._treat(partial(checks.top, folder))
        dead, removed = set(checks.dead_owners(folder)), set(checks.undeleted(folder, repair=self._repair))
        for path in folder.prefixes():
            found += self._treat(partial(checks.prefix, path))
        for path in folder.areas_in_order():
            found += self._area(path)
            self.areas += 1
            self._on_area(self.areas)
        found += self._store()
        # Again now: a process may have deleted its lock file by now, or what was in the trash.
        # To other sweeps, the lock file of an ended process means that the process has left something.
        if not self._repair or all(finding.repaired or finding.code not in _LEFT for finding in found):
            found += self._treat(lambda: sorted(dead.intersection(checks.dead_owners(folder))))
        found += self._treat(lambda: sorted(removed.intersection(checks.undeleted(folder, repair=self._repair))))
        if self._repair:
            folder.trash.purge()  # of the areas that a repair has removed
            folder.owners.delete_unused()
        return list(dict.fromkeys(found))  # what cannot be read may be found twice

    def _look(self, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
        """Return what a check finds. It begins again if another process removes what it looks at."""
        changed = self._folder.root
        for _ in range(_ATTEMPTS):
            try:
                return [finding for finding in check() if finding.code in self._only]
            except (FileNotFoundError, NotADirectoryError) as error:
                changed = error.filename or changed
        return [Finding("unreadable", changed, "it changed at each attempt to read it")]

    def _treat(self, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
        """Look for damage, repair it if asked to, and look again, until only what cannot be repaired is left."""
        done: dict[tuple[str, str], Finding] = {}
        failed: dict[tuple[str, str], str | None] = {}
        found = self._look(check)
        for _ in range(_ROUNDS if self._repair else 0):
            for finding in found:
                place, mend = finding[:2], PROBLEMS[finding.code].mend
                if done.pop(place, None):
                    failed[place] = "it is there again"
                if mend is None or place in failed:
                    continue
                try:
                    done[place] = finding._replace(note=mend(self._folder, finding.path), repaired=True)
                except OSError as error:
                    failed[place] = error.strerror
            found = self._look(check)
            if all(PROBLEMS[finding.code].mend is None or finding[:2] in failed for finding in found):
                break
        left = [finding._replace(note=failed.get(finding[:2], finding.note)) for finding in found]
        return [*done.values(), *left]

    def _area(self, path: str) -> list[Finding]:
        area, empty = partial(checks.area, self._folder, path), partial(checks.empty_area, self._folder, path)
        file = os.path.join(path, walk.COUNTS)
        if not self._look(area) and not self._look(empty):
            return []
        with self._gate():
            # What is in place of the counts cannot be locked, so it goes first.
            found = [finding for finding in self._treat(partial(checks.counts_file, file)) if finding.repaired]
            with counts.locked(file, create=self._repair and is_real_dir(path)):
                found += self._treat(area)
            return [*found, *self._treat(empty)]  # a removal takes the lock of the counts again

    def _store(self) -> list[Finding]:
        """Check the counts of all areas together. While they are locked, no file changes."""
        check = partial(checks.store_counts, self._folder)
        if not self._look(check):
            return []
        with counts.locked(self._folder.counts, create=False):
            return self._treat(check)

    def _gate(self) -> AbstractContextManager[None]:
        # Without a repair nothing is created, also no lock file. A folder without one has no living process.
        if self._repair or os.path.lexists(self._folder.gate):
            return self._folder.owners.areas_lock(shared=False)
        return contextlib.nullcontext()
