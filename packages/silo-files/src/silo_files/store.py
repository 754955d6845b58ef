"""The store that an application uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import chain
from typing import IO, BinaryIO

from .backend import Block, FileBackend, FileInfo, StagedFile, Usage
from .errors import FileMissing, NoLocalPath
from .ledger import Ledger, Limits, Reservation
from .local import LocalFileBackend
from .locks import KeyLocks
from .names import check_key, check_name
from .source import read_blocks


class FileStore:
    """Files that belong to sessions: saved whole or not at all, deleted together.

    `base_dir` is the folder that holds them; with `auto_create` it is made when missing. The store touches nothing
    in it but its own folders. `max_file_bytes` limits each file, `max_session_bytes` and `max_files` the files of
    each session, `max_store_bytes` all together. With `durable`, a saved file survives a power cut. `key_for` turns
    a session id into the key that the files belong to, for each call; it may raise. `backend` keeps the files
    elsewhere; `base_dir`, `auto_create` and `durable` are then its own affair.

    Each method that takes a session id raises `InvalidKey`, each that takes a file name `InvalidFileName`. All
    methods may be called from several threads at once, and several processes may share one `base_dir`.

    Raises `FolderUnusable` if `base_dir` cannot be created or written to. With `auto_create=False` nothing is checked
    before the first save, so that files can be read where none can be written.
    """

    def __init__(
        self,
        base_dir: str | os.PathLike[str],
        *,
        auto_create: bool = True,
        backend: FileBackend | None = None,
        max_file_bytes: int | None = None,
        max_session_bytes: int | None = None,
        max_store_bytes: int | None = None,
        max_files: int | None = None,
        durable: bool = False,
        key_for: Callable[[str], str] | None = None,
    ) -> None:
        for limit in (max_file_bytes, max_session_bytes, max_store_bytes, max_files):
            if limit is not None and limit < 0:
                raise ValueError("a limit must not be negative")
        if key_for is not None and not callable(key_for):
            raise TypeError(f"key_for takes a function that is called as function(sid), and not {key_for!r}")
        self.base_dir = os.path.abspath(os.fspath(base_dir))  # noqa: PTH100 - a str, as it always was
        self.auto_create = auto_create
        self.backend: FileBackend = backend or LocalFileBackend(self.base_dir, auto_create=auto_create, durable=durable)
        self._max_file_bytes = max_file_bytes
        self._key_for = key_for
        self._locks = KeyLocks()
        limits = Limits(max_session_bytes, max_store_bytes, max_files)
        self._ledger = Ledger(self.backend, self._locks, limits) if limits != Limits() else None

    def session_dir(self, sid: str) -> str:
        """Return the absolute path of the session's folder; with `auto_create` it is made.

        Its name is a hash. Raises `NoLocalPath` if the backend has no folders.
        """
        return self.key_dir(self._key(sid))

    def key_dir(self, key: str) -> str:
        """Return the folder of `key`, which `key_for` gave, without asking `key_for`. Otherwise as `session_dir`."""
        path = self.backend.area_path(check_key(key), create=self.auto_create)
        if path is None:
            raise NoLocalPath
        return path

    def save(self, sid: str, filename: str, data: IO[bytes] | Block, *, size: int | None = None) -> str:
        """Save `data` as `filename`, in place of an older file of that name. Return its absolute path.

        Readers see the old file or the whole new one. On any error the old file stays and nothing else does.
        `size` is the number of bytes that `data` must have, if that is known.

        Raises `InvalidSource`, `TruncatedInput`, `FileTooLarge`, `SessionQuotaExceeded`, `StoreQuotaExceeded`,
        `StorageFull`, `AreaGone`, `BaseMissing`, `FolderUnusable`, `UnsafeFolder`, and what `data` raises when
        it is read.
        """
        return self.save_key(self._key(sid), filename, data, size=size)

    def save_key(
        self,
        key: str,
        filename: str,
        data: IO[bytes] | Block,
        *,
        size: int | None = None,
        check: Callable[[], object] | None = None,
    ) -> str:
        """Save a file that belongs to `key`, as `key_for` gave it, without asking `key_for`. Otherwise as `save`.

        `check()` is called once all bytes are written, before the file gets its name, with no lock held. If it raises,
        the old file stays and nothing of the new one does.
        """
        key = check_key(key)
        name = check_name(filename)
        checked = read_blocks(data, size=size, limit=self._max_file_bytes)
        # Asking for the first block here lets a bad source fail before anything is made.
        first = next(checked, b"")
        blocks = chain((first,), checked)
        staged = self.backend.stage(key, name)
        try:
            if self._ledger is None:
                return self._finish(key, staged, blocks, check)
            # Only now, so that a clean-up either comes before and is counted, or lets the commit fail.
            with self._ledger.begin(key, name) as reservation:
                return self._finish(key, staged, reservation.meter(blocks), check, reservation)
        except BaseException:
            staged.abort()
            raise

    def get_path(self, sid: str, filename: str) -> str | None:
        """Return the absolute path of a saved file; None if there is none, or no local path leads to it."""
        return self.backend.path(self._key(sid), check_name(filename))

    def open(self, sid: str, filename: str) -> BinaryIO:
        """Open a saved file for reading bytes; the caller closes it. Raises `FileMissing`."""
        return self.backend.open(self._key(sid), check_name(filename))

    def stat(self, sid: str, filename: str) -> FileInfo:
        """Describe a saved file. Raises `FileMissing`."""
        info = self.backend.stat(self._key(sid), check_name(filename))
        if info is None:
            raise FileMissing
        return info

    def files(self, sid: str) -> list[FileInfo]:
        """Describe all files of the session, ordered by name."""
        return self.backend.list(self._key(sid))

    def list_files(self, sid: str) -> list[str]:
        """Return the names of all files of the session, in order."""
        return [info.name for info in self.files(sid)]

    def delete(self, sid: str, filename: str) -> bool:
        """Delete one file. Return whether there was one."""
        key = self._key(sid)
        name = check_name(filename)
        with self._locks.of(key):
            info = self.backend.stat(key, name) if self._ledger else None
            deleted = self.backend.delete(key, name)
            if self._ledger and info and deleted:
                self._ledger.remove_file(key, name, info.size)
        return deleted

    def cleanup(self, sid: str) -> None:
        """Remove all files of the session, at once for everybody. Their room is freed soon after."""
        self.cleanup_key(self._key(sid))

    def cleanup_key(self, key: str) -> None:
        """Remove all files that belong to `key`, as `key_for` gave it, without asking `key_for`."""
        key = check_key(key)
        with self._locks.of(key):
            size = self._ledger.size_of(key) if self._ledger else 0
            self.backend.remove_area(key)
            if self._ledger:
                self._ledger.remove_area(key, size)

    def cleanup_all(self) -> None:
        """Remove the files of all sessions, also of those that other processes serve."""
        try:
            self.backend.remove_all()
        finally:
            if self._ledger:
                self._ledger.remove_all()

    def purge(self) -> None:
        """Free the room of what was removed, and return when that is done."""
        self.backend.purge()

    def sweep(self, is_live: Callable[[str], bool]) -> int:
        """Tidy up after processes that ended: remove files whose key is not live. Return how many sessions' files.

        `is_live` gets a key and tells whether it still has a session. It is called with no lock held; if it raises,
        the files stay. Files that another living process has written to are never removed.

        A key must be live before its first file is saved, and for as long as it may get more: if it becomes live
        only after `is_live` has said no, its files go, also those saved meanwhile.
        """
        removed = -1
        try:
            removed = self.backend.sweep(is_live)
        finally:
            if self._ledger and removed:
                self._ledger.remove_all()
        return removed

    def usage(self, sid: str) -> Usage:
        """Count the bytes and files of the session as they are now."""
        return self.backend.usage(self._key(sid))

    @property
    def total_size_bytes(self) -> int:
        """Bytes of the files of all sessions. Looks at each file, so it takes time with very many."""
        return self.backend.total().bytes

    def close(self) -> None:
        """Stop posing as a living writer, so that others may sweep. Files stay; saving again takes the part up."""
        self.backend.close()

    def _key(self, sid: str) -> str:
        sid = check_key(sid)
        return sid if self._key_for is None else check_key(self._key_for(sid))

    def _finish(
        self,
        key: str,
        staged: StagedFile,
        blocks: Iterable[Block],
        check: Callable[[], object] | None,
        reservation: Reservation | None = None,
    ) -> str:
        for block in blocks:
            staged.write(block)
        staged.finish()
        if check is not None:
            check()
        # A clean-up of this key waits here, so that the counts see both in one order.
        with self._locks.of(key):
            location = staged.commit()
            if reservation is not None:
                reservation.commit()
        return location
