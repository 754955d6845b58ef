"""``TaskStore``, the interface to the place where other processes find the newest run of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from ..loss import log_loss, reason_of
from .stored_run import LEASE, StoredRun, TaskRecord

RunChange: TypeAlias = Callable[[StoredRun | None, float], "StoredRun | bool | None"]
"""Called with the stored run of a task, or None, and the time. Returns the run to store, or None to delete it. A bool
changes nothing and is the result of ``change()``."""


class TaskStore(ABC):
    """Keeps the newest run of each task, by owner and name.

    To implement a store, write ``look()`` and ``change()``; all other methods use these two. Both may be called from
    any thread. The store keeps a copy: a caller may change a record that it has passed in, or that ``read()`` has
    returned. The rules are in ``silo_tasks.testing.TaskStoreContract``.

    Every write names the token of a run and is refused once a newer run has begun, so a run that was given up can never
    overwrite its successor. A task whose stored run is queued or running is not started in another process. A running
    task stores its record twice a second. A run without a new record for ``lease`` seconds reads as failed, with
    ``TaskLost``, so that a run whose process was killed does not read as running for ever. If its process reports
    again, and no newer run has begun, the run reads as running again; a task that has seen it fail stays failed. A run
    that waits in a task queue reports nothing until a worker claims it; its ``wait`` limits that time.

    Attributes:
        lease: Seconds without a report after which a run reads as lost.
    """

    lease = LEASE

    @abstractmethod
    def look(self, owner: str, name: str) -> tuple[StoredRun | None, float]:
        """Return the stored run of a task, or None, and the store's time in seconds since the epoch.

        Raises:
            RunnerUnavailable: The store cannot be reached.
        """

    @abstractmethod
    def change(self, owner: str, name: str, change: RunChange) -> bool:
        """Replace the stored run of a task by what ``change`` returns, in one atomic step.

        Args:
            owner: The owner of the task.
            name: The name of the task.
            change: Called with the stored run and the time, and called again if another process was faster.

        Returns:
            True if something was stored or deleted; otherwise the bool that ``change`` returned.

        Raises:
            RunnerUnavailable: The store cannot be reached.
        """

    def begin(
        self, owner: str, name: str, token: str, record: TaskRecord, *, expect: str | None, wait: float | None = None
    ) -> bool:
        """Make a run the newest one, if the newest one still is ``expect``.

        This is a compare-and-set: of two processes that start the same task at once, one gets False.

        Args:
            owner: The owner of the task.
            name: The name of the task.
            token: The token of the run that begins.
            record: The first record of that run.
            expect: The token of the previous run; None if nothing is stored.
            wait: Seconds that the run may wait for a worker to claim it; None for a run that needs no worker.

        Returns:
            Whether the run has begun.
        """

        def begun(stored: StoredRun | None, now: float) -> StoredRun | bool:
            if (stored.token if stored is not None else None) != expect:
                return False
            return StoredRun(token, record, now, wait)

        return self.change(owner, name, begun)

    def claim(self, owner: str, name: str, token: str) -> bool:
        """Take a run that waits for a worker, if it is the newest run and was not asked to stop.

        Returns:
            Whether the caller should execute the run. True only once, so a message that is delivered twice, or to two
            workers, executes the run once.
        """

        def claimed(stored: StoredRun | None, now: float) -> StoredRun | bool:
            if stored is None or stored.token != token or stored.wait is None:
                return False
            return stored.claimed(now) if stored.at(now, self.lease).running and not stored.cancel else False

        return self.change(owner, name, claimed)

    def publish(self, owner: str, name: str, token: str, record: TaskRecord) -> bool:
        """Replace the record of a run, if it is the newest run. The first record of its end stays.

        Returns:
            Whether the run is the newest one.
        """

        def published(stored: StoredRun | None, now: float) -> StoredRun | bool:
            if stored is None or stored.token != token:
                return False
            if _stage(record) < _stage(stored.record) or _stage(stored.record) == _OVER:
                return True
            # A worker has claimed the run. The claim may be lost, as after a failover to a server that lagged behind.
            return stored._replace(record=record, seen=now, wait=None)

        return self.change(owner, name, published)

    def read(self, owner: str, name: str) -> tuple[str, TaskRecord] | None:
        """Return the token and the record of the newest run; None if nothing is stored."""
        stored, now = self.look(owner, name)
        return None if stored is None else (stored.token, self.current(owner, name, stored, now).record)

    def current(self, owner: str, name: str, stored: StoredRun, now: float) -> StoredRun:
        """Return a stored run as it stands at the time ``now``. The first process that finds the run lost logs that."""
        shown = stored.at(now, self.lease)
        if stored.running and not shown.running and not stored.loss_logged:
            reason = reason_of(shown.record["error"])
            if stored.wait is None:
                reason = f"no sign of life for {now - stored.seen:.0f} seconds: {reason}"
            self.log_loss(owner, name, stored.token, reason, seen=stored.seen)
        return shown

    def log_loss(
        self, owner: str, name: str, token: str, reason: str, *, label: str | None = None, seen: float | None = None
    ) -> None:
        """Log that a run is lost, unless another process has logged it. The store remembers that.

        Args:
            owner: The owner of the task.
            name: The name of the task.
            token: The token of the run.
            reason: What ended the run.
            label: The task's name in the log; by default the result of ``label()``.
            seen: The time of the run's last report, if the run was found lost by that; None if it is certainly over.
        """

        def noted(stored: StoredRun | None, now: float) -> StoredRun | bool:  # noqa: ARG001
            if stored is None or stored.token != token or stored.loss_logged:
                return False
            if seen is not None and stored.seen != seen:
                return False
            if not stored.running and stored.record.get("error_type") != "TaskLost":
                # The run has reported its end after all.
                return False
            return stored._replace(loss_logged=True)

        try:
            if not self.change(owner, name, noted):
                return
        except Exception:  # noqa: BLE001 - a store that cannot be reached may raise anything
            if seen is not None:
                # The next reader tries again.
                return
        log_loss(label if label is not None else self.label(owner, name), token, reason)

    def label(self, owner: str, name: str) -> str:  # noqa: ARG002
        """Return the name of a task in the log."""
        return repr(name)

    def request_cancel(self, owner: str, name: str, token: str) -> bool:
        """Set the cancel flag of a run, if it is the newest run. A run that waits for a worker is cancelled at once.

        Returns:
            Whether the run is the newest one.
        """

        def asked(stored: StoredRun | None, now: float) -> StoredRun | bool:
            if stored is None or stored.token != token:
                return False
            return stored.cancel or stored.cancelled(now)

        return self.change(owner, name, asked)

    def cancel_requested(self, owner: str, name: str, token: str) -> bool:
        """Return whether a run should stop: its cancel flag is set, or it is no longer the newest run."""
        stored, _ = self.look(owner, name)
        return stored is None or stored.token != token or stored.cancel

    def forget(self, owner: str, name: str, token: str) -> bool:
        """Delete the record of a run, if it is the newest run.

        Returns:
            Whether it was deleted.
        """

        def forgotten(stored: StoredRun | None, now: float) -> bool | None:  # noqa: ARG001
            return None if stored is not None and stored.token == token else False

        return self.change(owner, name, forgotten)


_OVER = 2


def _stage(record: TaskRecord) -> int:
    """Return the stage of a run: 0 while it runs, 1 after ``complete()`` until its function returns, 2 at the end."""
    return 0 if record.get("running") else 1 if record.get("returning") else _OVER
