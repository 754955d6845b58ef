"""Counts files in memory, for backends that keep no counts: the limits then hold within one process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType

from .backend import FileBackend, Usage
from .errors import FileStoreError, SessionQuotaExceeded, StoreQuotaExceeded
from .fork import reset_after_fork
from .ledger import Limits, Reservation
from .locks import KeyLocks

# Areas whose counts are kept. Beyond that, the oldest is dropped and counted again at its next save.
_MAX_AREAS = 50_000

# Least time between two counts of the whole store before a refusal, in seconds.
_RECOUNT_SECONDS = 5.0

_NOTHING = (0, 0)


class MemoryLedger:
    """A ``Ledger`` of one process.

    The backend is asked once for each area, once for the whole store if that is limited, and again before a save is
    refused, because another process may have deleted files. Files change under the lock of their key, so an area is
    counted under that lock, and the store under all locks.

    Args:
        backend: The backend that keeps the files.
        limits: The limits. Space to leave free is not checked.
        clock: Returns the time in seconds.
    """

    def __init__(self, backend: FileBackend, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._limits = limits
        self._clock = clock
        self._locks = KeyLocks()
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Start counting again: the parent's saves do not run in the child."""
        self._mutex = threading.Lock()
        self._usages: dict[str, Usage] = {}
        self._reserved: dict[str, tuple[int, int]] = {}
        self._reserved_bytes = 0
        self._lost: deque[tuple[str, int, int]] = deque()
        self._total: int | None = None
        self._counted_at = float("-inf")

    def reserve(
        self,
        key: str,
        *,
        size: int | None = None,
        replacing: str | None = None,
        is_written: bool = True,  # noqa: ARG002
    ) -> MemoryReservation:
        """Begin to save one file, see ``Ledger.reserve()``."""
        old = self._backend.size(key, replacing) if replacing is not None else None
        reservation = MemoryReservation(self, key, old or 0)
        reservation.reserve(size or 0, int(old is None))
        return reservation

    def change(self, key: str) -> MemoryChange:
        """Hold the lock of an area while its files change, see ``Ledger.change()``."""
        return MemoryChange(self, key)

    @contextlib.contextmanager
    def removal(self, key: str) -> Iterator[None]:
        """Hold the lock of an area while the area is removed."""
        with self._locks.of(key):
            usage = self._usages.get(key) or (self._backend.usage(key) if self._total is not None else Usage(0, 0))
            yield
            with self._mutex:
                self._usages.pop(key, None)
                if self._total is not None:
                    self._total -= usage.bytes

    def forget(self) -> None:
        """Count again after any number of areas was removed."""
        with self._locks.all(), self._mutex:
            self._usages.clear()
            if self._total is not None:
                self._total = self._backend.total().bytes

    def usage(self, key: str) -> Usage:
        """Return the bytes and files of an area, as its backend counts them."""
        return self._backend.usage(key)

    def total(self) -> Usage:
        """Return the bytes and files of all areas, as the backend counts them."""
        return self._backend.total()

    def take(self, key: str, bytes: int, files: int) -> None:
        """Reserve room in an area. The backend is asked again before a refusal."""
        refusal = self._try(key, bytes, files)
        if refusal is not None:
            with self._locks.of(key):
                self._usages.pop(key, None)
            if isinstance(refusal, StoreQuotaExceeded):
                self._count_total()
            refusal = self._try(key, bytes, files)
        if refusal is not None:
            raise refusal

    def own(self, key: str, bytes: int, files: int) -> None:
        """Add to what is reserved in an area."""
        with self._mutex:
            self._own(key, bytes, files)

    def enter(self, key: str) -> None:
        """Take the lock of an area whose counts are known."""
        self._give_back_lost()
        if self._limits.store_bytes is not None and self._total is None:
            self._count_total()
        self._locks.of(key).acquire()
        try:
            self._load(key)
        except BaseException:
            self._locks.of(key).release()
            raise

    def begin(self, key: str, bytes: int, files: int, room: tuple[int, int]) -> None:
        """Reserve the growth of a locked area in place of the ``room`` that was reserved for it."""
        usage = self._load(key)
        with self._mutex:
            self._own(key, -room[0], -room[1])
            refusal = self._refusal(key, usage, bytes, files)
            if refusal is not None:
                raise refusal
            self._own(key, max(0, bytes), max(0, files))

    def end(self, key: str, bytes: int, files: int, *, is_done: bool) -> None:
        """Count a change that has begun, or drop it."""
        with self._mutex:
            self._own(key, -max(0, bytes), -max(0, files))
            if is_done:
                if (usage := self._usages.get(key)) is not None:
                    self._usages[key] = Usage(usage.bytes + bytes, usage.files + files)
                if self._total is not None:
                    self._total += bytes

    def exit(self, key: str) -> None:
        """Release the lock of an area."""
        self._locks.of(key).release()

    def lose(self, key: str, bytes: int, files: int) -> None:
        """Give back later what a reservation holds that was collected as garbage. Takes no lock."""
        self._lost.append((key, bytes, files))

    def _give_back_lost(self) -> None:
        while self._lost:
            with contextlib.suppress(IndexError):  # another thread was faster
                key, bytes, files = self._lost.popleft()
                self.own(key, -bytes, -files)

    def _try(self, key: str, bytes: int, files: int) -> FileStoreError | None:
        self._give_back_lost()
        if self._limits.store_bytes is not None and self._total is None:
            self._count_total()
        with self._locks.of(key):
            usage = self._load(key)
            with self._mutex:
                refusal = self._refusal(key, usage, bytes, files)
                if refusal is None:
                    self._own(key, bytes, files)
        return refusal

    def _load(self, key: str) -> Usage:
        usage = self._usages.get(key)
        if usage is None:
            usage = self._backend.usage(key)
            with self._mutex:
                if len(self._usages) >= _MAX_AREAS:
                    del self._usages[next(iter(self._usages))]
                self._usages[key] = usage
        return usage

    def _count_total(self) -> None:
        """Count the whole store, unless that was done less than ``_RECOUNT_SECONDS`` ago."""
        with self._locks.all():
            now = self._clock()
            if self._total is None or now - self._counted_at > _RECOUNT_SECONDS:
                self._total, self._counted_at = self._backend.total().bytes, now

    def _refusal(self, key: str, usage: Usage, bytes: int, files: int) -> FileStoreError | None:
        limits = self._limits
        reserved_bytes, reserved_files = self._reserved.get(key, _NOTHING)
        if files > 0 and limits.files is not None and usage.files + reserved_files + files > limits.files:
            return SessionQuotaExceeded(max_files=limits.files)
        if bytes <= 0:
            return None
        if limits.session_bytes is not None and usage.bytes + reserved_bytes + bytes > limits.session_bytes:
            return SessionQuotaExceeded(max_bytes=limits.session_bytes)
        if limits.store_bytes is not None and (self._total or 0) + self._reserved_bytes + bytes > limits.store_bytes:
            return StoreQuotaExceeded(limits.store_bytes)
        return None

    def _own(self, key: str, bytes: int, files: int) -> None:
        before = self._reserved.pop(key, _NOTHING)
        after = (before[0] + bytes, before[1] + files)
        if after != _NOTHING:
            self._reserved[key] = after
        self._reserved_bytes += bytes


