"""``Claims``, the claims of this process on sessions."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from typing import Any

from ...backend import Claim, Moment
from ...errors import LockLost, LockTimeout, StoreUnavailable
from ...fork import reset_after_fork
from ...ids import new_uid
from . import scripts
from .keeper import Keeper
from .prefix import Prefix
from .records import TIME
from .scripts import ALL, renewal

FIRST_WAIT = 0.1
"""Seconds that a process waits for a claim in the round trip that asks for it. Owners often pass it on within them."""
FREE_TIMES = 4
"""Number of times in a row that a claim must be found free before its session no longer counts as contended."""


class OwnClaim(Claim):
    """A claim of this process.

    Attributes:
        use: The use of the session that is recorded when the claim is given back; None if it is recorded, or too
            early to be.
    """

    use: Moment | None = None


class Claims:
    """Claims sessions, waits for claims, and gives them back.

    Args:
        prefix: Runs the scripts.
        keeper: Renews the claims.
        lease: Milliseconds after which the server drops a claim that is not renewed.

    Attributes:
        lease: The same, as an argument of scripts.
    """

    def __init__(self, prefix: Prefix, keeper: Keeper, lease: int) -> None:
        self._prefix = prefix
        self._keeper = keeper
        self.lease: str = str(lease)
        self._sign_lasts = str(int(max(prefix.server.timeout, 1.0) * 1000))  # a waiting process gives two in that time
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Use an identity on the server that differs from the parent's."""
        self._me = new_uid()
        self._numbers = itertools.count()
        self._unanswered: deque[Claim] = deque(maxlen=1000)
        self._contended = ""  # the session whose claim this process has found taken
        self._free_in_a_row = 0  # times that it has found that claim free since

    def new_token(self) -> str:
        """Return a new name for a claim or a hold of this process."""
        return f"{self._me}:{next(self._numbers)}"

    def take(self, sid: str, at: Moment, timeout: float) -> tuple[Claim, bytes | None]:
        """Wait for a claim. Return it, and the bytes of the record.

        Raises:
            LockTimeout: Another process kept its claim for too long.
        """
        prefix, keys, known = self._prefix, self._prefix.keys, self._prefix.epoch
        claim = OwnClaim(sid, self.new_token())
        wake = keys.wake + claim.token
        touched = (keys.record + sid, keys.claim + sid, keys.queue + sid, f"{wake}:on", wake)
        arguments = (ALL, *renewal(at), claim.token, self.lease, self._sign_lasts)
        if self._unanswered:
            self._give_back_unanswered()
        try:
            contended = sid == self._contended
            reply = self._take_if_free(claim, at, known) if known is not None and not contended else None
            if reply is None:
                reply = self._take_in_turn(sid, touched, arguments, wake, timeout, contended=contended)
            if reply is None:
                raise LockTimeout(sid)
            data, *epochs = reply
            for epoch in epochs:
                prefix.compare(known, epoch, at.now)
            self._keeper.add(_name(claim))
        except StoreUnavailable:  # giving back would fail too, and the server may still grant the claim
            self._unanswered.append(claim)
            raise
        except BaseException:
            self._give_back(claim)
            raise
        return claim, data

    def _take_if_free(self, claim: OwnClaim, at: Moment, known: bytes) -> list[Any] | None:
        """Take a claim that no process has, and return the bytes of the record in a list; None if that needs a script.

        The server executes these commands in a third of the time of the script. The use of the session is recorded by
        the next write or rotation, or when the claim is given back.
        """
        prefix, keys, sid = self._prefix, self._prefix.keys, claim.sid
        taken, epoch, data = prefix.server.several(
            ("SET", keys.claim + sid, claim.token, "NX", "PX", self.lease),
            ("GET", keys.epoch),
            ("GET", keys.record + sid),
        )
        if taken is None or isinstance(data, Exception):  # the record is not a string
            return None
        if epoch != known:  # perhaps of another layout, whose keys stay as they are
            prefix.server.run(scripts.UNCLAIM, (keys.claim + sid,), claim.token)
            return None
        if data is not None and len(data) >= TIME.size:
            (last_use,) = TIME.unpack_from(data)
            if at.touch_interval < at.now - last_use <= at.ttl:
                claim.use = at
        return [data]

    def _take_in_turn(
        self,
        sid: str,
        touched: tuple[str, ...],
        arguments: tuple[Any, ...],
        wake: str,
        timeout: float,
        *,
        contended: bool,
    ) -> list[Any] | None:
        """Take a claim as soon as no process has it. Return what ``_wait`` does.

        If the claim was found taken before, its owner probably passes it on soon: the process waits for that in the
        same round trip. The first time it does not: if the server did not know the script, the process would wait
        without being in the queue.
        """
        deadline = time.monotonic() + timeout
        woken = None
        if contended and timeout >= FIRST_WAIT:
            wait = ("BLPOP", wake, f"{min(FIRST_WAIT, self._prefix.server.timeout / 2):.3f}")
            reply, woken = self._prefix.run_and((wait,), scripts.CLAIM, touched, *arguments, "0", "1")
        else:
            reply = self._prefix.run(scripts.CLAIM, touched, *arguments, "0", "0")
        if isinstance(reply, list):
            self._free_in_a_row += contended
            if self._free_in_a_row >= FREE_TIMES:
                self._contended = ""
            return reply
        self._contended, self._free_in_a_row = sid, 0
        if isinstance(woken, list):
            return self._woken(woken[1], touched, arguments)
        return self._wait(reply, touched, arguments, wake, deadline)

    def _woken(self, given: bytes, touched: tuple[str, ...], arguments: tuple[Any, ...]) -> list[Any]:
        """Return a list of the record's bytes, which the owner of the claim has passed on.

        If the use had to be recorded, the epoch follows them.
        """
        data = given or None
        last_use = given[: TIME.size]
        if len(last_use) == TIME.size and arguments[1] - TIME.unpack(last_use)[0] > arguments[3]:  # record it
            data, epoch, _ = self._prefix.run(scripts.LOAD, touched[:1], *arguments[:5])
            return [data, epoch]
        return [data]

    def _wait(
        self, left: int, touched: tuple[str, ...], arguments: tuple[Any, ...], wake: str, deadline: float
    ) -> list[Any] | None:
        """Wait in the server's queue until the claim's owner passes it on or gives no more signs of life."""
        prefix, server = self._prefix, self._prefix.server
        while (rest := deadline - time.monotonic()) > 0:
            # Not longer than the connection waits for any answer. If the claim's owner dies, its claim runs out.
            wait = min(rest, max(left, 0) / 1000 + 0.01, server.timeout / 2)
            woken = server.command("BLPOP", wake, f"{max(wait, 0.001):.3f}")  # 0 would wait for ever
            if woken is not None:
                return self._woken(woken[1], touched, arguments)
            reply = prefix.run(scripts.CLAIM, touched, *arguments, "1", "0")
            if isinstance(reply, list):
                return reply
            left = reply
        return None

    def renew(self, sid: str, token: str) -> None:
        """Let a claim last for another lease."""
        self._prefix.run(scripts.RENEW_CLAIM, (self._prefix.keys.claim + sid,), token, self.lease)

    def give_back(self, claim: Claim) -> None:
        """Give a claim back, if it was not given back or lost."""
        if self.gave_back(claim):
            self._give_back(claim)

    def gave_back(self, claim: Claim) -> bool:
        """Note that a claim was given back. Return whether it was there until now."""
        return self._keeper.discard(_name(claim))

    def _give_back(self, claim: Claim) -> None:
        try:
            self._send_back(claim)
        except StoreUnavailable:  # the claim runs out, or is given back when the server answers again
            self._unanswered.append(claim)

    def _give_back_unanswered(self) -> None:
        """Give back the claims that could not be given back while the server was away. Raise if it is still away."""
        with contextlib.suppress(IndexError):  # another thread has done it
            while True:
                claim = self._unanswered.popleft()
                try:
                    self._send_back(claim)
                except StoreUnavailable:
                    self._unanswered.append(claim)
                    raise

    def _send_back(self, claim: Claim) -> None:
        keys, sid = self._prefix.keys, claim.sid
        wake = keys.wake + claim.token
        touched = (keys.record + sid, keys.claim + sid, keys.queue + sid, wake, f"{wake}:on")
        use = renewal(claim.use) if isinstance(claim, OwnClaim) and claim.use is not None else ()
        self._prefix.run(scripts.RELEASE, touched, claim.token, self.lease, keys.wake, *use)

    def check(self, claim: Claim | None) -> None:
        """Keep a forked child from writing with a claim of its parent."""
        if claim is not None and not claim.token.startswith(self._me):
            raise LockLost(claim.sid)


def _name(claim: Claim) -> str:
    return f"claim {claim.sid} {claim.token}"
