"""``WholeRecords``, a part of a ``Backend`` for backends that keep each record in one piece."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from .backend import Life, Moment
from .errors import SessionExpired
from .record import Blob, Record


class WholeRecords:
    """Methods of a ``Backend`` that a backend inherits if it keeps each record in one piece.

    They read a whole record where a part is asked for, and ask for many lives one by one.
    """

    @abstractmethod
    def load(self, sid: str, at: Moment) -> Record | None:
        """Return the record, renewed unless it is due; None if the id has no record."""

    @abstractmethod
    def peek(self, sid: str) -> Record | None:
        """Return the record as it is, due or not, and renew nothing; None if the id has no record."""

    @abstractmethod
    def find(self, uid: str) -> str | None:
        """Return the id that a life has now; None if the life has ended."""

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

    def living(self, uids: Sequence[str]) -> set[str]:
        """Return those of ``uids`` for which ``find`` returns an id. Asks for them one by one."""
        return {uid for uid in uids if self.find(uid) is not None}
