"""Keeps the record of a run in a task store current, and checks there for a cancel."""

from __future__ import annotations

import time
from typing import TypeAlias

from ..errors import TaskRunning
from ..logger import get_logger
from ..status import Status
from ..stores.base import TaskStore
from ..stores.stored_run import TaskRecord
from ..timer import Alarm, publisher
from .record import record_of
from .remote import RemoteRun
from .run import Run

INTERVAL = 0.5
"""Seconds between two records of a running task."""

TRIES = 1200
"""Number of attempts to store the last record of a run while the store fails: ten minutes of them."""

Before: TypeAlias = tuple[str, TaskRecord | None] | None
"""The run that a store had before this one, as its token and record; None if it had none. The record is None if the run
is the previous one of this process, which can make its record again."""


class Publication:
    """The record of one run in a task store.

    A store that fails does not harm the run: the record is stored by a later attempt, and the failure is logged once
    until the store works again.

    Args:
        store: The task store.
        run: The run.
        settles: Whether ``settle()`` will be called once the code of the run has returned.

    Attributes:
        begun: Whether the store has the run.
    """

    def __init__(self, store: TaskStore, run: Run, *, settles: bool = False) -> None:
        self._store = store
        self._run = run
        self._settles = settles
        self._failing = False
        self._left = TRIES
        self._alarm: Alarm | None = None
        self._before: Before = None
        self.begun: bool = False

    def begin(self, previous: Run, wait: float | None) -> None:
        """Make the run the newest one in the store, and keep its record current unless a worker does that.

        Args:
            previous: The previous run in this process.
            wait: Seconds that the run may wait for a worker; None for a run that needs none.

        Raises:
            TaskRunning: The task is queued or running in another process.
        """
        store, run = self._store, self._run
        # The store mostly still has the last record of the previous run. So it is read only if that guess is wrong.
        guess = previous.is_settled
        self._before = (previous.token, None) if guess else store.read(run.owner, run.name)
        while not self._replace(previous, wait):
            if not guess:
                raise TaskRunning(run.name, remote=True)
            guess, self._before = False, store.read(run.owner, run.name)
        self.begun = True
        if isinstance(run, RemoteRun):
            run.note_stored()
        else:
            self.watch()

    def _replace(self, previous: Run, wait: float | None) -> bool:
        run, before, expect = self._run, self._before, None
        if before is not None:
            expect, record = before[0], before[1] or {}
            number, last_seq = record.get("run", 0) + 1, record.get("last_seq", 0)
            run.continue_from(run.token, max(number, run.number), max(last_seq, run.log.last_seq))
            # The previous run is over, even if its last record is still on its way.
            if record.get("running") and expect != previous.token:
                return False
        try:
            return self._store.begin(run.owner, run.name, run.token, record_of(run), expect=expect, wait=wait)
        except BaseException:
            # The run may have begun: perhaps only the answer was lost.
            self.withdraw(previous)
            raise

    def withdraw(self, previous: Run, left: int = TRIES) -> None:
        """Restore the record that the store had before a run that was not accepted; later, if the store fails.

        Otherwise the task would read as queued until ``max_wait`` is over.
        """
        store, run, before = self._store, self._run, self._before
        try:
            if before is None:
                store.forget(run.owner, run.name, run.token)
            else:
                token, record = before
                # The store may have refused the last record of the previous run meanwhile.
                ended = token == previous.token and previous.status.is_final and not previous.is_remote
                if record is None or ended:
                    record = record_of(previous)
                store.begin(run.owner, run.name, token, record, expect=run.token)
        except Exception:  # noqa: BLE001 - it is logged
            if left == TRIES:
                get_logger().exception("The record of task %r could not be stored", run.name)
            if left > 1:
                publisher.call_later(INTERVAL, lambda: self.withdraw(previous, left - 1))

    def watch(self) -> None:
        """Store the record every ``INTERVAL`` and at the end of the run."""
        if not self._run.add_callback(self):
            self.publish()
        self._publish_later()

    def drop(self) -> None:
        """Store nothing more: the run was not accepted."""
        self._finish()
        with self._run.lock:
            self._run.callbacks = [each for each in self._run.callbacks if each is not self]

    def __call__(self, _: object) -> None:
        """Store the record of the run's end, unless ``settle()`` is about to."""
        if self._run.executing or not self._settles:
            self.publish()

    def _publish_later(self) -> None:
        """Store the record again, unless its last one is stored."""
        if self._left > 0:
            self._alarm = publisher.call_later(INTERVAL, self._publish_again)

    def _finish(self) -> None:
        self._left, alarm = 0, self._alarm
        if alarm is not None:
            alarm.cancel()

    def _publish_again(self) -> None:
        if self._left > 0 and not self.publish() and self._run.status.is_final:
            self._left -= 1
        self._publish_later()

    def publish(self) -> bool:
        """Store the record now, and cancel the run if the store says so. Return whether the store answered."""
        store, run = self._store, self._run
        try:
            while True:
                record = record_of(run)
                if self._settles and record["status"] == Status.QUEUED:
                    # A worker has claimed the run, and imports its function.
                    record["status"] = Status.RUNNING.value
                newest = store.publish(run.owner, run.name, run.token, record)
                # The run may have ended meanwhile. Then its last record is stored after this one, which may have
                # overwritten it.
                goes_on = record["running"] or record.get("returning", False)
                latch = run.done if record["running"] else run.value_ready
                if not (newest and goes_on and latch.is_set):
                    break
            if record["running"] and (not newest or store.cancel_requested(run.owner, run.name, run.token)):
                run.cancel(detach=True)
            if not goes_on:
                self._finish()
            self._failing = False
        except Exception:  # noqa: BLE001 - it is logged
            with run.lock:
                first, self._failing = not self._failing, True
            if first:
                get_logger().exception("The record of task %r could not be stored", run.name)
            return False
        return True

    def settle(self, timeout: float) -> bool:
        """Store the last record of a run that is over, with its value.

        Args:
            timeout: Seconds to keep trying if the store fails.

        Returns:
            Whether the record is stored.
        """
        end, pause = time.monotonic() + timeout, 0.05
        while not self.publish():
            if time.monotonic() + pause > end:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
        return True
