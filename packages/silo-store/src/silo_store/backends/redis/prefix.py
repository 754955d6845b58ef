"""``Prefix``, which runs scripts on the keys of one prefix."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ...errors import StoreUnavailable
from ...ids import new_uid
from . import scripts
from .connections import Connections, Script
from .keys import LAYOUT, Keys


class Prefix:
    """Runs scripts on the keys of one prefix, and notices when all records are lost.

    Args:
        server: The server.
        name: The prefix.

    Attributes:
        server: The server.
        keys: The names of the keys.
        epoch: The server's set of records, as far as this process knows.
    """

    def __init__(self, server: Connections, name: str) -> None:
        self.server = server
        self.keys: Keys = Keys(name)
        self.epoch: bytes | None = None
        self._ahead = 0.0  # seconds by which the store's clock is ahead of this host's

    def run(self, script: Script, keys: tuple[str, ...], *arguments: Any) -> Any:
        """Run a script on the server and return what it returns.

        Raises:
            StoreUnavailable: The server did not answer in time, or answered with an error, or the keys have another
                layout.
        """
        return self.server.run(script, (*keys, self.keys.epoch), *arguments)

    def run_and(
        self, commands: tuple[tuple[Any, ...], ...], script: Script, keys: tuple[str, ...], *arguments: Any
    ) -> list[Any]:
        """Run a script and then commands; see ``Connections.run_and``."""
        return self.server.run_and(commands, script, (*keys, self.keys.epoch), *arguments)

    def call(self, command: str, key: str, *rest: Any) -> Any:
        """Run a command for one key as a script, so that it does nothing if the keys have another layout."""
        return self.run(scripts.CALL, (key,), command, *rest)

    def read(self, script: Script, keys: tuple[str, ...], *arguments: Any) -> list[Any]:
        """Return the answer of a script that reads: data, the epoch, whether the server is a replica, and the rest.

        A replica can read but cannot record the use, so the server that has replaced it, if any, is asked too.
        """
        answer: list[Any] = self.run(script, keys, *arguments)
        if answer[2]:
            self.server.close()
            with contextlib.suppress(StoreUnavailable):
                answer = self.run(script, keys, *arguments)
        return answer

    def compare(self, known: bytes | None, epoch: bytes | None, now: float) -> None:
        """Compare the epoch in an answer with the known one, and record a loss of all records.

        Args:
            known: The epoch that this process knew when it asked. Another thread may have received a newer one since,
                so an answer is compared with the epoch of its own time.
            epoch: The epoch in the answer.
            now: The store's clock.
        """
        if epoch == known:
            return
        self._ahead = now - time.time()
        if known is None:
            if self.epoch is None:
                self.epoch = epoch
            return
        keys = self.keys
        with contextlib.suppress(StoreUnavailable):  # the server cannot write now: the next read tries again
            self.epoch = self.run(scripts.NOTE_LOSS, (keys.lost, keys.noted), new_epoch(), now, known)

    def now(self) -> float:
        """Return the time of the store's clock, as seen when the epoch last changed."""
        return time.time() + self._ahead


def new_epoch() -> str:
    """Return a new epoch."""
    return f"{LAYOUT}:{new_uid()}"
