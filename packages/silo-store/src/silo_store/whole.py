"""``WholeRecords``, a part of a ``Backend`` for backends that keep each record in one piece."""

from __future__ import annotations

from abc import abstractmethod

from .backend import Life, Moment
from .errors import SessionExpired
from .record import Blob, Record


class WholeRecords:
    """The methods of a ``Backend`` that read a part of a record, for backends that keep each record in one piece."""

    @abstractmethod
    def load(self, sid: str, at: Moment) -> Record | None:
        """Return the record, renewed unless it is due; None if the id has no record."""

    @abstractmethod
    def peek(self, sid: str) -> Record | None:
        """Return the record as it is, due or not, and renew nothing; None if the id has no record."""

    def load_head(self, sid: str, at: Moment) -> Record | None:
        """Return what ``load`` returns."""
        return self.load(sid, at)

    def peek_head(self, sid: str) -> Record | None:
        """Return what ``peek`` returns."""
        return self.peek(sid)

    def read(self, sid: str) -> Record | None:
        """Return what ``peek`` returns."""
        return self.peek(sid)

    def fetch(self, life: Life, name: str) -> Blob | None:
        """Return a namespace as it is now; None if it is not stored.

        Raises:
            SessionExpired: This life of the session has ended.
        """
        record = self.peek(life.sid)
        if record is None or record.uid != life.uid:
            raise SessionExpired(life.sid)
        return record.get(name)
