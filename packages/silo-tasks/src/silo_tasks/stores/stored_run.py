"""What a task store keeps of a task: its newest run, and how that may change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..run.loss import reason_of, tell_loss
from ..status import RUNNING, Status
from .base import Record

LEASE = 15.0
"""Seconds after which a run that nothing was heard of counts as lost: its process was killed, or is cut off from the
store. A living one is heard of every half second."""


@dataclass(frozen=True)
class Slot:
    """The newest run of a task, as it is stored."""

    token: str
    record: Record
    seen: float
    """When it was last heard of, in seconds since the epoch by the store's clock."""
    wait: float | None = None
    """Seconds from `seen` for which it may lie in an engine's queue until a worker claims it; None once one has, and
    for a run that never leaves its process."""
    cancel: bool = False
    """Whether somebody has asked it to stop."""
    told: bool = False
    """Whether a process has logged that the run is lost."""

    @property
    def running(self) -> bool:
        """Whether it is queued or running, as far as it has said."""
        return bool(self.record.get("running"))

    def at(self, now: float, lease: float = LEASE) -> Slot:
        """Return what it is now: lost, where nothing was heard of it for too long."""
        if now - self.seen <= (lease if self.wait is None else self.wait):
            return self
        if self.running and self.wait is None:
            return self.lost("its process has ended or cannot reach the store")
        if self.running:
            return self.lost(f"no worker has taken it in {self.wait:g} seconds")
        if self.record.get("returning"):
            # It called `complete()`, and what it would have returned will never come.
            return replace(self, record={**self.record, "returning": False})
        return self

    def lost(self, reason: str) -> Slot:
        """Return it failed."""
        return self.failed(f"lost: {reason}", "TaskLost")

    def failed(self, error: str, error_type: str | None) -> Slot:
        """Return it failed, ended when it last reported. Clients may read a loss, but not an error of the engine."""
        public = error_type == "TaskLost"
        return self._over(
            self.seen, Status.FAILED, f"Failed: {error}", error=error, error_type=error_type, error_public=public
        )

    def claimed(self, now: float) -> Slot:
        """Return it taken by a worker."""
        begun = {**self.record, "status": Status.RUNNING.value, "message": RUNNING}
        return replace(self, record=begun, seen=now, wait=None)

    def cancelled(self, now: float) -> Slot:
        """Return it with the cancel flag up; where no worker has it yet, it is over."""
        asked = replace(self, cancel=True)
        waits = self.wait is not None and self.at(now).running
        return asked._over(now, Status.CANCELLED, "Cancelled") if waits else asked

    def _over(self, finished_at: float, status: Status, message: str, **more: Any) -> Slot:
        steps = [
            {**step, "status": "failed"} if step["status"] == "running" else step
            for step in self.record.get("steps", ())
        ]
        over = {"running": False, "status": status.value, "message": message, "finished_at": finished_at}
        return replace(self, record={**self.record, **over, "steps": steps, "rate": None, "eta": None, **more})

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values; `from_dict()` makes it a slot again."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Slot:
        """Make a slot of what `to_dict()` gave; what only a newer release knows is left out."""
        return cls(**{each.name: values[each.name] for each in fields(cls) if each.name in values})


Change = Callable[[Slot | None, float], "Slot | bool | None"]
"""Makes of what is stored, and of the time, what shall be stored: a slot, or None for nothing. A bool says that nothing
changes, and is the answer."""


