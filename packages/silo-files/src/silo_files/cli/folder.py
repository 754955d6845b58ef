"""A folder in which a store keeps files."""
# ruff: noqa: PTH100, PTH118, PTH119, PTH208  (see disk.py)

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from ..local import walk
from ..local.counts import Counts
from ..local.disk import is_real_dir, names_in
from ..local.owners import Owners
from ..local.trash import Trash


class FolderRefused(Exception):
    """The folder is not that of a store, or this process may not work on it. The message says what to do."""


class Folder:
    """The folder of a store, and what is in it.

    Attributes:
        root: Absolute path of the folder.
        areas: Path of the folder of the areas.
        owners_path: Path of the folder of the lock files.
        trash_path: Path of the folder of removed areas.
        gate: Path of the lock between processes that create areas and one that repairs them.
        counts: Path of the counts of the store.
        set_aside: Path of the folder for what a store does not create.
        owners: Which processes are alive.
        trash: Removes areas.

    Raises:
        FolderRefused: ``root`` is missing or does not belong to a store, or this process may not read it.
    """

    def __init__(self, root: str) -> None:
        self.root: str = os.path.abspath(root)
        self.areas: str = os.path.join(self.root, "areas")
        self.owners_path: str = os.path.join(self.root, "owners")
        self.trash_path: str = os.path.join(self.root, "trash")
        self.gate: str = os.path.join(self.owners_path, "areas.lock")
        self.counts: str = os.path.join(self.owners_path, walk.COUNTS)
        self.set_aside: str = os.path.join(self.root, "set-aside")
        try:
            os.listdir(self.root)
        except OSError as error:
            raise FolderRefused(f"{self.root} cannot be read: {error.strerror}") from None
        if not self._is_store():
            raise FolderRefused(f"{self.root} is not a folder in which a store has saved files: name its base_dir")
        self.owners: Owners = Owners(self.owners_path)
        self.trash: Trash = Trash(self.areas, self.trash_path, Counts(self.root, self.owners))

    def require_writable(self) -> None:
        """Check that what this process creates will belong to the user of the application.

        Raises:
            FolderRefused: The folder belongs to another user.
        """
        geteuid = getattr(os, "geteuid", None)
        if geteuid is None:
            return
        owner = next((os.lstat(path).st_uid for path in (self.areas, self.owners_path) if is_real_dir(path)), None)
        if owner is not None and owner != geteuid():
            raise FolderRefused(
                f"the files in {self.root} belong to the user with the id {owner}: run this as that user, so that the "
                "application can use what this creates"
            )

    def place(self, path: str) -> str:
        """Return ``path`` as seen from ``root``."""
        return os.path.relpath(path, self.root)

    def prefixes(self) -> Iterator[str]:
        """Yield the path of each folder of areas, in order."""
        return _folders(self.areas, walk.PREFIX)

    def areas_in_order(self) -> Iterator[str]:
        """Yield the path of each area, by its hash."""
        for prefix in self.prefixes():
            for area in _folders(prefix, walk.AREA):
                if os.path.basename(area).startswith(os.path.basename(prefix)):
                    yield area

    def _is_store(self) -> bool:
        # Both are there once a file was saved. One may be damaged; a name such as "areas" alone proves nothing.
        if is_real_dir(self.owners_path) and os.path.lexists(self.gate) and stat.S_ISREG(os.lstat(self.gate).st_mode):
            return True
        return next(self.areas_in_order(), None) is not None


def _folders(path: str, pattern: re.Pattern[str]) -> Iterator[str]:
    """Yield the path of each folder in a folder whose name matches; none if this process may not read it."""
    for name in readable_names(path):
        if pattern.fullmatch(name) and is_real_dir(found := os.path.join(path, name)):
            yield found


def readable_names(path: str) -> list[str]:
    """Return the names in a folder, sorted; an empty list if it is missing or a link, or cannot be read."""
    try:
        return sorted(names_in(path)) if is_real_dir(path) else []
    except PermissionError:
        return []
