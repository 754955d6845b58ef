"""Looks at the record of a run that a worker elsewhere executes."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from silo_tasks._timer import publisher

if TYPE_CHECKING:
    from silo_tasks._latch import Latch
    from silo_tasks._run import Run
    from silo_tasks.store import TaskStore

logger = logging.getLogger("silo_tasks")

INTERVAL = 0.5
"""Seconds between two looks on behalf of callbacks."""

SHORTEST, LONGEST = 0.001, 0.25
"""Seconds between two looks of somebody who waits: a tenth of how long the run is known, within these bounds."""


class Follower:
    """Brings what a task store says of one run into the run, whenever somebody wants to know.

    A store that fails harms nobody: the run stays as it was last heard of, and that is logged once.
    """

    def __init__(self, store: TaskStore, run: Run) -> None:
        self._store = store
        self._run = run
        self._since = time.monotonic()
        self._failing = False
        self._looking = False

    def look(self) -> None:
        """See how the run goes, now."""
        run = self._run
        if run.returned.is_set:
            return
        try:
            found = self._store.read(run.owner, run.name)
            if found is not None and found[0] == run.token:
                run.report(found[1])
            else:
                run.lose("lost: its record is gone" if found is None else "lost: a newer run has begun elsewhere")
            self._failing = False
        except Exception:
            if not self._failing:
                logger.exception("The record of task %r could not be read", run.name)
            self._failing = True

    def keep_looking(self) -> None:
        """Look every `INTERVAL` until the run is over, so that its callbacks are called."""
        with self._run.lock:
            begin, self._looking = not self._looking, True
        if begin:
            publisher.call_later(INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self.look()
        if not self._run.returned.is_set:
            publisher.call_later(INTERVAL, self._look_again)

    def wait(self, latch: Latch, timeout: float | None) -> bool:
        """Look until a latch of the run is set, or `timeout` seconds have passed; whether it is."""
        begin = time.monotonic()
        while True:
            self.look()
            now = time.monotonic()
            waited = now - begin
            if latch.is_set:
                return True
            if timeout is not None and waited >= timeout:
                return False
            # Whoever watches waits again and again, each time a little.
            pause = min(max((now - self._since) / 10, SHORTEST), LONGEST)
            latch.wait(pause if timeout is None else min(pause, timeout - waited))

    def cancel(self) -> bool:
        """Ask the run to stop, through the store; whether there was something to stop."""
        run = self._run
        self.look()
        if run.status.is_final:
            return False
        asked = self._store.request_cancel(run.owner, run.name, run.token)
        self.look()
        return asked
