"""Removes the leftovers of ended processes: areas of dead sessions, unfinished files, trash."""
# ruff: noqa: PTH120  (see disk.py)

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..backend import Living
from ..names import STORED_NAME
from . import journal
from .disk import is_real_dir, names_in
from .owners import Owners
from .trash import Trash

logger = logging.getLogger("silo_files")

SLICE = 500
"""Areas that are looked at, asked about and removed in one go: tens of milliseconds."""


class Sweeper:
    """Sweeps the areas of one base folder.

    Args:
        areas: The folder of the areas.
        owners: The processes that write there.
        trash: Removes areas.
        origin: Returns the place where this application keeps its sessions; None if it has no name.
    """

    def __init__(self, areas: str, owners: Owners, trash: Trash, origin: Callable[[], str | None]) -> None:
        self._areas = areas
        self._owners = owners
        self._trash = trash
        self._origin = origin
        self._reported: set[str] = set()

    def sweep(self, digests: Iterable[str], living: Living, on_slice: Callable[[int], object] | None = None) -> int:
        """Remove areas whose key does not live, dead processes' unfinished files and lock files, and the trash.

        Args:
            digests: The names of the areas to look at.
            living: Called with keys, with no lock held. Returns those that live.
            on_slice: Called after each slice with the number of areas looked at so far, with no lock held.

        Returns:
            The number of areas removed.
        """
        sweep = _Sweep(self._areas, self._owners, self._trash, self._origin())
        rest, seen = iter(digests), 0
        while some := list(itertools.islice(rest, SLICE)):
            sweep.slice(some, living)
            seen += len(some)
            if on_slice is not None:
                on_slice(seen)
        sweep.forget_the_dead()
        self._report(sweep)
        self._trash.purge()
        return sweep.removed

    def foreign(self, digests: Iterable[str]) -> dict[str, int]:
        """Count the areas of sessions that are kept in another place than this application's, by that place."""
        sweep = _Sweep(self._areas, self._owners, self._trash, self._origin())
        for digest in digests:
            sweep.look(digest)
        return dict(sweep.foreign)

    def _report(self, sweep: _Sweep) -> None:
        """Log what keeps areas from being swept; each once."""
        for digest in sweep.without_key:
            if digest not in self._reported:
                self._reported.add(digest)
                logger.warning("area %s stays: its journals do not say which session it belongs to", digest[:8])
        for origin, count in sweep.foreign.items():
            if origin not in self._reported:
                self._reported.add(origin)
                logger.warning(
                    "the files of %d sessions in %s stay: these sessions are kept in %s, and here in %s. Give each "
                    "application a folder of its own. If the sessions have moved, the files go when they end",
                    count,
                    os.path.dirname(self._areas),
                    origin,
                    sweep.origin or "a place without a name",
                )


class _Area(NamedTuple):
    """What a look at an area found."""

    digest: str
    key: str | None
    origin: str | None
    writers: list[tuple[str, str]]
    """The folder of each process that has written to the area, with its owner id."""


