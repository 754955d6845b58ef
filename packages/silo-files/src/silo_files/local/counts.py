"""The counts of each area and of the store, in small files that processes lock.

``areas/xx/<digest>/counts`` lies in its area, and goes with it by the one rename. ``owners/counts`` has the sums of all
areas. A process keeps it if its store has ``max_store_bytes``, or if it is there. A record has the bytes and files that
are finished, and what each process has reserved, by its owner id.

How counts stay right when a process is killed between any two system calls:

- A record is read and written under the lock of its file, which the kernel frees when the process ends.
- A change takes the lock of its area and then that of the store, marks both records as uncertain by one byte, renames
  or deletes the file, and writes both records with the new counts, which are certain again. A record that is uncertain
  although its lock is free was left by a killed process: the next look counts the files again. So does a look at a
  record that is missing, empty, torn or negative (CRC-32).
- A removal does the same. Its area has an uncertain record then, so a process that waited for that lock looks at the
  path: the area may be gone, or created again.
- No change can happen while the lock of the store is held, so the store is counted again under this lock alone: the sum
  of the records of all areas; an area without a certain record is walked.
- A reservation is a number in each record, and makes nothing uncertain. A process writes its own number whole, from
  memory, so a lost record gets it back. The number of a dead process is dropped before a save is refused.
- Nothing is renamed and nothing has to be created first: a new area has no record, so its files are counted once.

A reader of a certain record needs no lock: the CRC shows if it was being written. A power cut or a change by hand
leaves counts that look certain and may be wrong.
"""
# ruff: noqa: PTH118, PTH120  (see disk.py)

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from ..backend import Usage
from ..errors import AreaGone
from . import walk
from .disk import RENAMES_BUSY_FOLDERS, is_real_dir, make_dir, open_read, same_file
from .owners import Owners
from .record import Record, is_certain, mark_uncertain, read_record
from .record_file import LockedRecord, RecordFiles
from .reserved import Reserved

# Unlocked looks at a record that another process is just writing.
_LOOKS = 5


