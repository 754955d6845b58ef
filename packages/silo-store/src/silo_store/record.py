"""``Record``, which a backend keeps of each session, and its parts."""

from __future__ import annotations

from typing import Any, NamedTuple

ATTACHED = "_attached:"
"""Prefix of the names under which a record keeps the data that callers attach to a session.

Such a name is not a namespace: the session does not show it, but its data lives and dies with the session.
"""


class Blob(NamedTuple):
    """One namespace, encoded, as a backend keeps it."""

    version: int
    """Starts at 1 or 2 and grows by 1 with every write."""
    data: bytes


class Change(NamedTuple):
    """One namespace to be written."""

    version: int
    """The version that the writer read; 0 if there was none."""
    data: bytes


class Record(dict[str, Any]):
    """One life of a session: the stored value of each namespace, by name.

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
        self.sid = sid
        self.uid = uid
        self.created = created
        self.active = active
        self.bucket = 0


def copy_of(record: Record) -> Record:
    """Return a copy of a record, with the same values."""
    copy = Record(record.sid, record.uid, record.created, record.active)
    copy.update(record)
    return copy
