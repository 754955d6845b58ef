"""``Record``, which a backend keeps of each session, and its parts."""

from __future__ import annotations

from typing import Any, NamedTuple


class Blob(NamedTuple):
    """One namespace, encoded, as a backend keeps it."""

    version: int
    """Starts at 1 or 2 and grows by 1 with every write."""
    data: bytes

    @property
    def size(self) -> int:
        """Bytes of the data."""
        return len(self.data)


class Apart(NamedTuple):
    """One namespace whose data the backend keeps apart from the record, because it is large. See ``Backend.fetch``."""

    version: int
    """See ``Blob``."""
    size: int
    """Bytes of the data."""


class Change(NamedTuple):
    """One namespace to be written."""

    version: int
    """The version that the writer read; 0 if there was none."""
    data: bytes


class Record(dict[str, Any]):
    """One life of a session: the stored value of each namespace, by name.

    A value is the object that callers change, if the backend keeps live objects; otherwise a ``Blob`` or an ``Apart``.

    A dict itself instead of an object with one, so that an idle session costs little more than its state.

    Attributes:
        sid: The session's id.
        uid: The name of this life.
        created: When the life began, in seconds since the epoch.
        active: When the session was last used, in seconds since the epoch.
        bucket: The bucket of the memory backend's index that holds the record.
    """

    __slots__ = ("active", "bucket", "created", "sid", "uid")

    def __init__(self, sid: str, uid: str, created: float, active: float) -> None:
        self.sid: str = sid
        self.uid: str = uid
        self.created: float = created
        self.active: float = active
        self.bucket: int = 0

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each namespace's data, if the backend keeps bytes."""
        return {name: value.size for name, value in self.items()}

    @property
    def is_whole(self) -> bool:
        """Whether the data of all namespaces is here, if the backend keeps bytes."""
        return not any(isinstance(value, Apart) for value in self.values())

    @property
    def may_have_attached(self) -> bool:
        """Whether anything may be attached to the session. False only if certainly nothing is."""
        return True


def copy_of(record: Record) -> Record:
    """Return a copy of a record, with the same values."""
    copy = Record(record.sid, record.uid, record.created, record.active)
    copy.update(record)
    return copy
