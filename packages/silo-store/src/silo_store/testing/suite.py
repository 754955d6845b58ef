"""The base of the suites for backends: how they get a backend and begin records in it."""
# ruff: noqa: ARG002  (defaults that a subclass replaces)

from __future__ import annotations

from ..backend import Backend, Life
from ..errors import TooManySessions
from ..record import Blob, Record
from ..session import Session
from .clock import at


def all_due(backend: Backend, now: float) -> list[Life]:
    """Return the lives that are due at ``now`` with a time-to-live of ``TTL``."""
    return [life for batch in backend.due(at(now)) for life in batch]


class BackendSuite:
    """The methods that a subclass implements for its backend, and helpers for the tests."""

    def make_backend(self) -> Backend:
        """Return a new, empty backend. Each test calls it once."""
        raise NotImplementedError

    def make_peer(self, backend: Backend) -> Backend | None:
        """Return a second backend at the same place, as another process would open it.

        By default None, for backends of one process.
        """
        return None

    def lose_claims(self, backend: Backend) -> bool:
        """Take the claims of ``backend`` away, as from a process that hangs. Return False if that is impossible."""
        return False

    def begin(
        self, backend: Backend, sid: str = "sid-a", uid: str = "uid-1", now: float = 0.0, limit: int | None = None
    ) -> Record:
        """Create a record with one namespace, ``ns``."""
        kind = Session if backend.live else Record
        record = kind(sid, uid, now, now)
        record["ns"] = {"value": 1} if backend.live else Blob(1, b"one")
        return backend.create(record, at(now), limit=limit)

    def is_refused(self, backend: Backend, sid: str, limit: int) -> bool:
        """Return whether ``limit`` keeps a record from being created, and check that a refusal leaves nothing."""
        refusal = None
        try:
            self.begin(backend, sid, f"uid-{sid}", limit=limit)
        except TooManySessions as error:
            refusal = error
        assert refusal is None or (refusal.limit == limit and backend.peek(sid) is None)
        return refusal is not None
