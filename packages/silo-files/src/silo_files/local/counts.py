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
import threading
from collections import deque
from collections.abc import Callable

from ..backend import Usage
from ..errors import AreaGone, UnsafeCounts
from ..fork import reset_after_fork
from ..names import hash_name
from . import walk
from .disk import LOCK, is_real_dir, make_dir, open_lock, open_read, other_kind, raise_if_full, same_file
from .file_lock import lock_fd, unlock_fd
from .owners import Owners
from .record import Record, is_certain, mark_uncertain, read_record, write_record

# Unlocked looks at a record that another process is just writing.
_LOOKS = 5

# Windows does not rename a folder while a file in it is open.
_RENAMES_BUSY_FOLDERS = os.name != "nt"


class LockedRecord:
    """A record whose file is open and locked.

    Attributes:
        record: The counts. They were counted again if that was needed.
    """

    __slots__ = ("_counts", "_fd", "_name", "record")

    def __init__(self, counts: Counts, fd: int, name: str, record: Record) -> None:
        self._counts = counts
        self._fd = fd
        self._name = name
        self.record: Record = record
        if counts.owned or record.reserved:
            counts.state_own(name, record)

    def doubt(self) -> None:
        """Mark the record as uncertain: files are about to change."""
        mark_uncertain(self._fd)

    def own(self, bytes: int, files: int) -> None:
        """Add to what this process has reserved here. Does not write the record."""
        self._counts.own(self._name, bytes, files)
        self._counts.state_own(self._name, self.record)

    def write(self) -> None:
        """Write the record, which is certain then. A negative one stays uncertain."""
        if self.record.bytes >= 0 and self.record.files >= 0:
            write_record(self._fd, self.record)

    def drop_dead(self) -> bool:
        """Drop the reservations of dead processes, without writing that. Return whether there were any."""
        dead = [owner for owner in self.record.reserved if not self._counts.is_alive(owner)]
        for owner in dead:
            del self.record.reserved[owner]
        return bool(dead)

    def close(self) -> None:
        """Release the lock."""
        self._counts.release(self._fd)