class _Sweep:
    """One sweep. It asks once whether an owner is alive, and again before it removes anything of that owner.

    Attributes:
        origin: The place of the sessions that can be asked about.
        removed: Number of areas removed.
        foreign: Number of areas whose sessions are kept in another place, by that place.
        without_key: Areas that have files and no key.
    """

    def __init__(self, areas: str, owners: Owners, trash: Trash, origin: str | None) -> None:
        self.origin: str | None = origin
        self.removed: int = 0
        self.foreign: Counter[str] = Counter()
        self.without_key: list[str] = []
        self._areas = areas
        self._owners = owners
        self._trash = trash
        # A process that ends by itself deletes its lock file if it leaves nothing unfinished. So only the folders of
        # these can have unfinished files, except those of processes that end while this sweep runs: for the next one.
        self._killed = owners.ended()
        self._others: dict[str, bool] = {}
        self._is_complete = True

    def slice(self, digests: list[str], living: Living) -> None:
        """Look at areas, ask about their keys, and remove what must go."""
        stay: list[_Area] = []
        asked: dict[str, _Area] = {}
        gone: list[_Area] = []
        for digest in digests:
            area = self.look(digest)
            if area is None:
                continue
            if any(map(self._is_other_alive, area.writers)) or self._is_foreign(area.origin):
                stay.append(area)
            elif area.key is not None:
                asked[area.key] = area
            else:
                # An area without a key was never finished. One with files but without a key has lost it.
                (stay if self._has_lost_key(digest) else gone).append(area)
        alive = set(living(list(asked))) if asked else set()
        for key, area in asked.items():
            (stay if key in alive else gone).append(area)
        stay += [area for area in gone if not self._try(self._remove, area)]
        for area in stay:
            self._try(self._drop_leftovers, area)

    def forget_the_dead(self) -> None:
        """Delete the lock files of processes that had ended before the sweep, unless an area could not be swept."""
        if self._is_complete:
            self._owners.delete(self._killed)

    def look(self, digest: str) -> _Area | None:
        """Look at an area, with one scan of its folder. Return None if it is gone, or cannot be read."""
        writers = []
        try:
            with os.scandir(self._path(digest)) as entries:
                for entry in entries:
                    owner = journal.owner_of(entry)
                    if owner is not None:
                        writers.append((entry.path, owner))
            heads = (journal.read_head(folder, digest) for folder, _ in writers)
            key, origin = next((head for head in heads if head is not None), (None, None))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._failed(digest, error)
            return None
        if self._is_foreign(origin):
            self.foreign[origin or ""] += 1
        return _Area(digest, key, origin, writers)

    def _path(self, digest: str) -> str:
        return f"{self._areas}/{digest[:2]}/{digest}"

    def _failed(self, digest: str, error: OSError) -> None:
        self._is_complete = False
        logger.warning("area %s could not be swept and stays: %s", digest[:8], error.strerror)

    def _try(self, action: Callable[[_Area], bool], area: _Area) -> bool:
        try:
            return action(area)
        except OSError as error:
            self._failed(area.digest, error)
            return False

    def _is_other_alive(self, writer: tuple[str, str]) -> bool:
        owner = writer[1]
        found = self._others.get(owner)
        if found is None:
            found = self._others[owner] = owner not in self._killed and self._owners.is_other_alive(owner)
        return found

    def _is_foreign(self, origin: str | None) -> bool:
        return origin is not None and origin != self.origin

    def _has_lost_key(self, digest: str) -> bool:
        if not any(STORED_NAME.fullmatch(entry) for entry in names_in(self._path(digest))):
            return False
        found = self.look(digest)  # a process may just have written here for the first time
        if found is not None and found.key is None:
            self.without_key.append(digest)
        return True

    def _remove(self, area: _Area) -> bool:
        # Meanwhile another process may have written here or created the area again. The lock prevents that from now on.
        with self._owners.areas_lock(shared=False):
            writers = journal.writers(self._path(area.digest))
            if any(self._owners.is_other_alive(owner) for _, owner in writers):
                return False
            heads = [journal.read_head(folder, area.digest) for folder, _ in writers]
            known = [head for head in heads if head is not None]
            if (known[0][0] if known else None) != area.key or any(self._is_foreign(origin) for _, origin in known):
                return False
            may_go = self._trash.add(area.digest)
        self.removed += may_go
        return may_go

    def _drop_leftovers(self, area: _Area) -> bool:
        """Delete what dead processes have not finished. Living processes create their folders under the lock."""
        for folder, owner in area.writers:
            if owner not in self._killed and (journal.is_complete(folder) or self._is_other_alive((folder, owner))):
                continue
            if not journal.leftovers(folder):
                continue
            with self._owners.areas_lock(shared=False):
                places = (self._areas, os.path.dirname(self._path(area.digest)), self._path(area.digest), folder)
                if all(map(is_real_dir, places)) and not self._owners.is_alive(owner):
                    journal.drop_leftovers(folder)
        return True
