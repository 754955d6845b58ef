"""Removes the leftovers of ended processes: areas of dead sessions, unfinished files, trash."""
# ruff: noqa: PTH118  (see disk.py)

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable

from ..names import STORED_NAME
from . import journal
from .disk import is_real_dir, names_in
from .owners import Owners
from .trash import Trash

logger = logging.getLogger("silo_files")


class Sweeper:
    """Sweeps the areas of one base folder."""

    def __init__(self, areas: str, owners: Owners, trash: Trash) -> None:
        self._areas = areas
        self._owners = owners
        self._trash = trash
        self._reported: set[str] = set()

    def sweep(self, digests: Iterable[str], is_live: Callable[[str], bool]) -> int:
        """Remove areas whose key is not live, dead processes' unfinished files and lock files, and the trash.

        Args:
            digests: The names of the areas to look at.
            is_live: Called with a key, with no lock held. If it raises, the area stays.

        Returns:
            The number of areas removed.
        """
        removed = sum(self._try_sweep_area(digest, is_live) for digest in digests)
        self._owners.delete_dead()
        self._trash.purge()
        return removed

    def _try_sweep_area(self, digest: str, is_live: Callable[[str], bool]) -> bool:
        try:
            return self._sweep_area(digest, is_live)
        except OSError as error:
            logger.warning("area %s could not be swept and stays: %s", digest[:8], error.strerror)
            return False

    def _sweep_area(self, digest: str, is_live: Callable[[str], bool]) -> bool:
        area = os.path.join(self._areas, digest[:2], digest)
        if not is_real_dir(area) or self._has_other_writer(area):
            return False
        key = _key(area, digest)
        # An area without a key was never finished. One with files but without a key has lost it.
        if self._has_lost_key(area, digest) if key is None else _may_be_live(key, digest, is_live):
            self._drop_parts(area)
            return False
        # Meanwhile another process may have written here or created the area again. The lock prevents that from now on.
        with self._owners.areas_lock(shared=False):
            may_go = not self._has_other_writer(area) and _key(area, digest) == key
            return may_go and self._trash.add(digest)

    def _has_other_writer(self, area: str) -> bool:
        return any(self._owners.is_other_alive(owner) for _, owner in journal.writers(area))

    def _has_lost_key(self, area: str, digest: str) -> bool:
        if not any(STORED_NAME.fullmatch(entry) for entry in names_in(area)):
            return False
        if _key(area, digest) is None and digest not in self._reported:
            self._reported.add(digest)
            logger.warning("area %s stays: its journals do not say which session it belongs to", digest[:8])
        return True

    def _drop_parts(self, area: str) -> None:
        for folder, owner in journal.writers(area):
            if not self._owners.is_alive(owner):
                journal.drop_leftovers(folder)


def _key(area: str, digest: str) -> str | None:
    keys = (journal.read_key(folder, digest) for folder, _ in journal.writers(area))
    return next((key for key in keys if key is not None), None)


def _may_be_live(key: str, digest: str, is_live: Callable[[str], bool]) -> bool:
    try:
        return bool(is_live(key))
    except Exception:
        logger.exception("is_live failed, so area %s stays", digest[:8])
        return True
