"""Who writes to a root: each process holds a lock on a file of its own, and loses it when it dies."""
# ruff: noqa: PTH108, PTH116, PTH118  (see disk.py)

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
from collections.abc import Iterator

from silo_files.disk import LOCK, make_dir, names_in
from silo_files.fork import call_after_fork
from silo_files.locks import lock_fd, unlock_fd

_LOCK_FILE = re.compile(r"([0-9a-f]{16})\.lock")


class Owners:
    """The `owners/` folder of a root, and this process's own entry in it.

    The entry is made when `own_id` is first asked for, and anew in a forked child.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._mutex = threading.Lock()
        self._held: tuple[str, int] | None = None
        call_after_fork(self)

    def after_fork(self) -> None:
        """Drop the parent's entry: the child's copy would keep the lock held when the parent dies."""
        self._mutex = threading.Lock()
        if self._held is not None:
            os.close(self._held[1])
            self._held = None

    def own_id(self) -> str:
        """Return this process's owner id, taking its lock if that is not done yet."""
        if (held := self._held) is not None:
            return held[0]
        with self._mutex:
            while self._held is None:
                self._held = self._take(secrets.token_hex(8))
            return self._held[0]

    def renew(self) -> None:
        """Make our entry again if something, such as a cleaner of temporary files, has deleted it."""
        with self._mutex:
            if self._held is not None and not _same_file(self._held[1], self._path(self._held[0])):
                owner, lost = self._held
                self._held = self._take(owner)
                os.close(lost)

    def _take(self, owner: str) -> tuple[str, int] | None:
        make_dir(self._folder)
        path = self._path(owner)
        fd = os.open(path, LOCK, 0o600)
        # Between creating and locking, another process may have taken the file for a dead one's and deleted it.
        if lock_fd(fd, wait=False) and _same_file(fd, path):
            return owner, fd
        os.close(fd)
        return None

    def is_alive(self, owner: str) -> bool:
        """Tell whether another process holds the lock of `owner`. Our own id counts as alive too."""
        if self._held is not None and self._held[0] == owner:
            return True
        try:
            fd = os.open(self._path(owner), LOCK & ~os.O_CREAT)
        except FileNotFoundError:
            return False
        except OSError:  # not ours to open, so not ours to judge
            return True
        try:
            if not lock_fd(fd, wait=False):
                return True
            unlock_fd(fd)
        finally:
            os.close(fd)
        return False

    def is_other_alive(self, owner: str) -> bool:
        """Tell whether `owner` is alive and is not ourselves."""
        return not (self._held is not None and self._held[0] == owner) and self.is_alive(owner)

    def forget_dead(self) -> None:
        """Delete the lock files of dead processes. An id is never used twice, so a missing file means dead."""
        for entry in names_in(self._folder):
            match = _LOCK_FILE.fullmatch(entry)
            if match and not self.is_alive(match[1]):
                with contextlib.suppress(OSError):
                    os.unlink(self._path(match[1]))

    @contextlib.contextmanager
    def areas_lock(self, *, shared: bool) -> Iterator[None]:
        """Hold the lock between processes that enter areas (`shared`) and one that removes areas as ownerless."""
        make_dir(self._folder)
        fd = os.open(os.path.join(self._folder, "areas.lock"), LOCK, 0o600)
        try:
            lock_fd(fd, shared=shared)
            try:
                yield
            finally:
                unlock_fd(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give up our entry. What we wrote can then be swept by others."""
        with self._mutex:
            held, self._held = self._held, None
        if held is not None:
            _let_go(self._path(held[0]), held[1])

    def __del__(self) -> None:
        # A store that nobody holds any more can save nothing: it must not pose as a living owner.
        if getattr(self, "_held", None) is not None:
            self.close()

    def _path(self, owner: str) -> str:
        return os.path.join(self._folder, owner + ".lock")


def _let_go(path: str, fd: int) -> None:
    with contextlib.suppress(OSError):  # on Windows an open file cannot be deleted: forget_dead does it later
        os.unlink(path)
    unlock_fd(fd)
    os.close(fd)


def _same_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
