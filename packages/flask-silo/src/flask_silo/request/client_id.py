"""The id of a request's session: the one that the client presented, or a new one."""

from __future__ import annotations

import logging
from collections.abc import Callable

from silo_store import Lookup, SessionRotated

logger = logging.getLogger("flask_silo")

_refused = False


class ClientId:
    """The id of a request's session.

    It is settled when it first matters: it is the id that the client presented, if its session lives or has expired,
    or a new one.

    Args:
        presented: The id that the client sent; None if it sent none.
        accept_client_ids: Whether clients may choose their ids.

    Attributes:
        presented: The id that the client sent; None if it sent none.
        accept_client_ids: Whether clients may choose their ids.
        settled: The session's id; None until it is settled.
        uid: The uid that was found under the settled id; None where none was.
        lives: Whether a session was found in the store under this id.
        announced: Whether the view was given the id: then its session begins with the response.
    """

    __slots__ = ("_former", "accept_client_ids", "announced", "lives", "presented", "settled", "uid")

    def __init__(self, presented: str | None, accept_client_ids: bool) -> None:
        self.presented = presented
        self.accept_client_ids = accept_client_ids
        self.settled: str | None = None
        self.uid: str | None = None
        self.lives = False
        self.announced = False
        self._former: tuple[str, ...] = ()

    @property
    def candidate(self) -> str | None:
        """The id under which a session would be found. Reading it settles nothing."""
        return self.settled or self.presented

    def settle(self, found: Lookup, new_sid: Callable[[], str]) -> None:
        """Settle the id by what the store knows of the presented one.

        Raises:
            SessionRotated: The client's session has another id by now.
        """
        presented = self.presented
        assert presented is not None
        if found.session is not None:
            self.settled = presented
            self.note_life(found.session.uid)
        elif found.status == "rotated":
            raise SessionRotated(presented)
        else:
            self.lives = False
            if found.status == "unknown" and not self.accept_client_ids:
                log_refusal()
            adopted = found.status == "expired" or self.accept_client_ids
            self.settled = presented if adopted else new_sid()

    def matches(self, sid: str) -> bool:
        """Return whether an id is the settled, the presented or a former one."""
        return sid in (self.settled, self.presented, *self._former)

    def note_life(self, uid: str | None) -> None:
        """Note the session that the settled id has."""
        self.uid, self.lives = uid, uid is not None

    def note_end(self) -> None:
        """Note that the session has ended. The view's copy of the id counts no longer."""
        self.note_life(None)
        self.announced = False

    def leave(self) -> None:
        """Leave the session: the next one gets a new id."""
        self.note_end()
        self.presented = self.settled = None

    def rename(self, sid: str) -> None:
        """Go on under another id."""
        if self.settled is not None:
            self._former = (*self._former, self.settled)
        self.settled = sid


def log_refusal() -> None:
    """Log once in each process why a client does not get the session id that it sent."""
    global _refused
    if not _refused:
        _refused = True
        logger.warning(
            "a client sent a session id that this application has not issued, or has forgotten: it was not adopted. "
            "To let clients choose their ids, set accept_client_ids=True (SILO_ACCEPT_CLIENT_IDS)"
        )
