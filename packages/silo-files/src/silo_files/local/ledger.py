"""Keeps files on a local disk within their limits, among all processes that share the folder."""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType

from ..backend import Usage
from ..errors import FileStoreError, SessionQuotaExceeded, StorageFull, StoreQuotaExceeded
from ..ledger import Limits, Reservation
from ..names import hash_key, hash_name
from . import walk
from .counts import Counts
from .disk import free_bytes, raise_if_full
from .locked import LockedCounts

# The largest file of known size, in bytes, for which no room is reserved: its change checks the limits.
_SMALL = 256 * 1024

# The largest room that is reserved at a time for a file of unknown size, in bytes.
_LARGEST_SLAB = 16 * 1024 * 1024

_NOTHING = nullcontext()

# Beyond this number of reservations in a record, those of dead processes are dropped before anything is reserved.
_MANY = 32


class LocalLedger:
    """A ``Ledger`` of the counts of one base folder.

    Args:
        counts: The counts files.
        limits: The limits.

    Attributes:
        counts: As given.
        limits: As given.
        owns_in_store: Whether what is reserved counts in the store too.
    """

    def __init__(self, counts: Counts, limits: Limits) -> None:
        self.counts: Counts = counts
        self.limits: Limits = limits
        self.owns_in_store: bool = limits.store_bytes is not None
        self._is_unlimited = limits == Limits()
        self._reserves = limits._replace(free_bytes=None) != Limits()
        self._is_metered = limits.session_bytes is not None or limits.store_bytes is not None

    def reserve(
        self, key: str, *, size: int | None = None, replacing: str | None = None, is_written: bool = True
    ) -> Reservation:
        """Begin to save one file, see ``Ledger.reserve()``."""
        if is_written:
            self.check_free(size or 0)
        if self._is_unlimited or (size is not None and size <= _SMALL):
            return _UNRESERVED
        digest = hash_key(key)
        old = walk.regular(f"{self.counts.area(digest)}/{hash_name(replacing)}") if replacing is not None else None
        replaces = old.st_size if old is not None else 0
        reservation = LocalReservation(self, digest, replaces, is_metered=self._is_metered, is_written=is_written)
        try:
            reservation.reserve(size or 0, int(self.limits.files is not None and old is None))
        except BaseException:
            reservation.release()
            raise
        return reservation

    def change(self, key: str) -> LocalChange:
        """Hold the lock of an area while its files change, see ``Ledger.change()``."""
        return LocalChange(self, hash_key(key))

    def removal(self, key: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Do nothing: the backend counts each removal, also those of a sweep."""
        return _NOTHING

    def forget(self) -> None:
        """Do nothing: the backend counts each removal."""

    def usage(self, key: str) -> Usage:
        """Return the bytes and files of an area, by its record."""
        return self.counts.usage(hash_key(key))

    def total(self) -> Usage:
        """Return the bytes and files of all areas, by the record of the store or the sum of those of the areas."""
        return self.counts.total()

    def lock(self, digest: str) -> LockedCounts:
        """Lock the record of an area, and that of the store if it is kept."""
        if self.counts.reserved.lost:
            self.counts.give_back_lost()
        return LockedCounts(self.counts, digest, store=self.owns_in_store)

    def check(self, locked: LockedCounts, bytes: int, files: int) -> None:
        """Check that the files may grow. Reservations of dead processes are dropped before a refusal.

        Raises:
            SessionQuotaExceeded: The session would exceed a limit.
            StoreQuotaExceeded: The store would exceed its limit.
        """
        refusal = self._refusal(locked, bytes, files) if self._reserves else None
        if refusal is not None and locked.drop_dead():
            refusal = self._refusal(locked, bytes, files)
        if refusal is not None:
            raise refusal

    def slab(self, locked: LockedCounts, need: int) -> int:
        """Return how many bytes to reserve for a file that needs ``need`` more, and perhaps more later."""
        rooms = [_LARGEST_SLAB]
        if self.limits.session_bytes is not None:
            rooms.append((self.limits.session_bytes - locked.area.bytes_to_be()) // 8)
        if self.limits.store_bytes is not None and locked.store is not None:
            rooms.append((self.limits.store_bytes - locked.store.bytes_to_be()) // 8)
        return max(need, min(rooms))

    def check_free(self, count: int) -> None:
        """Check that ``count`` more bytes leave enough space free on the file system.

        Raises:
            StorageFull: They do not.
        """
        if self.limits.free_bytes is not None and free_bytes(self.counts.base) - count < self.limits.free_bytes:
            raise StorageFull(errno.ENOSPC)

    def _refusal(self, locked: LockedCounts, bytes: int, files: int) -> FileStoreError | None:
        limits = self.limits
        if files > 0 and limits.files is not None and locked.area.files_to_be() + files > limits.files:
            return SessionQuotaExceeded(max_files=limits.files)
        if bytes <= 0:
            return None
        if limits.session_bytes is not None and locked.area.bytes_to_be() + bytes > limits.session_bytes:
            return SessionQuotaExceeded(max_bytes=limits.session_bytes)
        if limits.store_bytes is None or locked.store is None:
            return None
        if locked.store.bytes_to_be() + bytes > limits.store_bytes:
            return StoreQuotaExceeded(limits.store_bytes)
        return None


class _Unreserved:
    """The ``Reservation`` of a file for which no room is reserved."""

    def take(self, count: int, /) -> None:
        """Do nothing."""

    def trim(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""


_UNRESERVED = _Unreserved()


class LocalReservation:
    """A ``Reservation`` in the records of an area and, if its bytes are limited, of the store.

    Args:
        ledger: The ledger.
        digest: The digest of the area.
        replaces: Bytes of the file that is being replaced.
        is_metered: Whether bytes are reserved.
        is_written: Whether the bytes need space on the file system.

    Attributes:
        bytes: Bytes that are reserved.
        files: Files that are reserved, 0 or 1.
        digest: As given.
    """

    __slots__ = ("_is_metered", "_is_written", "_ledger", "_owned", "_replaces", "_taken", "bytes", "digest", "files")

    def __init__(self, ledger: LocalLedger, digest: str, replaces: int, *, is_metered: bool, is_written: bool) -> None:
        self._ledger = ledger
        self._owned = ledger.counts.reserved.owned
        self._replaces = replaces
        self._is_metered = is_metered
        self._is_written = is_written
        self._taken = 0
        self.digest: str = digest
        self.bytes: int = 0
        self.files: int = 0

    def take(self, count: int, /) -> None:
        """Count bytes of the file before they are written, see ``Reservation.take()``."""
        if self._is_written:
            self._ledger.check_free(count)
        self._taken += count
        if self._is_metered:
            self.reserve(self._taken, 0, is_slab=True)

    def reserve(self, size: int, files: int, *, is_slab: bool = False) -> None:
        """Reserve room for a file of ``size`` bytes, as far as it is not reserved yet.

        Args:
            size: The size of the file so far in bytes.
            files: The number of files to reserve.
            is_slab: Whether to reserve more than needed, so that the next bytes need no lock.
        """
        need = max(0, size - self._replaces - self.bytes) if self._is_metered else 0
        if not need and not files:
            return
        ledger = self._ledger
        with ledger.lock(self.digest) as locked:
            if len(locked.area.reserved) > _MANY or (locked.store and len(locked.store.reserved) > _MANY):
                locked.drop_dead()
            ledger.check(locked, need, files)
            room = ledger.slab(locked, need) if is_slab else need
            locked.own(room, files)
            try:
                locked.write()
            except BaseException as error:
                locked.own(-room, -files)
                if isinstance(error, OSError):
                    raise_if_full(error)
                raise
            self.bytes += room
            self.files += files

    def trim(self) -> None:
        """Give back the rest of a slab, see ``Reservation.trim()``."""
        rest = self.bytes - max(0, self._taken - self._replaces)
        if rest > 0 and self._owned is self._ledger.counts.reserved.owned:
            self.bytes -= rest
            self._ledger.counts.give_back(self.digest, rest, 0, store=self._ledger.owns_in_store)

    def release(self) -> None:
        """Give the room back. In a forked child there is none: it is its parent's."""
        room, files = self.spend()
        if room or files:
            self._ledger.counts.give_back(self.digest, room, files, store=self._ledger.owns_in_store)

    def __del__(self) -> None:
        # A caller has lost it without ``release()``. A thread that holds a lock may collect it.
        if not self.bytes and not self.files:
            return
        room, files = self.spend()
        if room or files:
            self._ledger.counts.reserved.lost.append((self.digest, room, files, self._ledger.owns_in_store))

    def spend(self) -> tuple[int, int]:
        """Return the bytes and files that are reserved, which the caller gives back."""
        room, files = self.bytes, self.files
        self.bytes = self.files = 0
        return (room, files) if self._owned is self._ledger.counts.reserved.owned else (0, 0)


class LocalChange:
    """A ``Change`` of the files of one area, as a context manager."""

    __slots__ = ("_bytes", "_digest", "_files", "_is_added", "_ledger", "_locked")

    def __init__(self, ledger: LocalLedger, digest: str) -> None:
        self._ledger = ledger
        self._digest = digest
        self._is_added = False

    def __enter__(self) -> LocalChange:
        self._locked = self._ledger.lock(self._digest)
        return self

    def add(self, *, bytes: int, files: int, reservation: Reservation | None = None) -> None:
        """Check and announce the change, see ``Change.add()``."""
        locked = self._locked
        if isinstance(reservation, LocalReservation):
            room, kept = reservation.spend()
            if room or kept:
                locked.own(-room, -kept)
        self._bytes, self._files = bytes, files
        self._is_added = True
        self._ledger.check(locked, bytes, files)
        try:
            locked.doubt()
        except OSError as error:
            raise_if_full(error)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the new counts; after a ``FileStoreError`` the old ones. After any other error they stay uncertain."""
        locked = self._locked
        try:
            if not self._is_added:
                return
            if error is None:
                locked.add(self._bytes, self._files)
            if error is None or isinstance(error, FileStoreError):
                with suppress(OSError):  # then the files are counted again at the next look
                    locked.write()
            if locked.store is None:
                self._ledger.counts.doubt_new_store()
        finally:
            locked.close()
