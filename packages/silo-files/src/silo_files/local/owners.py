"""Finds out which writers of a base folder are alive: each process holds a lock on a file until it ends."""
# ruff: noqa: PTH108, PTH118  (see disk.py)

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator

from ..fork import reset_after_fork
from .disk import LOCK, is_real_dir, make_dir, names_in, open_lock, same_file
from .file_lock import lock_fd, unlock_fd
from .walk import regular

# Windows does not delete an open file.
_DELETES_CLOSED_ONLY = os.name == "nt"
_LOCK_FILE = re.compile(r"([0-9a-f]{16})\.lock")


class Owners:
    """The ``owners`` folder of a base folder, and this process's entry in it: a lock file named for its owner id.

    The entry is created by the first ``own_id()``, also in a forked child. A process that ends by itself deletes its
    file, unless it leaves unfinished files: then a sweep looks for them.

    Attributes:
        unfinished: The paths of the files that this process is writing. A forked child writes none of its parent's.
    """

    def __init__(self, folder: str) -> None:
        self.unfinished: set[str] = set()
        self._folder = folder
        self._mutex = threading.Lock()
        self._held: tuple[str, int] | None = None
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Drop the parent's entry: the open file would keep the lock when the parent dies."""
        self.unfinished.clear()
        self._mutex = threading.Lock()
        if self._held is not None:
            os.close(self._held[1])
            self._held = None

    def own_id(self) -> str:
        """Return this process's owner id. The first call creates and locks its file."""
        if (held := self._held) is not None:
            return held[0]
        with self._mutex:
            while self._held is None:
                self._held = self._try_lock(os.urandom(8).hex())
            return self._held[0]

    def held_id(self) -> str | None:
        """Return this process's owner id; None if it has none yet."""
        held = self._held
        return held[0] if held is not None else None

    def renew(self) -> None:
        """Create the entry again if something, such as a cleaner of temporary files, has deleted it."""
        with self._mutex:
            if self._held is not None and not same_file(self._held[1], self._path(self._held[0])):
                owner, lost = self._held
                # None means that another process is just testing the lock of the new file.
                while (held := self._try_lock(owner)) is None:
                    time.sleep(0.001)
                self._held = held
                os.close(lost)

    def _try_lock(self, owner: str) -> tuple[str, int] | None:
        make_dir(self._folder)
        path = self._path(owner)
        fd = open_lock(path)
        try:
            # Before it was locked, another process may have taken the file for that of a dead process and deleted it.
            if lock_fd(fd, wait=False) and same_file(fd, path):
                os.ftruncate(fd, 1)  # marks it as locked by its process, even on a full disk
                kept, fd = fd, -1
                return owner, kept
        finally:
            if fd >= 0:
                os.close(fd)
        return None

    def is_alive(self, owner: str) -> bool:
        """Return whether the process of ``owner`` is alive. This process's own id counts as alive."""
        if (held := self._held) is not None and held[0] == owner:
            return True
        try:
            fd = os.open(self._path(owner), LOCK)
        except FileNotFoundError:
            return False
        except OSError:  # this process may not open the file: assume that it is locked
            return True
        try:
            # Shared, as two processes that ask at the same time must not take each other for the owner.
            if not lock_fd(fd, shared=True, wait=False):
                return True
            unlock_fd(fd)
        finally:
            os.close(fd)
        return False

    def is_other_alive(self, owner: str) -> bool:
        """Return whether ``owner`` is another process, and alive."""
        held = self._held
        return not (held is not None and held[0] == owner) and self.is_alive(owner)

    def has_ended(self, owner: str) -> bool:
        """Return whether a process has ended and not deleted its lock file: it may have left other things.

        The process of a file that was never locked may be about to lock it, so it has not ended.
        """
        return self._was_locked(owner) is True and not self.is_alive(owner)

    def ended(self) -> set[str]:
        """Return the ids of the processes that have ended and not deleted their lock files."""
        return {owner for owner in self._all() if self.has_ended(owner)}

    def delete(self, owners: Iterable[str]) -> None:
        """Delete the lock files of ended processes. Owner ids are never reused, so an id without a file is dead."""
        for owner in owners:
            self._delete(owner, was_locked=True)

    def delete_unused(self) -> None:
        """Delete the lock files that were never locked. A process that is about to lock one of them creates another."""
        for owner in self._all():
            if self._was_locked(owner) is False:
                self._delete(owner, was_locked=False)

    def _all(self) -> set[str]:
        entries = names_in(self._folder) if is_real_dir(self._folder) else ()
        return {match[1] for entry in entries if (match := _LOCK_FILE.fullmatch(entry))}

    def _was_locked(self, owner: str) -> bool | None:
        """Return whether the process of ``owner`` has ever locked its file; None if there is no such file."""
        try:
            status = regular(self._path(owner))
        except OSError:  # this process may not look
            return None
        return status.st_size > 0 if status is not None else None

    def _delete(self, owner: str, *, was_locked: bool) -> None:
        """Delete a lock file under its lock, so that no process can be locking it now."""
        if not is_real_dir(self._folder):
            return
        path = self._path(owner)
        with contextlib.suppress(OSError):
            fd = os.open(path, LOCK)
            try:
                if not lock_fd(fd, wait=False):
                    return
                is_expected = (os.fstat(fd).st_size > 0) is was_locked
                if is_expected and not _DELETES_CLOSED_ONLY:
                    os.unlink(path)
                unlock_fd(fd)
            finally:
                os.close(fd)
            if is_expected and _DELETES_CLOSED_ONLY:
                os.unlink(path)

    @contextlib.contextmanager
    def areas_lock(self, *, shared: bool) -> Iterator[None]:
        """Hold the lock between processes that create folders in areas (``shared``) and one that sweeps areas."""
        make_dir(self._folder)
        fd = open_lock(os.path.join(self._folder, "areas.lock"))
        try:
            lock_fd(fd, shared=shared)
            try:
                yield
            finally:
                unlock_fd(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give up the entry. Other processes may then sweep what this one wrote."""
        with self._mutex:
            held, self._held = self._held, None
        if held is not None:
            _release(self._path(held[0]), held[1], delete=not self.unfinished)

    def __del__(self) -> None:
        # A store without references saves nothing more, so it must no longer count as a living owner.
        if getattr(self, "_held", None) is not None:
            self.close()

    def _path(self, owner: str) -> str:
        return os.path.join(self._folder, owner + ".lock")


def _release(path: str, fd: int, *, delete: bool) -> None:
    with contextlib.suppress(OSError):  # on Windows an open file cannot be deleted: a sweep does it later
        if delete:
            os.unlink(path)
    unlock_fd(fd)
    os.close(fd)
