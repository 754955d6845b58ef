"""What a backend keeps of a session, and what a caller sees of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import NamespaceError

RESERVED = "_task:"
"""What has a name that begins so is no namespace: the session does not show it, but it lives and dies with it."""

META = "_meta"
"""A key that sessions of release 0.1 had beside their namespaces; no namespace can have this name."""


class Blob(NamedTuple):
    """One namespace as a backend that encodes keeps it."""

    version: int
    """Starts at 1 and grows by 1 with every write."""
    data: bytes


class Change(NamedTuple):
    """One namespace to be written."""

    version: int
    """The version that the writer read; 0 where it found none."""
    data: bytes


class Record(dict[str, Any]):
    """One life of a session: namespace name to stored value.

    A subclass of dict, not a holder of one, because an idle session should cost little more than its state.
    """

    __slots__ = ("active", "bucket", "created", "sid", "uid")

    def __init__(self, sid: str, uid: str, created: float, active: float) -> None:
        self.sid = sid
        self.uid = uid
        self.created = created
        self.active = active
        self.bucket = 0

    def twin(self) -> Record:
        """Copy the record, not its values."""
        copy = Record(self.sid, self.uid, self.created, self.active)
        copy.update(self)
        return copy


class Session(Record):
    """A session as callers see it: namespace name to its state.

    Attributes:
        sid: the id that the client presents.
        uid: this life of it. A reset, destroyed or expired session comes back under another ``uid``.
        created: when this life began, in seconds since the epoch.
        active: when it was last used, in seconds since the epoch.

    ``session["_meta"]`` gives ``created_at``, ``last_active`` and ``sid`` as a dict, as release 0.1 did. It is made
    when asked for: ``in`` and `get` find it, iteration does not yield it.
    """

    __slots__ = ("origin",)

    def __init__(self, sid: str, uid: str, created: float, active: float, origin: Record | None = None) -> None:
        super().__init__(sid, uid, created, active)
        self.origin = origin

    def read_as(self, blobs: Mapping[str, Blob]) -> None:
        """Remember what the backend holds of namespaces now."""
        if self.origin is not None:
            self.origin.update(blobs)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key == META

    def get(self, key: str, default: Any = None) -> Any:
        """Return what ``session[key]`` finds, or the default."""
        return self[key] if key in self else default  # noqa: SIM401 - `get` is this very method

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return what ``session[key]`` finds. Where it finds nothing, the default becomes the namespace's state."""
        return self[key] if key in self else super().setdefault(key, default)

    def __missing__(self, key: str) -> Any:
        if key == META:
            return {"created_at": self.created, "last_active": self.active, "sid": self.sid}
        raise NamespaceError(key)
