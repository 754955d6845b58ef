"""Keeps the record of a run in a task store up to date, and its cancel flag in sight."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from ..errors import TaskRunning
from ..status import Status
from ..timer import publisher
from .snapshot import record_of

if TYPE_CHECKING:
    from ..stores.base import TaskStore
    from ..stores.stored_run import TaskRecord
    from .run import Run

logger = logging.getLogger("silo_tasks")

INTERVAL = 0.5
"""Seconds between two records of a running task."""

TRIES = 1200
"""How often the last record of a run is offered to a store that fails: for ten minutes."""


def begin(store: TaskStore, run: Run, previous: Run, wait: float | None = None) -> tuple[str, TaskRecord] | None:
    """Make the run the newest one in the store; what was there before.

    Args:
        store: Where records are.
        run: The new run.
        previous: The run before it, here.
        wait: Seconds that it may wait for a worker, where one elsewhere is to execute it.

    Raises:
        TaskRunning: The task is queued or running elsewhere.
    """
    # What the run before this one has left is mostly still there. Where it is not, nothing begins, and it is read.
    guess = _left_by(previous)
    newest = guess or store.read(run.owner, run.name)
    while not _begun(store, run, previous, newest, wait):
        if guess is None:
            raise TaskRunning(run.name, remote=True)
        guess, newest = None, store.read(run.owner, run.name)
    return newest


def _left_by(run: Run) -> tuple[str, TaskRecord] | None:
    """What a run that is over has left in its store, where that is known without asking; else None."""
    ended = run.status.is_final and run.returned.is_set
    # One that was given up here may have gone on elsewhere.
    seen = run.away is None or (run.shown is not None and run.shown.status is run.status)
    return (run.token, record_of(run)) if ended and seen else None


def _begun(
    store: TaskStore, run: Run, previous: Run, newest: tuple[str, TaskRecord] | None, wait: float | None
) -> bool:
    expect = None if newest is None else newest[0]
    if newest is not None:
        number, last_seq = newest[1].get("run", 0) + 1, newest[1].get("last_seq", 0)
        run.take_over(run.token, max(number, run.number), max(last_seq, run.log.last_seq))
        # The run before this one is over, even if its last record is still on its way.
        if newest[1].get("running") and expect != previous.token:
            return False
    try:
        return store.begin(run.owner, run.name, run.token, record_of(run), expect=expect, wait=wait)
    except BaseException:
        # It may have begun, where only the answer was lost.
        withdraw(store, run, previous, newest)
        raise


def withdraw(
    store: TaskStore, run: Run, previous: Run, before: tuple[str, TaskRecord] | None, left: int = TRIES
) -> None:
    """Put back what was there before a run that was not accepted; later, if the store fails.

    Otherwise the task would read as queued for as long as the run might have waited for a worker.
    """
    try:
        if before is None:
            store.forget(run.owner, run.name, run.token)
        else:
            if before[0] == previous.token and previous.status.is_final and previous.away is None:
                # Its last record may have been on its way, and was refused meanwhile.
                before = previous.token, record_of(previous)
            store.begin(run.owner, run.name, *before, expect=run.token)
    except Exception:
        if left == TRIES:
            logger.exception("The record of task %r could not be stored", run.name)
        if left > 1:
            publisher.call_later(INTERVAL, lambda: withdraw(store, run, previous, before, left - 1))


def watch(store: TaskStore, run: Run, *, settles: bool = False) -> Watcher:
    """Store the record every `INTERVAL` and at the end of the run.

    Args:
        store: Where records are.
        run: The run.
        settles: Whether `settle()` will be called once its code has returned.
    """
    watcher = Watcher(store, run, settles=settles)
    if not run.add_callback(watcher):
        watcher.publish()
    watcher.look_later()
    return watcher


class Watcher:
    """Publishes one run. A store that fails harms nobody: it is tried again, and logged once until it works again."""

    def __init__(self, store: TaskStore, run: Run, *, settles: bool) -> None:
        self._store = store
        self._run = run
        self._settles = settles
        self._failing = False
        self._left = TRIES

    def __call__(self, _: object) -> None:
        """Store how the run has ended, unless `settle()` is about to."""
        if self._run.executing or not self._settles:
            self.publish()

    def drop(self) -> None:
        """Store nothing more, of a run that was not accepted."""
        self._left = 0
        with self._run.lock:
            self._run.callbacks = [each for each in self._run.callbacks if each is not self]

    def look(self) -> None:
        """Store the record, now and later."""
        if self._left > 0 and not self.publish() and self._run.status.is_final:
            self._left -= 1
        self.look_later()

    def look_later(self) -> None:
        """See to it that the record is stored again, unless its last one is."""
        if self._left > 0:
            publisher.call_later(INTERVAL, self.look)

    def publish(self) -> bool:
        """Store the record now, and cancel the run if the store says so; whether the store answered."""
        store, run = self._store, self._run
        try:
            while True:
                record = record_of(run)
                if self._settles and record["status"] == Status.QUEUED:
                    # A worker has claimed it, and imports what it runs.
                    record["status"] = Status.RUNNING.value
                newest = store.publish(run.owner, run.name, run.token, record)
                # The run may have ended meanwhile, and its last record must not be overwritten by this one.
                goes_on = record["running"] or record.get("returning", False)
                latch = run.done if record["running"] else run.returned
                if not (newest and goes_on and latch.is_set):
                    break
            if record["running"] and (not newest or store.cancel_requested(run.owner, run.name, run.token)):
                run.cancel(detach=True)
            if not goes_on:
                self._left = 0
            self._failing = False
        except Exception:
            with run.lock:
                first, self._failing = not self._failing, True
            if first:
                logger.exception("The record of task %r could not be stored", run.name)
            return False
        return True

    def settle(self, timeout: float) -> bool:
        """Store the last record of a run that is over, its value with it; whether it was done in `timeout` seconds."""
        end, pause = time.monotonic() + timeout, 0.05
        while not self.publish():
            if time.monotonic() + pause > end:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
        return True
