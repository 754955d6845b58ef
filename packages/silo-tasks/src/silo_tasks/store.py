"""The seam beside a task: where its record is published for watchers elsewhere."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

Record = dict[str, Any]
"""`TaskState.to_dict()` of a run: plain values that JSON can hold."""


@runtime_checkable
class TaskStore(Protocol):
    """Task records by (owner, name), each under the token of its newest run.

    Every write names a token and is refused when a newer run has begun, so a run that was given up can never overwrite
    its successor. A task whose newest record says `running` is not started elsewhere. A store that processes share
    reads a record that has not been published for a while as failed, as a living run is published twice a second:
    otherwise what a process that died has left as running would stay so until `forget()`.

    All methods are atomic and may be called from any thread; a record is copied in and out. The rules
    are in `silo_tasks.testing.TaskStoreContract`.
    """

    def begin(self, owner: str, name: str, token: str, record: Record, *, expect: str | None) -> bool:
        """Make `token` the newest run, if the newest one still is `expect` (None: there is no record).

        This is compare-and-set: of two that start the same task at once, one gets False. The cancel flag is cleared.
        """

    def publish(self, owner: str, name: str, token: str, record: Record) -> bool:
        """Replace the record, if `token` is the newest run; whether it was."""

    def read(self, owner: str, name: str) -> tuple[str, Record] | None:
        """The token and the record of the newest run, or None."""

    def request_cancel(self, owner: str, name: str, token: str) -> bool:
        """Raise the cancel flag, if `token` is the newest run; whether it was."""

    def cancel_requested(self, owner: str, name: str, token: str) -> bool:
        """Whether the run should stop: its flag is up, or it is no longer the newest."""

    def forget(self, owner: str, name: str, token: str) -> bool:
        """Delete the record, if `token` is the newest run; whether it was."""