class Counts:
    """The counts files of one base folder.

    Attributes:
        base: Path of the base folder.
        reserved: What this process has reserved.
        keeps_store: Whether the store kept a record at the last look. ``doubt_new_store()`` after a change looks again.
    """

    def __init__(self, base: str, owners: Owners) -> None:
        self.base: str = base
        self._areas = os.path.join(base, "areas")
        self._store_folder = os.path.join(base, "owners")
        self._store = os.path.join(self._store_folder, walk.COUNTS)
        self._files = RecordFiles(base)
        self.reserved: Reserved = Reserved(owners)
        self.keeps_store: bool = self.has_store()

    def area(self, digest: str) -> str:
        """Return the path of an area."""
        return walk.area(self._areas, digest)

    def lock_area(self, digest: str) -> LockedRecord:
        """Lock the record of an area. Its files are counted if the record is missing or uncertain.

        Raises:
            AreaGone: There is no such area.
            StorageFull: There is no room left for the record.
            UnsafeCounts: There is something else in its place.
        """
        area = walk.area(self._areas, digest)
        path = f"{area}/{walk.COUNTS}"
        while True:
            locked = self._settle(self._lock_file(path, area), path, digest, area)
            if locked is not None:
                return locked

    def has_store(self) -> bool:
        """Return whether the store keeps a record."""
        return os.access(self._store, os.F_OK)

    def lock_store(self, *, create: bool) -> LockedRecord | None:
        """Lock the record of the store. All areas are summed up if the record is missing or uncertain.

        Args:
            create: Whether to create a record if there is none.

        Returns:
            The record; None if there is none. A thread that wants the lock of an area as well takes that one first.

        Raises:
            StorageFull: There is no room left for the record.
            UnsafeCounts: There is something else in its place.
            UnsafeFolder: A link or a file stands in place of the folder of the record.
        """
        if not create and not self.has_store():
            return None
        if not is_real_dir(self._store_folder):
            make_dir(self._store_folder)
        while True:
            locked = self._settle(self._files.lock(self._store, create=True), self._store, "", "")
            if locked is not None:
                return locked

    def doubt_new_store(self) -> None:
        """Mark the store's record as uncertain, if there is one now: it was created while files of an area changed."""
        if self.has_store():
            self.keeps_store = True
            with contextlib.suppress(OSError):
                fd = self._files.lock(self._store)
                try:
                    mark_uncertain(fd)
                finally:
                    self._files.release(fd)

    def usage(self, digest: str) -> Usage:
        """Return the bytes and files of an area. The files are counted only if their record is missing or uncertain."""
        area = self.area(digest)
        record = _read(f"{area}/{walk.COUNTS}")
        if record is not None:
            return record.usage
        try:
            locked = self.lock_area(digest)
        except AreaGone:
            return Usage(0, 0)
        except OSError:  # this process may only read, or the disk is full
            return walk.usage(area)
        locked.close()
        return locked.record.usage

    def total(self) -> Usage:
        """Return the bytes and files of all areas: the record of the store, or the sum of those of the areas."""
        record = _read(self._store)
        if record is not None:
            return record.usage
        try:
            locked = self.lock_store(create=False)
        except OSError:
            locked = None
        if locked is None:
            return self._sum()
        locked.close()
        return locked.record.usage

    def remove(self, digest: str, rename: Callable[[], object]) -> None:
        """Call ``rename``, which takes an area away, with the locks held, and subtract the area from the store.

        Raises:
            FileNotFoundError: There is no such area.
        """
        area = self.area(digest)
        fd, is_known = self._lock_for_removal(area)
        try:
            store = self.lock_store(create=False)
            try:
                usage = self._look(area) if store is not None else None
                if is_known:
                    # A process that waits for the lock then looks whether the area is still there.
                    try:  # noqa: SIM105 - of the few microseconds that a removal takes, suppress() takes two
                        mark_uncertain(fd)
                    except OSError:
                        pass
                if fd >= 0 and not RENAMES_BUSY_FOLDERS:
                    self._files.release(fd)
                    fd = -1
                if store is None or usage is None:
                    rename()
                    self.doubt_new_store()
                    return
                with contextlib.suppress(OSError):
                    store.doubt()
                rename()
                store.record.bytes -= usage.bytes
                store.record.files -= usage.files
                with contextlib.suppress(OSError):  # then the areas are summed up again at the next look
                    store.write()
            finally:
                if store is not None:
                    store.close()
        finally:
            if fd >= 0:
                self._files.release(fd)

    def _lock_for_removal(self, area: str) -> tuple[int, bool]:
        """Lock the record of an area as it is now.

        An area that is created only now must not be renamed without its lock: a process that has the lock would go by
        the record of an area that is gone.

        Returns:
            The descriptor of its file, -1 if the area cannot have one; and whether it is a record, and certain. A link
            in place of the area may lead to another file, which must not be written.
        """
        path = f"{area}/{walk.COUNTS}"
        while True:
            try:
                fd = self._lock_file(path, area)
            except AreaGone:
                if stat.S_ISDIR(os.lstat(area).st_mode):  # raises FileNotFoundError if there is nothing
                    raise FileNotFoundError(errno.ENOENT, "no such area") from None
                return -1, False  # something else is in its place
            except OSError:  # something else is in place of the record, or the disk is full and has none
                return -1, False
            # A process that has removed the area while this one waited has left the record uncertain.
            try:
                is_known = is_certain(fd)
                if is_known or same_file(fd, path):
                    return fd, is_known
            except OSError:  # something else is in its place, or the disk fails: the area must go
                return fd, False
            except BaseException:
                self._files.release(fd)
                raise
            self._files.release(fd)

    def give_back(self, digest: str, bytes: int, files: int, *, store: bool) -> None:
        """Give back what this process has reserved in an area that may be gone, and in the store if it counts there."""
        names = (digest, "") if store else (digest,)
        for name in names:
            self.reserved.add(name, -bytes, -files)
        for name in names:
            try:
                locked = self.lock_area(name) if name else self.lock_store(create=False)
                if locked is not None:
                    try:
                        locked.write()
                    finally:
                        locked.close()
            except (AreaGone, OSError):
                continue  # the next lock of the record states what is reserved

    def give_back_lost(self) -> None:
        """Give back what lost reservations hold. The thread holds no lock."""
        while self.reserved.lost:
            with contextlib.suppress(IndexError):  # another thread was faster
                digest, bytes, files, store = self.reserved.lost.popleft()
                self.give_back(digest, bytes, files, store=store)

    def _lock_file(self, path: str, area: str) -> int:
        """Lock the file of an area. Create it if the area has none."""
        try:
            return self._files.lock(path)
        except (FileNotFoundError, NotADirectoryError):
            self._require_folders(area)
        try:
            return self._files.lock(path, create=True)
        except (FileNotFoundError, NotADirectoryError):
            raise AreaGone from None

    def _settle(self, fd: int, path: str, name: str, area: str) -> LockedRecord | None:
        """Read the record of a file that was just locked, and count again if it is missing or uncertain.

        Args:
            fd: The file.
            path: Its path.
            name: The digest of the area; "" for the store.
            area: The area; "" for the store.

        Returns:
            The record; None if the file, which is not locked then, was removed with its area before it was locked.
        """
        try:
            try:
                record, is_known = read_record(fd)
            except OSError:  # a pipe can be opened and locked
                self._files.require_file(path)
                raise
            if record is None or not is_known:
                record = self._count(area, record) if same_file(fd, path) else None
            if record is not None:
                locked = LockedRecord(self._files, self.reserved, fd, name, record)
                if not is_known:
                    with contextlib.suppress(OSError):  # on a full disk, the next look counts again
                        locked.write()
                return locked
        except BaseException:
            self._files.release(fd)
            raise
        self._files.release(fd)
        return None

    def _count(self, area: str, record: Record | None) -> Record:
        """Count the files of an area, or the areas of the store. What ``record`` says about reservations stays."""
        if area:
            self._require_folders(area)
        usage = walk.usage(area) if area else self._sum()
        return Record(usage.bytes, usage.files, record.reserved if record else None)

    def _require_folders(self, area: str) -> None:
        """Check that an area is there and that no link leads to it, before anything new is written into it."""
        if not all(map(is_real_dir, (self._areas, os.path.dirname(area), area))):
            raise AreaGone

    def _sum(self) -> Usage:
        return walk.total(self._areas, self._look)

    def _look(self, area: str) -> Usage:
        """Return the counts of an area by its record or, without changing that, by its files. Needs no lock."""
        record = _read(f"{area}/{walk.COUNTS}")
        return record.usage if record is not None else walk.usage(area)


def _read(path: str) -> Record | None:
    """Return a record without locking it; None if it is missing or uncertain."""
    for _ in range(_LOOKS):
        try:
            fd = open_read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            record, certain = read_record(fd)
        finally:
            os.close(fd)
        if record is not None:
            return record if certain else None
    return None
