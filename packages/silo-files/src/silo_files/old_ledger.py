"""Counts saved and pending bytes, so that the limits hold while several threads save at once.

Each name that is being saved has a ``_Pending``. It counts as the size of the existing file or the bytes reserved for
the name, whichever is larger. So a full session can replace a file by one of the same size, and the finished files stay
within the limits whichever of the running saves succeed.

Counts are kept in memory. The disk is read once for each session, once for the whole store, and again before a save is
refused, because another process may have deleted files. Files appear and disappear under the lock of their key. A count
of an area is taken under that lock, a count of the store under all locks, so memory and disk agree.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from .backend import FileBackend
from .errors import FileStoreError, SessionQuotaExceeded, StoreQuotaExceeded
from .fork import reset_after_fork
from .locks import KeyLocks

# Areas whose counts are kept in memory. Beyond that, the oldest is dropped and counted again at its next save.
_MAX_AREAS = 50_000

# Least time between two counts of the whole store before a refusal, in seconds.
_RECOUNT_SECONDS = 5.0


class Limits(NamedTuple):
    """The limits of sessions and of the store. None means no limit.

    Attributes:
        session_bytes: Bytes of each session's files.
        store_bytes: Bytes of all files.
        files: Number of each session's files.
    """

    session_bytes: int | None = None
    store_bytes: int | None = None
    files: int | None = None


class _Pending:
    """One name that is being saved, perhaps by several threads.

    Attributes:
        current: Bytes of the file that exists under the name; None if there is none.
        reserved: Bytes that the running saves have reserved.
        savers: Number of running saves.
    """

    __slots__ = ("current", "reserved", "savers")

    def __init__(self, current: int | None) -> None:
        self.current: int | None = current
        self.reserved: int = 0
        self.savers: int = 0

    def extra(self) -> int:
        """Return the bytes by which the name may still grow."""
        return max(0, self.reserved - (self.current or 0))


class _Area:
    """The counts of one area.

    Attributes:
        bytes: Bytes of its finished files.
        files: Number of its finished files.
        extra: Bytes by which the pending names may still grow.
        removed: Whether the area was removed while saves were running in it.
        pending: The names that are being saved.
    """

    __slots__ = ("bytes", "extra", "files", "pending", "removed")

    def __init__(self, bytes: int, files: int) -> None:
        self.bytes: int = bytes
        self.files: int = files
        self.extra: int = 0
        self.removed: bool = False
        self.pending: dict[str, _Pending] = {}

    def files_to_be(self) -> int:
        """Return the number of files once all running saves have succeeded."""
        return self.files + sum(pending.current is None for pending in self.pending.values())


class Reservation:
    """Room reserved for one file that is being saved."""

    __slots__ = ("_area", "_key", "_ledger", "_name", "_pending", "_taken")

    def __init__(self, ledger: Ledger, key: str, name: str, area: _Area, pending: _Pending) -> None:
        self._ledger = ledger
        self._key = key
        self._name = name
        self._area = area
        self._pending = pending
        self._taken = 0

    def release(self) -> None:
        """Give back the bytes that were reserved and not committed."""
        self._ledger._release(self._area, self._name, self._pending, self._taken)

    def reserve(self, count: int) -> None:
        """Reserve ``count`` more bytes.

        Raises:
            SessionQuotaExceeded: The session has no room for them.
            StoreQuotaExceeded: The store has no room for them.
        """
        self._ledger._reserve(self._key, self._area, self._pending, count)
        self._taken += count

    def commit(self) -> None:
        """Count the reserved bytes as saved: the file is in place. The caller holds the key's lock."""
        self._ledger._commit(self._area, self._pending, self._taken)
        self._taken = 0


