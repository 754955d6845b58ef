"""``StoredRun``: the newest run of a task, as a task store keeps it."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from ..status import RUNNING, Status

TaskRecord: TypeAlias = dict[str, Any]
"""``TaskState.to_dict()`` of a run, and what ``result()`` and ``logs()`` need besides: plain values for JSON."""

LEASE = 15.0
"""Seconds without a report after which a run counts as lost: its process was killed, or is cut off from the store. A
living run reports every half second."""


class StoredRun(NamedTuple):
    """The newest run of a task, as a task store keeps it."""

    token: str
    """The name of the run, which no other run has."""
    record: TaskRecord
    """The state that the run reported last."""
    seen: float
    """When the run reported last, in seconds since the epoch by the store's clock."""
    wait: float | None = None
    """Seconds from ``seen`` for which the run may wait in a task queue until a worker claims it. None once a worker has
    claimed it, and for a run that never leaves its process."""
    cancel: bool = False
    """Whether the run was asked to stop."""
    loss_logged: bool = False
    """Whether a process has logged that the run is lost."""

    @property
    def running(self) -> bool:
        """Whether the run is queued or running, by its last report."""
        return bool(self.record.get("running"))

    def at(self, now: float, lease: float = LEASE) -> "StoredRun":
        """Return the run as it stands at the time ``now``: failed as lost, if its last report is too old."""
        if now - self.seen <= (lease if self.wait is None else self.wait):
            return self
        if self.running and self.wait is None:
            return self.lost("its process has ended or cannot reach the store")
        if self.running:
            return self.lost(f"no worker has taken it in {self.wait:g} seconds")
        if self.record.get("returning"):
            # The run has called ``complete()``, and the value of its function will never come.
            return self._replace(record={**self.record, "returning": False})
        return self

    def lost(self, reason: str) -> "StoredRun":
        """Return the run, failed with ``TaskLost``."""
        return self.failed(f"lost: {reason}", "TaskLost")

    def failed(self, error: str, error_type: str | None) -> "StoredRun":
        """Return the run, failed at the time of its last report.

        Clients may read that a run is lost, but not an error of the task queue.
        """
        public = error_type == "TaskLost"
        return self._over(
            self.seen, Status.FAILED, f"Failed: {error}", error=error, error_type=error_type, error_public=public
        )

    def claimed(self, now: float) -> "StoredRun":
        """Return the run, claimed by a worker."""
        begun = {**self.record, "status": Status.RUNNING.value, "message": RUNNING}
        return self._replace(record=begun, seen=now, wait=None)

    def cancelled(self, now: float) -> "StoredRun":
        """Return the run with its cancel flag set. A run that no worker has claimed is cancelled by that."""
        asked = self._replace(cancel=True)
        waits = self.wait is not None and self.at(now).running
        return asked._over(now, Status.CANCELLED, "Cancelled") if waits else asked

    def _over(self, finished_at: float, status: Status, message: str, **more: Any) -> "StoredRun":
        steps = [
            {**step, "status": "failed"} if step["status"] == "running" else step
            for step in self.record.get("steps", ())
        ]
        over = {"running": False, "status": status.value, "message": message, "finished_at": finished_at}
        return self._replace(record={**self.record, **over, "steps": steps, "rate": None, "eta": None, **more})

    def to_dict(self) -> dict[str, Any]:
        """Return the run as plain values, for ``from_dict()``."""
        return self._asdict()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "StoredRun":
        """Return the run from the values that ``to_dict()`` returned. Unknown keys of a newer release are ignored."""
        return cls(**{name: values[name] for name in cls._fields if name in values})
