"""Removes the leftovers of ended processes: areas of dead sessions, unfinished files, trash."""
# ruff: noqa: PTH120  (see disk.py)

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from ..backend import Living
from ..escaping import printable
from ..names import STORED_NAME
from . import journal, walk
from .disk import is_real_dir, names_in
from .owners import Owners
from .trash import Trash

logger = logging.getLogger("silo_files")

SLICE = 250
"""Areas that are looked at, asked about and removed in one go: some tens of milliseconds, if many are removed."""


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

    def sweep(self, living: Living, on_progress: Callable[[int, int], object] | None = None) -> int:
        """Remove areas whose key does not live, dead processes' unfinished files and lock files, and the trash.

        Args:
            living: Called with keys, with no lock held. Returns those that live.
            on_progress: Called after each slice with the number of areas looked at so far and of all areas, with no
                lock held.

        Returns:
            The number of areas removed.
        """
        total = walk.count(self._areas) if on_progress is not None else 0
        sweep = _Sweep(self._areas, self._owners, self._trash, self._origin())
        rest, seen = walk.digests(self._areas), 0
        some = list(itertools.islice(rest, SLICE))
        while some:
            sweep.slice(some, living)
            seen += len(some)
            some = list(itertools.islice(rest, SLICE))
            if on_progress is not None:
                # Areas come and go meanwhile. The last call says that all were looked at.
                on_progress(seen, max(seen + len(some), total) if some else seen)
        sweep.forget_the_dead()
        self._report(sweep)
        self._trash.purge()
        return sweep.removed

    def foreign(self) -> dict[str, int]:
        """Count the areas of sessions that are kept in another place than this application's, by that place."""
        sweep = _Sweep(self._areas, self._owners, self._trash, self._origin())
        for digest in walk.digests(self._areas):
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
                    printable(origin),
                    printable(sweep.origin or "a place without a name"),
                )


class _Writer(NamedTuple):
    """A process that has written to areas, as the sweep first saw it."""

    owner: str
    is_other_alive: bool
    may_leave: bool
    """Whether a folder of this name may have unfinished files, or be unfinished itself."""


class _Area(NamedTuple):
    """What a look at an area found."""

    key: str | None
    origin: str | None
    is_in_use: bool
    """Whether another living process has written to the area."""


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
        self._ended = owners.ended()
        self._writers: dict[str, _Writer | None] = {}
        self._latest = ""
        self._suspects: list[tuple[str, str, str]] = []
        self._is_complete = True

    def slice(self, digests: list[str], living: Living) -> None:
        """Look at areas, ask about their keys, and remove what must go."""
        asked: dict[str, str] = {}
        gone: list[tuple[str, str | None]] = []
        for digest in digests:
            area = self._glance(digest) or self.look(digest)
            if area is None or area.is_in_use or self._is_foreign(area.origin):
                continue
            if area.key is not None:
                asked[area.key] = digest
            # An area without a key was never finished. One with files but without a key has lost it.
            elif not self._has_lost_key(digest):
                gone.append((digest, None))
        alive = living(list(asked)) if asked else ()
        gone += [(digest, key) for key, digest in asked.items() if key not in alive]
        for digest, key in gone:
            self._try(self._remove, digest, key)
        suspects, self._suspects = self._suspects, []
        for digest, folder, owner in suspects:
            self._try(self._drop_leftovers, digest, folder, owner)

    def forget_the_dead(self) -> None:
        """Delete the lock files of processes that had ended before the sweep, unless an area could not be swept."""
        if self._is_complete:
            self._owners.delete(self._ended)
        self._owners.delete_unused()

    def look(self, digest: str) -> _Area | None:
        """Look at an area, with one scan of its folder. Return None if it is gone, or cannot be read."""
        path = walk.area(self._areas, digest)
        head, is_in_use = None, False
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    writer = self._writer(name) if name[1:2] == "-" else None
                    if writer is None or not entry.is_dir(follow_symlinks=False):
                        continue
                    folder = f"{path}/{name}"
                    if head is None and (head := journal.read_head(folder, digest)) is not None:
                        self._latest = name
                    is_in_use = is_in_use or writer.is_other_alive
                    if writer.may_leave:
                        self._suspects.append((digest, folder, writer.owner))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._failed(digest, error)
            return None
        return self._found(head, is_in_use)

    def _glance(self, digest: str) -> _Area | None:
        """Look for the key of an area where it was in the last one: with the same writer. That takes half the time.

        An area that may have unfinished files, or that has no key there, needs a whole look. ``_remove`` takes another
        look in any case.
        """
        if self._ended or not self._latest:
            return None
        head = journal.glance(f"{walk.area(self._areas, digest)}/{self._latest}", digest)
        return self._found(head, False) if head is not None else None

    def _found(self, head: tuple[str, str | None] | None, is_in_use: bool) -> _Area:
        key, origin = head or (None, None)
        if origin is not None and origin != self.origin:
            self.foreign[origin] += 1
        return _Area(key, origin, is_in_use)

    def _writer(self, name: str) -> _Writer | None:
        """Return the process whose folder in areas has this name; None if it is another name."""
        if name not in self._writers:
            owner = journal.owner_of(name)
            if owner is None:
                self._writers[name] = None
            else:
                has_ended = owner in self._ended
                is_other_alive = not has_ended and self._owners.is_other_alive(owner)
                may_leave = has_ended or not (is_other_alive or journal.is_complete(name))
                self._writers[name] = _Writer(owner, is_other_alive, may_leave)
        return self._writers[name]

    def _failed(self, digest: str, error: OSError) -> None:
        self._is_complete = False
        logger.warning("area %s could not be swept and stays: %s", digest[:8], error.strerror)

    def _try(self, action: Callable[..., None], digest: str, *rest: str | None) -> None:
        try:
            action(digest, *rest)
        except OSError as error:
            self._failed(digest, error)

    def _is_foreign(self, origin: str | None) -> bool:
        return origin is not None and origin != self.origin

    def _has_lost_key(self, digest: str) -> bool:
        if not any(STORED_NAME.fullmatch(entry) for entry in names_in(walk.area(self._areas, digest))):
            return False
        found = self.look(digest)  # a process may just have written here for the first time
        if found is not None and found.key is None:
            self.without_key.append(digest)
        return True

    def _remove(self, digest: str, key: str | None) -> None:
        # Meanwhile another process may have written here or created the area again. The lock prevents that from now on.
        with self._owners.areas_lock(shared=False):
            writers = journal.writers(walk.area(self._areas, digest))
            if any(self._owners.is_other_alive(owner) for _, owner in writers):
                return
            heads = [journal.read_head(folder, digest) for folder, _ in writers]
            known = [head for head in heads if head is not None]
            if (known[0][0] if known else None) != key or any(self._is_foreign(origin) for _, origin in known):
                return
            self.removed += self._trash.add(digest)

    def _drop_leftovers(self, digest: str, folder: str, owner: str) -> None:
        """Delete what a dead process has not finished. Living processes create their folders under the lock."""
        if not journal.has_leftovers(folder):
            return
        with self._owners.areas_lock(shared=False):
            area = walk.area(self._areas, digest)
            places = (self._areas, os.path.dirname(area), area, folder)
            if all(map(is_real_dir, places)) and not self._owners.is_alive(owner):
                journal.drop_leftovers(folder)
