"""Keeps files on a local disk.

<base>/areas/<2 hex>/<sha256 of the key>/<hash of the name><extension>   a finished file
<base>/areas/<2 hex>/<sha256 of the key>/counts                          the bytes and files of the area
<base>/areas/<2 hex>/<sha256 of the key>/w-<owner>/names                 the journal of one process
<base>/areas/<2 hex>/<sha256 of the key>/w-<owner>/<number>.part         a file being written
<base>/owners/counts                                                     those of all areas, with max_store_bytes
<base>/owners/<owner>.lock                                               locked by a living process
<base>/trash/<random>.gone                                               a removed area
"""
# ruff: noqa: PTH100, PTH104, PTH106, PTH108, PTH112, PTH118, PTH119, PTH120  (see disk.py)

from __future__ import annotations

import builtins
import contextlib
import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import BinaryIO

from ..backend import FileInfo, Living, Origin, Usage
from ..errors import AreaGone, BaseMissing, FileMissing, FolderUnusable
from ..fork import reset_after_fork
from ..names import hash_key, hash_name
from . import journal, walk
from .counts import Counts
from .disk import create_masked, is_real_dir, make_base, make_dir, open_read, raise_if_full, sync_dir
from .owners import Owners
from .staged import LocalStagedFile, describe
from .sweeping import Sweeper
from .trash import Trash

# Attempts to create a folder in an area while other threads or processes keep removing the area.
_ATTEMPTS = 100


