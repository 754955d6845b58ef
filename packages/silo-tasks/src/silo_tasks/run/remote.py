"""A run on a worker of a task queue: only its record in a task store connects this process to it."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from ..stores.base import TaskStore
from ..timer import publisher
from .latch import Latch
from .reported import ReportedRun

logger = logging.getLogger("silo_tasks")

INTERVAL = 0.5
"""Seconds between two reads of the record for callbacks and coroutines."""

SHORTEST, LONGEST = 0.001, 0.25
"""Bounds of the seconds between two reads by a waiting thread: a tenth of the time since the run was stored."""


class RemoteRun(ReportedRun):
    """A run that follows its record in a task store: each caller that asks for its state reads the record.

    While a store fails, the run stays as it was last read, and the failure is logged once.

    Args:
        store: The task store.
        args: See ``Run``.
        kwargs: See ``Run``.
    """

    __slots__ = ("_cancel", "_failing", "_is_stored", "_looked", "_looking", "_since", "_store")

    is_remote = True

    def __init__(self, store: TaskStore, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._store = store
        self._is_stored = self._cancel = self._failing = self._looking = False
        self._since = time.monotonic()
        self._looked = -math.inf

    def note_stored(self) -> None:
        """Note that the store has the run now, and pass on a cancel that was requested before."""
        with self.lock:
            self._is_stored, cancel = True, self._cancel
        if cancel:
            self.cancel()

    def refresh(self) -> None:
        """Read the record of the run."""
        if self.value_ready.is_set or not self._is_stored:
            return
        self._looked = time.monotonic()
        try:
            found = self._store.read(self.owner, self.name)
            if found is not None and found[0] == self.token:
                self.report(found[1])
            else:
                what = "its record is gone" if found is None else "a newer run has begun in another process"
                self.lose(f"lost: {what}")
            self._failing = False
        except Exception:
            with self.lock:
                first, self._failing = not self._failing, True
            if first:
                logger.exception("The record of task %r could not be read", self.name)

    def refresh_to_wait(self) -> None:
        """Read the record, unless it was stored just now."""
        if time.monotonic() - self._since >= SHORTEST:
            self.refresh()

    def follow(self) -> None:
        """Read the record every ``INTERVAL`` as long as there are callbacks, or coroutines that wait."""
        with self.lock:
            begin, self._looking = not self._looking, True
        if begin:
            publisher.call_later(INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self.refresh()
        with self.lock:
            # From now on, the next caller of follow() begins again.
            again = self._looking = bool(self.callbacks) or self.done.is_awaited or self.value_ready.is_awaited
        if again:
            publisher.call_later(INTERVAL, self._look_again)

    def wait(self, latch: Latch, timeout: float | None) -> bool:
        """Read the record again and again until a latch is set or ``timeout`` seconds have passed."""
        now = time.monotonic()
        end = math.inf if timeout is None else now + timeout
        while True:
            # A watcher such as follow() calls wait() repeatedly, each time with a short timeout.
            pause = min(max((now - self._since) / 10, SHORTEST), LONGEST)
            # Of many waiting callers, one reads the record, and none does so just after it was stored.
            last, least = (max(self._looked, self._since), pause) if now < end else (self._looked, SHORTEST)
            if now - last >= least:
                self.refresh()
            if latch.is_set or now >= end:
                return latch.is_set
            latch.wait(min(pause, end - now))
            now = time.monotonic()

    def cancel(self, *, detach: bool = False) -> bool:  # noqa: ARG002 - callbacks of such a run always are
        """Ask the run to stop, through the store. Return whether it was queued or running."""
        with self.lock:
            if not self._is_stored:
                self._cancel = True
                return True
        self.refresh()
        if self.status.is_final:
            return False
        asked = self._store.request_cancel(self.owner, self.name, self.token)
        self.refresh()
        return asked

    def lose(self, reason: str, *, public: bool = True) -> None:
        """Fail a run that no worker will finish. The store logs the loss once, because many processes may see it."""
        if not self._fail_as_lost(reason, public=public):
            self._never_returns()

    @property
    def is_settled(self) -> bool:
        """Whether the run is over here and in its store. A run that was given up here may go on there."""
        return super().is_settled and self.latest is not None and self.latest.status is self.status

    def after_fork(self) -> None:
        """Go on following a run that is not over, without the threads of the parent."""
        if not self.status.is_active:
            super().after_fork()
            return
        self.renew_locks()
        self.done, self.value_ready, self.callbacks = Latch(), Latch(), []
        self._looking, self._is_stored = False, True
