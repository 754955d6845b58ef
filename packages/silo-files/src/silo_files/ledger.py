"""``Ledger``, the interface below ``FileStore`` to the counts of files and to their limits."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, runtime_checkable

from .backend import Usage


class Limits(NamedTuple):
    """The limits of sessions and of the store. None means no limit.

    Attributes:
        session_bytes: Bytes of each session's files.
        store_bytes: Bytes of all files.
        files: Number of each session's files.
        free_bytes: Bytes to leave free on the file system.
    """

    session_bytes: int | None = None
    store_bytes: int | None = None
    files: int | None = None
    free_bytes: int | None = None


class Reservation(Protocol):
    """Room for one file that is being saved. Used by one thread at a time."""

    def take(self, count: int, /) -> None:
        """Count ``count`` more bytes of the file, before they are written, and reserve room for them if needed.

        Raises:
            SessionQuotaExceeded: The session has no room for them.
            StoreQuotaExceeded: The store has no room for them.
            StorageFull: Too little space would be left on the file system.
            AreaGone: The area was removed.
        """

    def trim(self) -> None:
        """Give back the room beyond the bytes that were taken: the file is complete, and waits for its change."""

    def release(self) -> None:
        """Give the reserved room back. Does nothing after a change that used the reservation, and when repeated."""


class Change(Protocol):
    """A change to the files of one area, under the lock of the area."""

    def add(self, *, bytes: int, files: int, reservation: Reservation | None = None) -> None:
        """Check that a change fits into the limits, and announce it. Called at most once, before the files change.

        Args:
            bytes: By how many bytes the files grow. A negative number fits always.
            files: By how many the number of files grows.
            reservation: Room that was reserved for this change. The change uses it up.

        Raises:
            SessionQuotaExceeded: The session would exceed a limit.
            StoreQuotaExceeded: The store would exceed its limit.
            StorageFull: The counts cannot be written.
        """


@runtime_checkable
class Ledger(Protocol):
    """Counts the files of each area and of the store, and keeps them within their limits.

    Keys have passed ``check_key``. All methods may be called from several threads at once, and no method calls code of
    the application.
    """

    def reserve(
        self, key: str, *, size: int | None = None, replacing: str | None = None, is_written: bool = True
    ) -> Reservation:
        """Begin to save one file, in an area that exists. Each running save reserves room by itself.

        Args:
            key: The key of the area.
            size: The size of the file in bytes, if it is known. Its room is then reserved now, unless the file is so
                small that its change can check the limits in time.
            replacing: The name of a file that it replaces, if there is one. Only the growth is reserved.
            is_written: Whether its bytes need space on the file system. Those of a file that is moved there do not.

        Raises:
            SessionQuotaExceeded: The session has no room for the file.
            StoreQuotaExceeded: The store has no room for the file.
            StorageFull: Too little space would be left on the file system.
            AreaGone: The area was removed.
        """

    def change(self, key: str) -> AbstractContextManager[Change]:
        """Hold the lock of an area while its files change.

        Other changes of the area wait, in all processes that share the counts.

        After a clean exit the counts include what ``add()`` announced. After a ``FileStoreError`` they are as before.
        After any other error the files are counted again at the next look.

        Raises:
            AreaGone: There is no such area. A ledger that does not know may leave that to the backend.
        """

    def removal(self, key: str) -> AbstractContextManager[None]:
        """Hold the lock of an area while the area is removed. Afterwards the store's counts no longer include it."""

    def forget(self) -> None:
        """Note that ``remove_all()`` or ``sweep()`` of the backend has removed any number of areas."""

    def usage(self, key: str) -> Usage:
        """Return the bytes and files of an area. An unknown key is an empty area."""

    def total(self) -> Usage:
        """Return the bytes and files of all areas."""
