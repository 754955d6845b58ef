"""Looks at the record of a run that a worker elsewhere executes."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from ..timer import publisher

if TYPE_CHECKING:
    from ..stores.base import TaskStore
    from .latch import Latch
    from .run import Run

logger = logging.getLogger("silo_tasks")

INTERVAL = 0.5
"""Seconds between two looks on behalf of callbacks."""

SHORTEST, LONGEST = 0.001, 0.25
"""Seconds between two looks of somebody who waits: a tenth of how long the run is known, within these bounds."""


class Follower:
    """Brings what a task store says of one run into the run, whenever somebody wants to know.

    A store that fails harms nobody: the run stays as it was last heard of, and that is logged once.

    Args:
        store: Where records are.
        run: The run.
        begun: Whether the run is in the store already.
    """

    def __init__(self, store: TaskStore, run: Run, *, begun: bool) -> None:
        self._store = store
        self._run = run
        self._begun = begun
        self._stop = False
        self._since = time.monotonic()
        self._looked = -math.inf
        self._failing = False
        self._looking = False

    @property
    def is_new(self) -> bool:
        """Whether the run was stored just now: who waits need not look yet."""
        return time.monotonic() - self._since < SHORTEST

    def begin(self) -> None:
        """The run is in the store now. Whoever has asked it to stop meanwhile has asked the store."""
        with self._run.lock:
            self._begun, stop = True, self._stop
        if stop:
            self.cancel()

    def after_fork(self) -> None:
        """Begin without the threads that looked or started the run, in a forked child."""
        self._looking, self._begun = False, True

    def look(self) -> None:
        """See how the run goes, now."""
        run = self._run
        if run.returned.is_set or not self._begun:
            return
        self._looked = time.monotonic()
        try:
            found = self._store.read(run.owner, run.name)
            if found is not None and found[0] == run.token:
                run.report(found[1])
            else:
                run.lose("lost: its record is gone" if found is None else "lost: a newer run has begun elsewhere")
            self._failing = False
        except Exception:
            with run.lock:
                first, self._failing = not self._failing, True
            if first:
                logger.exception("The record of task %r could not be read", run.name)

    def keep_looking(self) -> None:
        """Look every `INTERVAL` as long as there are callbacks to call or somebody waits."""
        with self._run.lock:
            begin, self._looking = not self._looking, True
        if begin:
            publisher.call_later(INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self.look()
        run = self._run
        with run.lock:
            # Whoever comes from now on has it begin again.
            again = self._looking = bool(run.callbacks) or run.done.is_awaited or run.returned.is_awaited
        if again:
            publisher.call_later(INTERVAL, self._look_again)

    def wait(self, latch: Latch, timeout: float | None) -> bool:
        """Look until a latch of the run is set, or `timeout` seconds have passed; whether it is."""
        now = time.monotonic()
        end = math.inf if timeout is None else now + timeout
        while True:
            # Whoever watches waits again and again, each time a little.
            pause = min(max((now - self._since) / 10, SHORTEST), LONGEST)
            # Of many that wait, one looks, and nobody at what was stored just now.
            last, least = (max(self._looked, self._since), pause) if now < end else (self._looked, SHORTEST)
            if now - last >= least:
                self.look()
            if latch.is_set or now >= end:
                return latch.is_set
            latch.wait(min(pause, end - now))
            now = time.monotonic()

    def cancel(self) -> bool:
        """Ask the run to stop, through the store; whether there was something to stop."""
        run = self._run
        with run.lock:
            if not self._begun:
                self._stop = True
                return True
        self.look()
        if run.status.is_final:
            return False
        asked = self._store.request_cancel(run.owner, run.name, run.token)
        self.look()
        return asked
