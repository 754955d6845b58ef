"""A folder in which a store keeps files."""
# ruff: noqa: PTH100, PTH118, PTH208  (see disk.py)

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from ..local.disk import is_real_dir, names_in

AREA = re.compile(r"[0-9a-f]{64}")
PREFIX = re.compile(r"[0-9a-f]{2}")


class FolderRefused(Exception):
    """The folder is not that of a store, or this process may not work on it. The message says what to do."""


class Folder:
    """The folder ``root`` of a store, and the folders in it.

    Raises:
        FolderRefused: ``root`` is missing or does not belong to a store, or this process may not read it.
    """

    def __init__(self, root: str) -> None:
        self.root: str = os.path.abspath(root)
        self.areas: str = os.path.join(self.root, "areas")
        self.owners: str = os.path.join(self.root, "owners")
        self.trash: str = os.path.join(self.root, "trash")
        self.set_aside: str = os.path.join(self.root, "set-aside")
        try:
            os.listdir(self.root)
        except OSError as error:
            raise FolderRefused(f"{self.root} cannot be read: {error.strerror}") from None
        if not self._is_store():
            raise FolderRefused(f"{self.root} is not a folder in which a store has saved files: name its base_dir")

    def require_writable(self) -> None:
        """Check that what this process creates will belong to the user of the application.

        Raises:
            FolderRefused: The folder belongs to another user.
        """
        geteuid = getattr(os, "geteuid", None)
        if geteuid is None:
            return
        owner = next((os.lstat(path).st_uid for path in (self.areas, self.owners) if is_real_dir(path)), None)
        if owner is not None and owner != geteuid():
            raise FolderRefused(
                f"the files in {self.root} belong to the user with the id {owner}: run this as that user, so that the "
                "application can use what this creates"
            )

    def place(self, path: str) -> str:
        """Return ``path`` as seen from ``root``."""
        return os.path.relpath(path, self.root)

    def areas_in_order(self) -> Iterator[str]:
        """Yield the path of each area, by its hash."""
        if is_real_dir(self.areas):
            for prefix in filter(PREFIX.fullmatch, readable_names(self.areas)):
                folder = os.path.join(self.areas, prefix)
                if is_real_dir(folder):
                    for digest in readable_names(folder):
                        if is_area(prefix, digest) and is_real_dir(path := os.path.join(folder, digest)):
                            yield path

    def _is_store(self) -> bool:
        # Both are there once a file was saved. One may be damaged; a name such as "areas" alone proves nothing.
        lock = os.path.join(self.owners, "areas.lock")
        if is_real_dir(self.owners) and os.path.lexists(lock) and stat.S_ISREG(os.lstat(lock).st_mode):
            return True
        return next(self.areas_in_order(), None) is not None


def is_area(prefix: str, name: str) -> bool:
    """Return whether ``name``, in the folder ``prefix``, is that of an area."""
    return AREA.fullmatch(name) is not None and name.startswith(prefix)


def readable_names(path: str) -> list[str]:
    """Return the names in a folder, sorted; an empty list if it is missing, or this process may not read it."""
    try:
        return sorted(names_in(path))
    except PermissionError:
        return []
