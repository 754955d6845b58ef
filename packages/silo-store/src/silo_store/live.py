"""``LiveSessions``: a backend keeps the session's objects themselves."""

from __future__ import annotations

from collections.abc import Callable

from .backend import Backend, Moment
from .ids import new_uid
from .locks import WriteLock
from .mapper import Create, Factories, OnChange, check_time
from .record import Record
from .registry import missing
from .session import Session


class LiveSessions:
    """Sessions whose objects the backend keeps, so that each change takes effect at once."""

    def __init__(
        self,
        backend: Backend,
        create: Create,
        factories: Factories,
        moment: Callable[[], Moment],
        present: Callable[[str], str | None],
        clock: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._keep_new = create
        self._factories = factories
        self._moment = moment
        self._present = present
        self._clock = clock

    def view(self, record: Record) -> Session:
        assert isinstance(record, Session)
        return record

    def open(self, record: Record) -> Session:
        session = self.view(record)
        for name, state in missing(self._factories, session).items():
            session.setdefault(name, state)  # another reader may have been faster
        return session

    def whole(self, session: Session) -> Session:
        return session

    def begin(self, sid: str) -> tuple[Session, bool]:
        state = missing(self._factories, {})
        at = self._moment()
        session = Session(sid, new_uid(), at.now, at.now)
        session.update(state)
        winner = self._keep_new(session, at)
        return self.open(winner), winner is session

    def ensure(self, session: Session) -> bool:  # noqa: ARG002 - begin() has put it into the backend
        return False

    def changed(self, session: Session) -> list[str]:  # noqa: ARG002 - the changed objects are the stored ones
        return []

    def save(
        self,
        session: Session,
        lock: WriteLock | None,
        on_change: OnChange | None = None,  # noqa: ARG002 - the changed objects are the stored ones
    ) -> bool:
        if lock is None:
            check_time(session, self._moment(), self._present)
        self._backend.put(session, self._clock())
        return False