class SlotStore(ABC):
    """A `TaskStore` made of one look and one atomic change.

    Attributes:
        lease: seconds after which a run that nothing was heard of reads as lost.
    """

    lease = LEASE

    @abstractmethod
    def look(self, owner: str, name: str) -> tuple[Slot | None, float]:
        """Return what is stored of a task, and the time by the store's clock."""

    @abstractmethod
    def change(self, owner: str, name: str, change: Change) -> bool:
        """Store what `change` makes of what is stored, in one step, and return True; or the bool that it returns.

        It may be called several times, when somebody else was faster.
        """

    def begin(
        self, owner: str, name: str, token: str, record: Record, *, expect: str | None, wait: float | None = None
    ) -> bool:
        """Make `token` the newest run if the newest one still is `expect`."""

        def begun(slot: Slot | None, now: float) -> Slot | bool:
            if (slot.token if slot is not None else None) != expect:
                return False
            return Slot(token, record, now, wait)

        return self.change(owner, name, begun)

    def claim(self, owner: str, name: str, token: str) -> bool:
        """Take the run out of its queue, once."""

        def taken(slot: Slot | None, now: float) -> Slot | bool:
            if slot is None or slot.token != token or slot.wait is None:
                return False
            return slot.claimed(now) if slot.at(now, self.lease).running and not slot.cancel else False

        return self.change(owner, name, taken)

    def publish(self, owner: str, name: str, token: str, record: Record) -> bool:
        """Replace the record if `token` is the newest run; what is over stays over."""

        def published(slot: Slot | None, now: float) -> Slot | bool:
            if slot is None or slot.token != token:
                return False
            if _stage(record) < _stage(slot.record) or _stage(slot.record) == _OVER:
                return True
            # A worker has it, also where the note of that was lost, as when a server that lags behind has taken over.
            return replace(slot, record=record, seen=now, wait=None)

        return self.change(owner, name, published)

    def read(self, owner: str, name: str) -> tuple[str, Record] | None:
        """The token and the record of the newest run, or None."""
        slot, now = self.look(owner, name)
        return None if slot is None else (slot.token, self.seen(owner, name, slot, now).record)

    def seen(self, owner: str, name: str, slot: Slot, now: float) -> Slot:
        """Return what a stored slot is now. The first process that finds its run lost logs that."""
        shown = slot.at(now, self.lease)
        if slot.running and not shown.running and not slot.told:
            reason = reason_of(shown.record["error"])
            if slot.wait is None:
                reason = f"no sign of life for {now - slot.seen:.0f} seconds: {reason}"
            self.tell_loss(owner, name, slot.token, reason, seen=slot.seen)
        return shown

    def tell_loss(
        self, owner: str, name: str, token: str, reason: str, *, label: str | None = None, seen: float | None = None
    ) -> None:
        """Log that a run is lost, unless another process has: the process that can note it in the store logs it.

        Args:
            owner: Whose task it is.
            name: Name of the task.
            token: Names the run.
            reason: What ended it.
            label: What the log calls the task; by default what `label()` says.
            seen: When the run was last seen, if a reader found it lost by that; None if it is certainly over.
        """

        def noted(slot: Slot | None, now: float) -> Slot | bool:  # noqa: ARG001
            if slot is None or slot.token != token or slot.told or (seen is not None and slot.seen != seen):
                return False
            if not slot.running and slot.record.get("error_type") != "TaskLost":
                # It has come to its end after all.
                return False
            return replace(slot, told=True)

        try:
            if not self.change(owner, name, noted):
                return
        except Exception:  # noqa: BLE001 - whatever a store raises that cannot be reached
            if seen is not None:
                # The reader has what it wanted, and the next one tries again.
                return
        tell_loss(label if label is not None else self.label(owner, name), token, reason)

    def label(self, owner: str, name: str) -> str:  # noqa: ARG002
        """Return what the log calls a task."""
        return repr(name)

    def request_cancel(self, owner: str, name: str, token: str) -> bool:
        """Raise the cancel flag if `token` is the newest run; one that waits for a worker is over at once."""

        def asked(slot: Slot | None, now: float) -> Slot | bool:
            if slot is None or slot.token != token:
                return False
            return slot.cancel or slot.cancelled(now)

        return self.change(owner, name, asked)

    def cancel_requested(self, owner: str, name: str, token: str) -> bool:
        """Whether the flag is up or the run is no longer the newest."""
        slot, _ = self.look(owner, name)
        return slot is None or slot.token != token or slot.cancel

    def forget(self, owner: str, name: str, token: str) -> bool:
        """Delete the record if `token` is the newest run."""

        def forgotten(slot: Slot | None, now: float) -> bool | None:  # noqa: ARG001
            return None if slot is not None and slot.token == token else False

        return self.change(owner, name, forgotten)


_OVER = 2


def _stage(record: Record) -> int:
    """How far a run is: 0 until it is over, 1 until it has returned as well."""
    return 0 if record.get("running") else 1 if record.get("returning") else _OVER
