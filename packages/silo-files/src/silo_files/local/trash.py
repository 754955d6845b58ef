"""Removes areas by one rename and deletes their files afterwards.

This is the only module that deletes folders with files. It accepts area folders only, by their name and place, and
deletes nothing else.
"""
# ruff: noqa: PTH104, PTH106, PTH108, PTH118, PTH119, PTH120  (see disk.py)

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import re
import threading
import time
from collections import deque
from functools import partial

from ..errors import FileStoreError
from ..fork import reset_after_fork
from .counts import Counts
from .disk import RENAMES_BUSY_FOLDERS, is_real_dir, make_dir, names_in
from .walk import AREA

logger = logging.getLogger("silo_files")
_ENTRY = re.compile(r"[0-9a-f]{32}\.gone")

# Attempts to delete an entry while other threads or processes work on it.
_ATTEMPTS = 5

# Seconds between two looks of the deleting thread. A removal does not wake it: it would compete with the thread that
# answers a request, by milliseconds.
_PAUSE = 0.05

# Seconds after which the deleting thread ends if there was no other entry.
_IDLE_SECONDS = 10.0


class Trash:
    """The ``trash`` folder of a base folder. A daemon thread empties it; the first ``add()`` starts the thread."""

    def __init__(self, areas: str, folder: str, counts: Counts) -> None:
        self._areas = areas
        self._folder = folder
        self._counts = counts
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin without a thread: a child has none of its parent's."""
        self._mutex = threading.Lock()
        self._deleting = threading.Lock()
        self._work: deque[str] = deque()
        # Each process has names of its own for what it removes.
        self._own = os.urandom(8).hex()
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def make(self) -> None:
        """Create the folder while there is room: on a full disk an area must be able to go.

        Raises:
            UnsafeFolder: A link or a file stands in its place.
        """
        if not is_real_dir(self._folder):
            make_dir(self._folder)

    def add(self, digest: str) -> bool:
        """Move the area ``digest`` into the trash by one rename. Return whether it existed.

        Raises:
            FileStoreError: The name is not that of an area.
            UnsafeFolder: A link or a file stands in place of the trash folder.
        """
        if not AREA.fullmatch(digest):
            raise FileStoreError("refused to remove a folder whose name is not that of an area")
        prefix = f"{self._areas}/{digest[:2]}"
        area = f"{prefix}/{digest}"
        if not is_real_dir(self._areas) or not is_real_dir(prefix):
            return False
        self.make()
        entry = f"{self._own}{next(self._numbers):016x}.gone"
        target = f"{self._folder}/{entry}"
        try:
            self._counts.remove(digest, partial(_move, area, target))
        except FileNotFoundError:
            return False
        self._enqueue(entry)
        return True

    def purge(self) -> None:
        """Delete all entries of the trash, also those of other processes. An entry that cannot be deleted is logged."""
        for entry in names_in(self._folder):
            self._delete(entry)

    def _enqueue(self, entry: str) -> None:
        with self._mutex:
            self._work.append(entry)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="silo-files-trash", daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter is shutting down: the next sweep deletes it
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        end = time.monotonic() + _IDLE_SECONDS
        while True:
            time.sleep(_PAUSE)
            while self._work:
                try:
                    self._delete(self._work.popleft())
                except BaseException:
                    with self._mutex:
                        self._thread = None  # the next add() starts another thread
                    raise
                end = time.monotonic() + _IDLE_SECONDS
            if time.monotonic() >= end:
                with self._mutex:
                    if not self._work:
                        self._thread = None
                        return

    def _delete(self, entry: str) -> None:
        # One at a time: two threads would delete each other's files, and one of them would give up.
        with self._deleting:
            _delete(self._folder, entry)


def _delete(folder: str, entry: str) -> None:
    """Delete one entry of the trash. Never follows a link, never leaves ``folder``."""
    if not _ENTRY.fullmatch(entry) or os.path.basename(folder) != "trash" or not is_real_dir(folder):
        return
    import shutil  # takes milliseconds, as it imports modules for archives

    path = os.path.join(folder, entry)
    for _ in range(_ATTEMPTS):
        try:
            if is_real_dir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except OSError as error:
            if not os.path.lexists(path):
                return
            # Another process may delete the same entry, and a save that found the area just before it was removed may
            # add or remove a file here.
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                logger.warning("could not delete %s in the trash yet: %s", entry, error.strerror)
                return
        else:
            return
    logger.debug("could not delete %s in the trash yet: other processes work on it", entry)


def _move(area: str, target: str) -> None:
    try:
        os.rename(area, target)
    except PermissionError:
        if RENAMES_BUSY_FOLDERS:
            raise
        _move_piecewise(area, target)


def _move_piecewise(area: str, target: str) -> None:
    """Move what can be moved out of an area that cannot be renamed because a file in it is open.

    The journals are moved too, so a save that is running there fails with ``AreaGone`` when it commits.
    """
    make_dir(os.path.dirname(target))
    make_dir(target)
    for entry in names_in(area):
        source, place = os.path.join(area, entry), os.path.join(target, entry)
        try:
            os.rename(source, place)
        except OSError:
            if is_real_dir(source):
                _move_piecewise(source, place)
            else:
                logger.warning("a file of a removed area is still open and stays for now")
    with contextlib.suppress(OSError):
        os.rmdir(area)
