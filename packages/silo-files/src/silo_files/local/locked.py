"""The records of one area and of the store, locked together."""

from __future__ import annotations

from .counts import Counts
from .record import Record


class LockedCounts:
    """The locked records of one area and of the store, as a context manager.

    Args:
        counts: The counts files.
        digest: The digest of the area.
        store: Whether what is reserved counts in the store too. Its record is created then if it is missing.

    Attributes:
        area: The counts of the area.
        store: The counts of the store; None if it keeps none.

    Raises:
        AreaGone: There is no such area.
        StorageFull: There is no room left for a record.
    """

    __slots__ = ("_locked", "_owns_in_store", "area", "store")

    def __init__(self, counts: Counts, digest: str, *, store: bool) -> None:
        self._owns_in_store = store
        has_store = store or counts.keeps_store
        self._locked = [counts.lock_area(digest)]
        self.area: Record = self._locked[0].record
        self.store: Record | None = None
        if has_store:
            try:
                locked = counts.lock_store(create=store)
            except BaseException:
                self.close()
                raise
            if locked is not None:
                self._locked.append(locked)
                self.store = locked.record

    def __enter__(self) -> LockedCounts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def own(self, bytes: int, files: int) -> None:
        """Add to what this process has reserved. Writes nothing."""
        for each in self._locked if self._owns_in_store else self._locked[:1]:
            each.own(bytes, files)

    def add(self, bytes: int, files: int) -> None:
        """Add to the finished files. Writes nothing."""
        for each in self._locked:
            each.record.bytes += bytes
            each.record.files += files

    def doubt(self) -> None:
        """Mark the records as uncertain: files are about to change."""
        for each in self._locked:
            each.doubt()

    def write(self) -> None:
        """Write the records, which are certain then."""
        for each in self._locked:
            each.write()

    def drop_dead(self) -> bool:
        """Drop the reservations of dead processes, without writing that. Return whether there were any."""
        dropped = [each.drop_dead() for each in self._locked]
        return any(dropped)

    def close(self) -> None:
        """Release the locks."""
        try:
            self._locked[-1].close()
        finally:
            if len(self._locked) > 1:
                self._locked[0].close()
