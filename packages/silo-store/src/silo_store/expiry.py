"""Ends sessions that have expired, and runs their callbacks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from .backend import Backend, Claim, Life, Moment
from .errors import RecordDamaged, SessionExpired, StateDecodeError
from .fork import reset_after_fork
from .locks import WriteLocks
from .mapper import SessionMapper
from .record import Record
from .redact import short
from .registry import EndReason, Registry, logger, tell


class Expiry:
    """Ends sessions that are due, unless they are held, busy or being written, and runs the callbacks.

    Attributes:
        on_end: Called as ``callback(sid, uid, reason)`` when a life has ended.
    """

    def __init__(self, backend: Backend, sessions: SessionMapper, locks: WriteLocks, registry: Registry) -> None:
        self._backend = backend
        self._sessions = sessions
        self._locks = locks
        self._registry = registry
        self.on_end: list[Callable[[str, str, EndReason], object]] = []
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin with no ended lives: the parent runs their callbacks."""
        self._claimed: deque[Life] = deque()
        self._told: set[Life] = set()

    def is_over(self, record: Record, at: Moment, claim: Claim | None = None) -> bool:
        """Return whether a session has ended. A due one is ended now, or renewed if held, busy or being written."""
        if at.now - record.active <= at.ttl:
            return False
        life = Life(record.sid, record.uid)
        # ``Backend.expire`` returns the lives that live on.
        return not self._kept(life, at) and life not in self._backend.expire([life], at, claim)

    def end_due(self, lives: Iterable[Life], at: Moment) -> None:
        """End those lives that are due, except those that are busy, held or being written."""
        self._backend.expire([life for life in lives if not self._kept(life, at)], at)

    def end_now(self, record: Record, at: Moment) -> bool:
        """End a life before it is due. Return whether it ended: one that is held, busy or being written does not."""
        life = Life(record.sid, record.uid)
        now = max(at.now, record.active + 0.001)  # due even if last used right now, or by a clock that is ahead
        if self._kept(life, at) or self._backend.expire([life], Moment(now, 0.0)):
            self._backend.touch(life, at)
            return False
        self.tell_expired()
        return True

    def tell_expired(self) -> list[str]:
        """Run the callbacks of all lives that have expired, and return their ids.

        After an error, the next call continues with the remaining lives. The backend gives them to no other process.
        """
        expired: list[str] = []
        while True:
            if not self._claimed:
                self._claimed.extend(self._backend.ended())
            try:
                life = self._claimed.popleft()
            except IndexError:
                return expired
            try:
                if life not in self._told:
                    tell(self.on_end, life.sid, life.uid, "expired")
                    tell(self._registry.on_expire, life.sid)
                    self._told.add(life)  # not again, if the backend cannot be reached now
                self._backend.settle([life])  # each: if the process is killed here, one callback runs again
            except BaseException:
                self._claimed.appendleft(life)
                raise
            self._told.discard(life)
            expired.append(life.sid)

    def is_busy(self, record: Record) -> bool:
        """Return whether the busy check calls a session busy. One that cannot be read is not, or it could never end."""
        if self._registry.busy_check is None:
            return False
        try:
            session = self._sessions.view(record)
        except StateDecodeError:
            logger.exception("session %s counts as not busy: its state cannot be read", short(record.sid))
            return False
        except SessionExpired:  # it has ended since the record was read
            return False
        return self._registry.is_busy(record.sid, session)

    def _kept(self, life: Life, at: Moment) -> bool:
        """Renew a due session that is busy or being written, and return whether it was."""
        kept = self._locks.writing(life.sid)
        if not kept and self._registry.busy_check is not None:
            try:
                record = self._backend.read(life.sid)
            except RecordDamaged:  # the busy check cannot be called; see ``is_busy``
                record = None
            kept = record is not None and self.is_busy(record)
        return kept and self._backend.touch(life, at)