class LocalFileBackend:
    """A ``FileBackend`` on a local disk. Several processes may share one ``base_dir``.

    It works only in the folders ``areas``, ``owners`` and ``trash`` of ``base_dir`` and touches nothing else there.

    Args:
        base_dir: The folder for the files.
        auto_create: Whether to create the folder if it is missing, and to check now that files can be saved in it.
        durable: Whether a saved file survives a power cut. Each save then waits for the disk.
        origin: Names the place where the sessions are kept, or returns that name; None if it has none. See
            ``FileStore``.

    Attributes:
        counts: The counts of the areas and of the store.

    Raises:
        FolderUnusable: With ``auto_create``, the folder cannot be created or written to.
    """

    def __init__(
        self, base_dir: str, *, auto_create: bool = True, durable: bool = False, origin: Origin = None
    ) -> None:
        self._base = os.path.abspath(base_dir)
        self._auto_create = auto_create
        self._durable = durable
        self._areas = os.path.join(self._base, "areas")
        self._owners = Owners(os.path.join(self._base, "owners"))
        self.counts: Counts = Counts(self._base, self._owners)
        self._trash = Trash(self._areas, os.path.join(self._base, "trash"), self.counts)
        self._origin: Callable[[], str | None] = origin if callable(origin) else lambda: origin
        self._sweeper = Sweeper(self._areas, self._owners, self._trash, self._origin)
        self._numbers = itertools.count()
        self._after_fork()
        reset_after_fork(self)
        if auto_create:
            self._make_base()
            self.check()

    def _after_fork(self) -> None:
        """Replace the lock: a thread of the parent may have held it."""
        self._journal_lock = threading.Lock()

    def check(self) -> None:
        """Check that files can be saved here. Creates nothing.

        Raises:
            BaseMissing: The folder is missing.
            FolderUnusable: This process may not write to the folder, or to a folder of the store in it, for example
                because another user ran the application before.
        """
        if not os.path.isdir(self._base):
            raise BaseMissing(self._base)
        for folder in (self._base, *(os.path.join(self._base, name) for name in ("areas", "owners", "trash"))):
            if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise FolderUnusable(folder, errno.EACCES)

    def stage(self, key: str, name: str) -> LocalStagedFile:
        """Begin to write a file.

        Raises:
            StorageFull: There is no room left.
            AreaGone: The area was removed again at each attempt.
            BaseMissing: The folder is missing, and ``auto_create`` is off.
            FolderUnusable: The folder is missing and cannot be created.
            UnsafeFolder: A link or a file stands in place of a folder of the store.
        """
        area = self._area(key)
        try:
            folder = f"{area}/w-{self._own_id()}"
            part = f"{folder}/{next(self._numbers)}.part"
            fd = self._open_part(part, folder, key)
        except OSError as error:
            raise_if_full(error)
            raise
        record = partial(self._record_name, folder, area, key)
        unfinished = self._owners.unfinished
        return LocalStagedFile(
            fd, part, folder, area, name, durable=self._durable, record=record, unfinished=unfinished
        )

    def path(self, key: str, name: str) -> str | None:
        """Return the absolute path of a finished file; None if there is no such file."""
        path = self._file(key, name)
        return path if walk.regular(path) else None

    def area_path(self, key: str, *, create: bool) -> str:
        """Return the absolute path of the area's folder. Its name is a hash of the key."""
        area = self._area(key)
        if create:
            folder = os.path.join(area, "w-" + self._own_id())
            for _ in range(_ATTEMPTS):
                if is_real_dir(folder):
                    break
                self._make_writer_folder(folder, key)
        return area

    def stat(self, key: str, name: str) -> FileInfo | None:
        """Describe a finished file; None if there is no such file."""
        return _describe(self._area(key), name)

    def size(self, key: str, name: str) -> int | None:
        """Return the bytes of a finished file; None if there is no such file."""
        status = walk.regular(self._file(key, name))
        return status.st_size if status else None

    def open(self, key: str, name: str) -> tuple[BinaryIO, FileInfo]:
        """Open a finished file for reading, and describe what was opened. The caller closes it.

        Raises:
            FileMissing: There is no such file.
        """
        try:
            file = builtins.open(self._file(key, name), "rb", opener=open_read)  # noqa: SIM115
        except (FileNotFoundError, NotADirectoryError):
            raise FileMissing from None
        return file, describe(name, os.fstat(file.fileno()))

    def names(self, key: str) -> list[str]:
        """Return the names of all finished files of the area, sorted."""
        return _names(self._area(key))

    def list(self, key: str) -> list[FileInfo]:
        """Describe all finished files of the area, ordered by name."""
        area = self._area(key)
        return [info for name in _names(area) if (info := _describe(area, name)) is not None]

    def delete(self, key: str, name: str) -> bool:
        """Delete one file. Return whether it existed."""
        area = self._area(key)
        if not all(map(is_real_dir, (self._areas, os.path.dirname(area), area))):
            return False
        try:
            os.unlink(f"{area}/{hash_name(name)}")
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def remove_area(self, key: str) -> bool:
        """Move the area into the trash by one rename; a thread deletes its files later. Return whether it existed."""
        return self._trash.add(hash_key(key))

    def remove_all(self) -> None:
        """Move all areas into the trash."""
        for digest in walk.digests(self._areas):
            self._trash.add(digest)

    def usage(self, key: str) -> Usage:
        """Count the finished files of the area."""
        return walk.usage(self._area(key))

    def total(self) -> Usage:
        """Count the finished files of all areas. Looks at each file."""
        return walk.total(self._areas, walk.usage)

    def purge(self) -> None:
        """Delete all removed areas now."""
        self._trash.purge()

    def sweep(self, living: Living, *, on_progress: Callable[[int, int], object] | None = None) -> int:
        """Remove areas whose key does not live, and unfinished files of dead processes. Return the number of areas.

        Areas that another living process has written to stay, and those of another origin.
        """
        return self._sweeper.sweep(living, on_progress)

    def foreign_areas(self) -> dict[str, int]:
        """Return the number of areas of each other origin. Looks at each area."""
        return self._sweeper.foreign()

    def close(self) -> None:
        """Release the lock by which other processes see that this one is alive."""
        self._owners.close()

    def _own_id(self) -> str:
        try:
            return self._owners.own_id()
        except FileNotFoundError:
            self._make_base()
            return self._owners.own_id()

    def _make_base(self) -> None:
        if self._auto_create:
            try:
                make_base(self._base, durable=self._durable)
            except OSError as error:
                obstacle = f"{error.filename or self._base}: {error.strerror}"
                raise FolderUnusable(self._base, error.errno, obstacle) from error
        elif not os.path.isdir(self._base):
            raise BaseMissing(self._base)

    def _open_part(self, part: str, folder: str, key: str) -> int:
        for _ in range(_ATTEMPTS):
            # Only the first save of a process finds no folder, so opening comes before any check.
            try:
                return create_masked(part)
            except (FileNotFoundError, NotADirectoryError):
                self._make_writer_folder(folder, key)
        raise AreaGone

    def _make_writer_folder(self, folder: str, key: str) -> None:
        """Create this process's folder in the area, with its journal, and the area. Others may remove both at any time.

        The folder is prepared under another name, so it appears complete or not at all.
        """
        area = os.path.dirname(folder)
        prefix = os.path.dirname(area)
        self._make_base()
        make_dir(self._areas)
        self._trash.make()
        self._owners.renew()
        origin = self._origin()
        fresh = f"{area}/t{os.path.basename(folder)[1:]}-{next(self._numbers)}"
        with self._owners.areas_lock(shared=True), contextlib.suppress(FileNotFoundError):
            make_dir(prefix)
            make_dir(area)
            make_dir(fresh)
            try:
                journal.start(fresh, key, origin, durable=self._durable)
                if self._durable:
                    # Before other threads can see the folder and commit. A commit syncs the area itself.
                    for path in (fresh, area, prefix, self._areas, self._base):
                        sync_dir(path)
                with contextlib.suppress(OSError):  # another thread of this process was faster
                    os.rename(fresh, folder)
            finally:
                with contextlib.suppress(OSError):
                    journal.drop_leftovers(fresh)
                with contextlib.suppress(OSError):  # the area is empty only if the write failed
                    os.rmdir(area)

    def _record_name(self, folder: str, area: str, key: str, name: str) -> None:
        with self._journal_lock:
            if journal.append(folder, name, durable=self._durable):
                journal.compact(folder, area, key, name, durable=self._durable)

    def _area(self, key: str) -> str:
        return walk.area(self._areas, hash_key(key))

    def _file(self, key: str, name: str) -> str:
        return f"{self._area(key)}/{hash_name(name)}"


def _describe(area: str, name: str) -> FileInfo | None:
    status = walk.regular(f"{area}/{hash_name(name)}")
    return describe(name, status) if status else None


def _names(area: str) -> list[str]:
    """Return the names of the files that are in the folder of an area, sorted."""
    files, writers = walk.scan(area)  # before the journals: a name is written before its file appears
    names = _names_of(files, writers)
    if len(names) < len(files):
        # A process may have written here for the first time during the scan, which then saw its file but no journal.
        names = _names_of(files, [folder for folder, _ in journal.writers(area)])
    return sorted(names)


def _names_of(files: set[str], writers: Iterable[str]) -> list[str]:
    # A name whose hash is that of a file has once passed check_name().
    names = {hash_name(name): name for folder in writers for name in journal.read_names(folder)}
    return [name for stored, name in names.items() if stored in files]