class MemoryReservation:
    """A ``Reservation`` in memory.

    Args:
        ledger: The ledger.
        key: The key of the area.
        replaces: Bytes of the file that is being replaced.
    """

    def __init__(self, ledger: MemoryLedger, key: str, replaces: int) -> None:
        self._ledger = ledger
        self._mutex = ledger._mutex
        self._key = key
        self._replaces = replaces
        self._taken = 0
        self._room = _NOTHING

    def take(self, count: int, /) -> None:
        """Count bytes of the file before they are written, see ``Reservation.take()``."""
        self._taken += count
        self.reserve(self._taken, 0)

    def reserve(self, size: int, files: int) -> None:
        """Reserve room for a file of ``size`` bytes, as far as it is not reserved yet."""
        room, kept = self._room
        need = max(0, size - self._replaces - room)
        if need or files:
            self._ledger.take(self._key, need, files)
            self._room = (room + need, kept + files)

    def trim(self) -> None:
        """Do nothing: no more room is reserved than was taken."""

    def release(self) -> None:
        """Give the room back."""
        room = self.spend()
        if room != _NOTHING:
            self._ledger.own(self._key, -room[0], -room[1])

    def __del__(self) -> None:
        # A caller has lost it without ``release()``. A thread that holds a lock may collect it.
        room = self.spend()
        if room != _NOTHING:
            self._ledger.lose(self._key, *room)

    def spend(self) -> tuple[int, int]:
        """Return what is reserved, which the caller gives back. In a forked child there is none: it is its parent's."""
        room, self._room = self._room, _NOTHING
        return room if self._mutex is self._ledger._mutex else _NOTHING


class MemoryChange:
    """A ``Change`` of the files of one area, as a context manager."""

    def __init__(self, ledger: MemoryLedger, key: str) -> None:
        self._ledger = ledger
        self._key = key
        self._growth = _NOTHING

    def __enter__(self) -> MemoryChange:
        self._ledger.enter(self._key)
        return self

    def add(self, *, bytes: int, files: int, reservation: Reservation | None = None) -> None:
        """Check and announce the change, see ``Change.add()``."""
        room = reservation.spend() if isinstance(reservation, MemoryReservation) else _NOTHING
        self._ledger.begin(self._key, bytes, files, room)
        self._growth = (bytes, files)

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """Count the change, unless a ``FileStoreError`` has prevented it."""
        self._ledger.end(self._key, *self._growth, is_done=error is None)
        self._ledger.exit(self._key)
        if error is not None and not isinstance(error, FileStoreError):
            self._ledger.forget()
