"""The lives that this process holds."""

from __future__ import annotations

import contextlib
import threading

from ...errors import StoreUnavailable
from ...fork import reset_after_fork
from . import scripts
from .claims import Claims
from .keeper import Keeper
from .prefix import Prefix


class Holds:
    """Holds lives, and keeps the holds of this process while it gives signs of life.

    Args:
        prefix: The keys.
        keeper: Renews the holds.
        claims: Gives each hold its name, and says how long it lasts.
    """

    def __init__(self, prefix: Prefix, keeper: Keeper, claims: Claims) -> None:
        self._prefix = prefix
        self._keeper = keeper
        self._claims = claims
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin without holds: those belong to the parent."""
        self._guard = threading.Lock()
        self._owners: dict[str, list[str]] = {}

    def add(self, uid: str) -> None:
        """Hold a life once more."""
        owner = self._claims.new_token()  # one for each hold, so that undoing one leaves the others
        self.renew(uid, owner)
        self._keeper.add(_name(uid, owner))
        with self._guard:
            self._owners.setdefault(uid, []).append(owner)

    def renew(self, uid: str, owner: str) -> None:
        """Let a hold last for another lease."""
        self._prefix.run(scripts.HOLD, (self._prefix.keys.hold + uid,), owner, self._claims.lease)

    def remove(self, uid: str) -> None:
        """Hold a life once less."""
        with self._guard:
            owners = self._owners.get(uid)
            if owners is None:
                return
            owner = owners.pop()
            if not owners:
                del self._owners[uid]
        self._keeper.discard(_name(uid, owner))
        with contextlib.suppress(StoreUnavailable):  # the hold runs out
            self._prefix.server.command("ZREM", self._prefix.keys.hold + uid, owner)

    def has(self, uid: str) -> bool:
        """Return whether a process holds the life."""
        return bool(self._prefix.run(scripts.HELD, (self._prefix.keys.hold + uid,)))


def _name(uid: str, owner: str) -> str:
    return f"hold {uid} {owner}"
