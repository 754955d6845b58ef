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

        By default None, for a backend whose ``shared`` is False.
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

    def keeps_copies(self, backend: Backend) -> bool:
        """Return whether a test of encoded copies applies. If not, check that the backend keeps the very objects."""
        if not backend.live:
            return True
        session = self.begin(backend)
        backend.put(session, 1.0)
        found = (backend.peek("sid-a"), backend.read("sid-a"), backend.load("sid-a", at(1.0)))
        assert all(each is session for each in found), "a live backend must return the very object"
        assert session.active == 1.0, "a put must renew"
        return False

    def peer_of(self, backend: Backend) -> Backend | None:
        """Return what ``make_peer`` returns. If that is None, check that the backend serves its own process alone."""
        peer = self.make_peer(backend)
        assert backend.shared is (peer is not None), "make_peer must return a backend if, and only if, it is shared"
        if peer is None:
            self.begin(backend)
            backend.hold("uid-1")
            assert backend.expire([Life("sid-a", "uid-1")], at(100.0)) == [Life("sid-a", "uid-1")]
        return peer

    def end_all(self, backend: Backend, most: int) -> list[Life]:
        """Expire what is due and settle what has ended. Return the lives that ``backend`` was given to settle."""
        for due in backend.due(at(100.0)):
            backend.expire(due, at(100.0))
        ended: list[Life] = []
        while batch := backend.ended():
            ended += batch
            backend.settle(batch)
            assert len(ended) <= most, "a life that was settled must not be returned again"
        return ended

    def is_refused(self, backend: Backend, sid: str, limit: int) -> bool:
        """Return whether ``limit`` keeps a record from being created, and check that a refusal leaves nothing."""
        refusal = None
        try:
            self.begin(backend, sid, f"uid-{sid}", limit=limit)
        except TooManySessions as error:
            refusal = error
        assert refusal is None or (refusal.limit == limit and backend.peek(sid) is None)
        return refusal is not None
