"""The id of a request's session: presented, adopted or new."""

from __future__ import annotations

import logging

from silo_store import Lookup, RecordDamaged, Session, SessionExpired, SessionRotated, SessionStore, WriteLock

logger = logging.getLogger("flask_silo")

LATE = (
    "the response has started without a session: begin it in the view, as silo.sid and silo.state() do, and change it "
    "in what the response streams with silo.edit()"
)

_refused = False


class ClientId:
    """The id of a request's session.

    The id is settled when it is first needed. It is the id that the client presented, if that has a living or expired
    session; otherwise it is a new one.

    Args:
        store: The store of the session.
        presented: The id that the client sent; None if it sent none.
        accept_client_ids: Whether clients may choose their ids.

    Attributes:
        presented: The id that the client sent; None if it sent none.
        accept_client_ids: Whether clients may choose their ids.
        settled: The session's id; None until it is settled.
        uid: The uid that was found under the settled id; None if none was found.
        lives: Whether a session was found in the store under this id.
        announced: Whether the view has read the id. Then the session begins with the response.
        always_sent: Whether the response carries an id even if there is no session.
    """

    __slots__ = (
        "_former",
        "_required",
        "_store",
        "accept_client_ids",
        "always_sent",
        "announced",
        "lives",
        "presented",
        "settled",
        "uid",
    )

    def __init__(self, store: SessionStore, presented: str | None, accept_client_ids: bool) -> None:
        self._store = store
        self.presented = presented
        self.accept_client_ids: bool = accept_client_ids
        self.settled: str | None = None
        self.uid: str | None = None
        self.lives: bool = False
        self.announced: bool = False
        self.always_sent: bool = accept_client_ids
        self._former: tuple[str, ...] = ()
        self._required = False

    @property
    def candidate(self) -> str | None:
        """The settled id, otherwise the presented one. Reading it does not settle the id."""
        return self.settled or self.presented

    def settle(self, *, late: bool) -> Session | None:
        """Settle the id. Return the session that was found under the presented one, if any.

        Args:
            late: Whether the response has started, so that no session can begin.

        Raises:
            SessionRotated: The client's session has another id now.
            RuntimeError: There is no session, and it is too late to begin one.
        """
        if self.presented is not None:
            try:
                return self.settle_by(self._store.lookup(self.presented, lazy=True), late=late)
            except RecordDamaged:  # the client's session is still there, and can be reset or destroyed
                self.settled, self.lives = self.presented, True
        elif late:
            raise RuntimeError(LATE)
        else:
            self.settled = self._store.generate_sid()
        return None

    def settle_by(self, found: Lookup, *, late: bool = False) -> Session | None:
        """Settle the id by the result of looking up the presented one, see ``settle``."""
        presented = self.presented
        assert presented is not None
        if found.session is not None:
            self.settle_as(found.session.uid)
        elif found.status == "rotated":
            raise SessionRotated(presented)
        elif late:
            raise RuntimeError(LATE)
        else:
            self.lives = False
            if found.status == "unknown" and not self.accept_client_ids:
                _log_refusal()
            adopted = found.status == "expired" or self.accept_client_ids
            self.settled = presented if adopted else self._store.generate_sid()
        return found.session

    def settle_as(self, uid: str) -> None:
        """Settle on the presented id, under which the session ``uid`` was found."""
        self.settled, self.uid, self.lives = self.presented, uid, True

    def require(self, *, late: bool) -> Session | None:
        """Settle the id, and refuse the request unless the presented one has a session, see ``settle``.

        Raises:
            SessionExpired: The presented id has no session. Where clients may choose ids, an unknown id counts as that
                of a new client.
        """
        assert self.presented is not None
        found = self._store.lookup(self.presented, lazy=True)
        is_unknown = found.status == "unknown"
        if found.session is None and found.status != "rotated" and not (self.accept_client_ids and is_unknown):
            if is_unknown:
                _log_refusal()
            raise SessionExpired(self.presented)
        session = self.settle_by(found, late=late)
        self._required = self.lives
        return session

    def load_again(self, lock: WriteLock | None = None) -> Session:
        """Load a session that was found before. One that has expired since begins again, unless the view requires it.

        Raises:
            SessionRotated: Another request has given the session another id.
            SessionExpired: The session has ended, and must not begin again under its id.
        """
        sid = self.settled
        assert sid is not None
        found = self._store.lookup(sid, lock=lock, lazy=True)
        if found.session is not None:
            return found.session
        if found.status == "rotated" or (
            self.uid is not None and self._store.backend.find(self.uid) not in (None, sid)
        ):
            raise SessionRotated(sid)
        if self._required or not (found.status == "expired" or self.accept_client_ids):
            raise SessionExpired(sid)
        return self._store.begin(sid)

    def matches(self, sid: str) -> bool:
        """Return whether an id is the settled, the presented or a former one."""
        return sid in (self.settled, self.presented, *self._former)

    def note_life(self, uid: str | None) -> None:
        """Note the uid of the session that the settled id has; None if it has none."""
        self.uid, self.lives = uid, uid is not None

    def note_end(self) -> None:
        """Note that the session has ended. That the view has read the id no longer counts."""
        self.note_life(None)
        self.announced = False

    def leave(self) -> None:
        """Forget the id: the next session gets a new one."""
        self.note_end()
        self.presented = self.settled = None

    def rename(self, sid: str) -> None:
        """Go on under another id."""
        if self.settled is not None:
            self._former = (*self._former, self.settled)
        self.settled = sid


def _log_refusal() -> None:
    """Log once in each process why a client does not get the session id that it sent."""
    global _refused
    if not _refused:
        _refused = True
        logger.warning(
            "a client sent a session id that this application has not issued, or has forgotten: it was not adopted. "
            "To let clients choose their ids, set accept_client_ids=True (SILO_ACCEPT_CLIENT_IDS)"
        )
