"""The seam beside a task: where its record is published for watchers elsewhere."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

Record = dict[str, Any]
"""`TaskState.to_dict()` of a run, and what only `result()` and `logs()` need: plain values that JSON can hold."""


@runtime_checkable
class TaskStore(Protocol):
    """Task records by (owner, name), each under the token of its newest run.

    Every write names a token and is refused when a newer run has begun, so a run that was given up can never overwrite
    its successor. A task whose newest record says `running` is not started elsewhere. A living run is published twice a
    second; what has not been for the lease of the store (15 seconds) is read as failed, with `TaskLost`, so that a run
    whose process was killed is never running for ever. If it is heard of after all, and no newer run has begun, it goes
    on; a task that has seen it fail stays with that. A run that lies in an engine's queue is published by nobody until
    a worker claims it, and for that it has its own time.

    All methods are atomic and may be called from any thread; a record is copied in and out. The rules are in
    `silo_tasks.testing.TaskStoreContract`, and `SlotStore` has them all: a store derived from it needs
    a look and an atomic change.
    """

    def begin(
        self, owner: str, name: str, token: str, record: Record, *, expect: str | None, wait: float | None = None
    ) -> bool:
        """Make `token` the newest run, if the newest one still is `expect` (None: there is no record).

        This is compare-and-set: of two that start the same task at once, one gets False. The cancel flag is cleared.
        `wait` is for a run that a worker elsewhere shall claim: the seconds it may wait for that.
        """

    def claim(self, owner: str, name: str, token: str) -> bool:
        """Take a run that waits for a worker, if `token` is the newest run and nobody has asked it to stop.

        True once: of two workers that were sent the same run, one gets False, and so does one that is sent it again.
        """

    def publish(self, owner: str, name: str, token: str, record: Record) -> bool:
        """Replace the record, if `token` is the newest run; whether it was. The record of its end stays."""

    def read(self, owner: str, name: str) -> tuple[str, Record] | None:
        """The token and the record of the newest run, or None."""

    def request_cancel(self, owner: str, name: str, token: str) -> bool:
        """Raise the cancel flag, if `token` is the newest run; whether it was.

        A run that waits for a worker is cancelled by that.
        """

    def cancel_requested(self, owner: str, name: str, token: str) -> bool:
        """Whether the run should stop: its flag is up, or it is no longer the newest."""

    def forget(self, owner: str, name: str, token: str) -> bool:
        """Delete the record, if `token` is the newest run; whether it was."""