class Ledger:
    """The counts of one store in this process."""

    def __init__(
        self, backend: FileBackend, locks: KeyLocks, limits: Limits, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backend = backend
        self._locks = locks
        self._limits = limits
        self._clock = clock
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Start counting again: the parent's saves do not run in the child."""
        self._mutex = threading.Lock()
        self._areas: dict[str, _Area] = {}
        self._extra = 0
        self._total: int | None = None
        self._counted_at = float("-inf")

    def begin(self, key: str, name: str) -> Reservation:
        """Begin to save a file. Return a reservation of 0 bytes.

        Raises:
            SessionQuotaExceeded: The session would have one file too many.
        """
        with self._locks.of(key):
            area = self._areas.get(key) or self._load(key)
            reservation = self._try_begin(key, name, area)
            if reservation is None:
                self._recount(key, area)
                reservation = self._try_begin(key, name, area)
        if reservation is None:
            raise SessionQuotaExceeded(max_files=self._limits.files)
        return reservation

    def remove_file(self, key: str, name: str, size: int) -> None:
        """Subtract a deleted file. The caller holds the key's lock."""
        with self._mutex:
            if (area := self._areas.get(key)) is not None:
                area.bytes -= size
                area.files -= 1
                if (pending := area.pending.get(name)) is not None:
                    self._set(area, pending, None, pending.reserved)
            self._add_to_total(-size)

    def size_of(self, key: str) -> int:
        """Return the ``size`` for ``remove_area``, before the area is removed. The caller holds the key's lock."""
        if (area := self._areas.get(key)) is not None:
            return area.bytes
        return 0 if self._total is None else self._backend.usage(key).bytes

    def remove_area(self, key: str, size: int) -> None:
        """Subtract a removed area. The caller has held the key's lock since it called ``size_of``."""
        with self._mutex:
            if (area := self._areas.pop(key, None)) is not None:
                # Saves that still run in this area can no longer commit. They still count in this object.
                area.removed = True
                area.bytes = area.files = 0
                for pending in area.pending.values():
                    self._set(area, pending, None, pending.reserved)
            self._add_to_total(-size)

    def remove_all(self) -> None:
        """Count again after any number of areas was removed with no lock held."""
        with self._locks.all():
            self._refresh()
            self._total = None

    def _load(self, key: str) -> _Area:
        usage = self._backend.usage(key)
        with self._mutex:
            if len(self._areas) >= _MAX_AREAS and not self._areas[oldest := next(iter(self._areas))].pending:
                del self._areas[oldest]
        return _Area(usage.bytes, usage.files)

    def _try_begin(self, key: str, name: str, area: _Area) -> Reservation | None:
        pending = area.pending.get(name)
        if pending is None:
            info = self._backend.stat(key, name)
            pending = _Pending(info.size if info else None)
        with self._mutex:
            self._areas[key] = area
            is_new = pending.current is None and name not in area.pending
            if is_new and self._limits.files is not None and area.files_to_be() >= self._limits.files:
                return None
            area.pending[name] = pending
            pending.savers += 1
        return Reservation(self, key, name, area, pending)

    def _reserve(self, key: str, area: _Area, pending: _Pending, count: int) -> None:
        refusal = self._try_reserve(area, pending, count)
        if refusal is None:
            return
        if isinstance(refusal, SessionQuotaExceeded):
            with self._locks.of(key):
                self._recount(key, area)
        else:
            self._count_all()
        refusal = self._try_reserve(area, pending, count)
        if refusal is not None:
            raise refusal

    def _try_reserve(self, area: _Area, pending: _Pending, count: int) -> FileStoreError | None:
        limits = self._limits
        while True:
            if self._total is None and limits.store_bytes is not None:
                self._count_all()
            with self._mutex:
                if self._total is None and limits.store_bytes is not None:
                    continue
                growth = max(0, pending.reserved + count - (pending.current or 0)) - pending.extra()
                in_session = area.bytes + area.extra + growth
                if growth and limits.session_bytes is not None and in_session > limits.session_bytes:
                    return SessionQuotaExceeded(max_bytes=limits.session_bytes)
                in_store = (self._total or 0) + self._extra + growth
                if growth and limits.store_bytes is not None and in_store > limits.store_bytes:
                    return StoreQuotaExceeded(limits.store_bytes)
                self._set(area, pending, pending.current, pending.reserved + count)
            return None

    def _commit(self, area: _Area, pending: _Pending, size: int) -> None:
        with self._mutex:
            growth = size - (pending.current or 0)
            area.bytes += growth
            area.files += pending.current is None
            self._set(area, pending, size, pending.reserved - size)
            self._add_to_total(growth)

    def _release(self, area: _Area, name: str, pending: _Pending, unused: int) -> None:
        with self._mutex:
            self._set(area, pending, pending.current, pending.reserved - unused)
            pending.savers -= 1
            if not pending.savers:
                area.pending.pop(name, None)

    def _set(self, area: _Area, pending: _Pending, current: int | None, reserved: int) -> None:
        before = pending.extra()
        pending.current, pending.reserved = current, reserved
        growth = pending.extra() - before
        area.extra += growth
        self._extra += growth

    def _add_to_total(self, growth: int) -> None:
        if self._total is not None:
            self._total += growth

    def _recount(self, key: str, area: _Area) -> None:
        """Count one area on disk again. The caller holds the key's lock, so no save of this process ends meanwhile."""
        if area.removed:
            return
        usage = self._backend.usage(key)
        sizes = {name: self._backend.stat(key, name) for name in list(area.pending)}
        with self._mutex:
            self._add_to_total(usage.bytes - area.bytes)
            area.bytes, area.files = usage.bytes, usage.files
            for name, info in sizes.items():
                if (pending := area.pending.get(name)) is not None:
                    self._set(area, pending, info.size if info else None, pending.reserved)

    def _refresh(self) -> None:
        """Count the areas with running saves again, and drop the others. The caller holds all locks."""
        for key, area in list(self._areas.items()):
            if area.pending:
                self._recount(key, area)
            else:
                del self._areas[key]

    def _count_all(self) -> None:
        """Count the whole store on disk, unless that was done less than ``_RECOUNT_SECONDS`` ago."""
        now = self._clock()
        with self._locks.all():
            if self._total is not None and now - self._counted_at <= _RECOUNT_SECONDS:
                return
            self._refresh()
            total = self._backend.total().bytes
            with self._mutex:
                self._total, self._counted_at = total, now