class Counts:
    """The counts files of one base folder.

    Attributes:
        base: Path of the base folder.
        owned: What this process has reserved, as bytes and files, by the digest of the area; under "" in the store.
        lost: Arguments of ``give_back()`` for reservations that were collected as garbage, which must take no lock.
    """

    def __init__(self, base: str, owners: Owners) -> None:
        self.base: str = base
        self._areas = os.path.join(base, "areas")
        self._store = os.path.join(base, "owners", walk.COUNTS)
        self._owners = owners
        self._open: set[int] = set()
        self._keeps_store: bool | None = None
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Close what the parent has locked, and forget what it has reserved."""
        for fd in self._open:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._open = set()
        self._mutex = threading.Lock()
        self.owned: dict[str, tuple[int, int]] = {}
        self.lost: deque[tuple[str, int, int, bool]] = deque()

    def lock_area(self, digest: str) -> LockedRecord:
        """Lock the record of an area. Its files are counted if the record is missing or uncertain.

        Raises:
            AreaGone: There is no such area.
            StorageFull: There is no room left for the record.
            UnsafeCounts: There is something else in its place.
        """
        area = f"{self._areas}/{digest[:2]}/{digest}"
        path = f"{area}/{walk.COUNTS}"
        while True:
            try:
                fd = self._lock(path)
            except (FileNotFoundError, NotADirectoryError):
                fd = self._lock_new(path, area)
            try:
                record, certain = self._read_locked(fd, path)
                if record is not None and certain:
                    return LockedRecord(self, fd, digest, record)
                if same_file(fd, path):  # otherwise the area was removed before it was locked
                    self._require_folders(area)
                    return self._renew(fd, digest, record, walk.usage(area))
            except BaseException:
                self.release(fd)
                raise
            self.release(fd)

    def has_store(self) -> bool:
        """Return whether the store keeps a record."""
        return os.access(self._store, os.F_OK)

    def keeps_store(self) -> bool:
        """Return whether the store kept a record at the last look. ``doubt_new_store()`` after a change looks again."""
        if self._keeps_store is None:
            self._keeps_store = self.has_store()
        return self._keeps_store

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
        if not is_real_dir(folder := os.path.dirname(self._store)):
            make_dir(folder)
        while True:
            fd = self._lock(self._store, create=True)
            try:
                record, certain = self._read_locked(fd, self._store)
                if record is not None and certain:
                    return LockedRecord(self, fd, "", record)
                if same_file(fd, self._store):
                    return self._renew(fd, "", record, self._sum())
            except BaseException:
                self.release(fd)
                raise
            self.release(fd)

    def doubt_new_store(self) -> None:
        """Mark the store's record as uncertain, if there is one now: it was created while files of an area changed."""
        if self.has_store():
            self._keeps_store = True
            with contextlib.suppress(OSError):
                fd = self._lock(self._store)
                try:
                    mark_uncertain(fd)
                finally:
                    self.release(fd)

    def usage(self, digest: str) -> Usage:
        """Return the bytes and files of an area. The files are counted only if their record is missing or uncertain."""
        area = f"{self._areas}/{digest[:2]}/{digest}"
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

    def file_size(self, digest: str, name: str) -> int | None:
        """Return the bytes of a finished file; None if there is no such file."""
        status = walk.regular(f"{self._areas}/{digest[:2]}/{digest}/{hash_name(name)}")
        return status.st_size if status is not None else None

    def remove(self, digest: str, rename: Callable[[], object]) -> None:
        """Call ``rename``, which takes an area away, with the locks held, and subtract the area from the store.

        Raises:
            FileNotFoundError: There is no such area.
        """
        area = f"{self._areas}/{digest[:2]}/{digest}"
        fd = self._lock_for_removal(area)
        try:
            store = self.lock_store(create=False)
            try:
                usage = self._look(area) if store is not None else None
                if fd >= 0:
                    # A process that waits for the lock then looks whether the area is still there.
                    try:  # noqa: SIM105 - of the few microseconds that a removal takes, suppress() takes two
                        mark_uncertain(fd)
                    except OSError:
                        pass
                    if not _RENAMES_BUSY_FOLDERS:
                        self.release(fd)
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
                self.release(fd)

    def _lock_for_removal(self, area: str) -> int:
        """Lock the record of an area as it is now. Return its descriptor; -1 if the area cannot have one.

        An area that is created only now must not be renamed without its lock: a process that has the lock would go by
        the record of an area that is gone.
        """
        path = f"{area}/{walk.COUNTS}"
        while True:
            try:
                fd = self._lock(path)
            except OSError:
                try:
                    fd = self._lock_new(path, area)
                except AreaGone:
                    if stat.S_ISDIR(os.lstat(area).st_mode):  # raises FileNotFoundError if there is nothing
                        raise FileNotFoundError(errno.ENOENT, "no such area") from None
                    return -1  # something else is in its place
                except OSError:  # on a full disk, a record that is missing cannot be created
                    return -1
            # A process that has removed the area while this one waited has left the record uncertain.
            try:
                is_current = is_certain(fd) or same_file(fd, path)
            except OSError:  # something else is in its place, or the disk fails: the area must go
                is_current = True
            except BaseException:
                self.release(fd)
                raise
            if is_current:
                return fd
            self.release(fd)

    def own(self, name: str, bytes: int, files: int) -> None:
        """Add to what this process has reserved in a record."""
        with self._mutex:
            had_bytes, had_files = self.owned.pop(name, (0, 0))
            if had_bytes + bytes or had_files + files:
                self.owned[name] = (had_bytes + bytes, had_files + files)

    def give_back(self, digest: str, bytes: int, files: int, *, store: bool) -> None:
        """Give back what this process has reserved in an area that may be gone, and in the store if it counts there."""
        names = (digest, "") if store else (digest,)
        for name in names:
            self.own(name, -bytes, -files)
        for name in names:
            with contextlib.suppress(AreaGone, OSError):  # the next lock of the record states what is reserved
                locked = self.lock_area(name) if name else self.lock_store(create=False)
                if locked is not None:
                    try:
                        locked.write()
                    finally:
                        locked.close()

    def give_back_lost(self) -> None:
        """Give back what lost reservations hold. The thread holds no lock."""
        while self.lost:
            with contextlib.suppress(IndexError):  # another thread was faster
                digest, bytes, files, store = self.lost.popleft()
                self.give_back(digest, bytes, files, store=store)

    def state_own(self, name: str, record: Record) -> None:
        """Put what this process has reserved into a record. A record that was lost gets it back so."""
        owned = self.owned.get(name)
        if owned is not None:
            record.reserved[self._owners.own_id()] = owned
        elif record.reserved and (owner := self._owners.held_id()) is not None:
            record.reserved.pop(owner, None)

    def is_alive(self, owner: str) -> bool:
        """Return whether the process of a reservation is alive."""
        return self._owners.is_alive(owner)

    def release(self, fd: int) -> None:
        """Unlock and close the file of a record."""
        self._open.discard(fd)
        try:
            unlock_fd(fd)
        finally:
            os.close(fd)

    def _lock_new(self, path: str, area: str) -> int:
        """Create and lock the file of an area that has none."""
        self._require_folders(area)
        try:
            return self._lock(path, create=True)
        except (FileNotFoundError, NotADirectoryError):
            raise AreaGone from None

    def _require_folders(self, area: str) -> None:
        """Check that an area is there and that no link leads to it, before anything new is written into it."""
        if not all(map(is_real_dir, (self._areas, os.path.dirname(area), area))):
            raise AreaGone

    def _lock(self, path: str, *, create: bool = False) -> int:
        try:
            fd = open_lock(path) if create else os.open(path, LOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            raise_if_full(error)
            self._require_file(path)
            raise
        self._open.add(fd)
        try:
            lock_fd(fd)
        except BaseException:
            self.release(fd)
            raise
        return fd

    def _read_locked(self, fd: int, path: str) -> tuple[Record | None, bool]:
        try:
            return read_record(fd)
        except OSError:  # a pipe can be opened and locked
            self._require_file(path)
            raise

    def _require_file(self, path: str) -> None:
        """Raise ``UnsafeCounts`` if there is anything but a file in place of a record."""
        found = other_kind(path)
        if found is not None:
            raise UnsafeCounts(path, found, self.base)

    def _renew(self, fd: int, name: str, record: Record | None, usage: Usage) -> LockedRecord:
        """Write a record with other counts, and with what it says about reservations."""
        locked = LockedRecord(self, fd, name, Record(usage.bytes, usage.files, record.reserved if record else None))
        with contextlib.suppress(OSError):  # on a full disk, the next look counts again
            locked.write()
        return locked

    def _sum(self) -> Usage:
        size = files = 0
        for digest in walk.digests(self._areas):
            usage = self._look(f"{self._areas}/{digest[:2]}/{digest}")
            size += usage.bytes
            files += usage.files
        return Usage(size, files)

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
