"""Renews what this process has on the server: claims, holds, and lives whose callbacks it runs."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable

from ...errors import StoreUnavailable
from ...fork import reset_after_fork

logger = logging.getLogger("silo_store")

IDLE_ROUNDS = 20
"""Rounds without anything to renew, after which the thread ends."""


class Keeper:
    """A thread that renews entries on the server. It ends when there is nothing to renew.

    An entry that is discarded before the second round costs no round trip.

    Args:
        renew: Renews the entries with these names.
        interval: Seconds between two renewals: a third of the time after which the server drops an entry.
    """

    def __init__(self, renew: Callable[[list[str]], None], interval: float) -> None:
        self._renew = weakref.WeakMethod(renew)
        self._interval = interval
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin without entries: they belong to the parent."""
        self.kept: set[str] = set()
        self._guard = threading.Lock()
        self._running = False
        self._stop = threading.Event()

    def add(self, name: str) -> None:
        """Renew an entry from now on."""
        self.kept.add(name)
        if not self._running:
            self._start()

    def discard(self, name: str) -> bool:
        """Stop renewing an entry. Return whether it was renewed until now."""
        try:
            self.kept.remove(name)
        except KeyError:
            return False
        return True

    def _start(self) -> None:
        with self._guard:
            if not self._running:
                self._running = True
                try:
                    threading.Thread(target=self._run, args=(self._stop,), name="silo-keeper", daemon=True).start()
                except RuntimeError:  # too many threads, or the interpreter is about to end
                    self._running = False  # the next add() tries again
                    logger.warning("no thread can be started to renew the claims and holds of this process in Redis")
                except BaseException:
                    self._running = False
                    raise

    def _run(self, stop: threading.Event) -> None:
        before: set[str] = set()
        idle = 0
        wait = self._interval
        while not stop.wait(wait):
            wait = self._interval
            kept = set(self.kept)
            renew = self._renew()
            if renew is None:
                return
            old = sorted(kept & before)  # a new entry has its whole time left
            if old:
                try:
                    renew(old)
                except StoreUnavailable:  # there may be time for another try; otherwise a write raises
                    wait = self._interval / 8
                except Exception:
                    logger.exception("claims and holds in Redis were not renewed; the next round tries again")
            del renew
            before = kept
            idle = 0 if kept else idle + 1
            if idle > IDLE_ROUNDS:
                with self._guard:
                    if stop.is_set():
                        return
                    self._running = False
                    if not self.kept:  # an add() from here on starts another thread
                        return
                    self._running = True

    def stop(self) -> None:
        """End the thread. A later ``add`` starts another."""
        with self._guard:
            self._stop.set()
            self._stop = threading.Event()
            self._running = False
