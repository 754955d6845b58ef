"""What other processes see of a session's tasks: a record of each, kept in the session's own."""

from __future__ import annotations

import atexit
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass

from silo_store import Backend, Change, Life, Record, SessionConflict, SessionExpired, SessionStore
from silo_store.record import RESERVED
from silo_tasks import Status
from silo_tasks.store import Record as TaskRecord

LOST_AFTER = 15.0
"""Seconds after which a run that nothing was heard of counts as lost: its process was killed, or is cut off from the
store. A run that waits or works is heard of every half second."""

TRIES = 50
"""How often a change is tried again because another process changed the record meanwhile."""

_exiting = threading.Event()
# Before the runs that are left are asked to cancel: hooks that were registered last are called first.
atexit.register(_exiting.set)


@dataclass(frozen=True)
class Slot:
    """The newest run of a task, as it is stored."""

    token: str
    record: TaskRecord
    seen: float
    """When its process was last heard of, by the clock of the sessions."""
    cancel: bool = False
    """Whether somebody has asked it to stop."""

    @property
    def running(self) -> bool:
        """Whether it is queued or running, as far as it has said."""
        return bool(self.record.get("running"))

    def at(self, now: float) -> Slot:
        """Return what it is now: lost, where nothing was heard of it for too long."""
        if self.running and now - self.seen > LOST_AFTER:
            return self.lost("its process has ended or cannot reach the store")
        return self

    def lost(self, reason: str) -> Slot:
        """Return it failed."""
        error = f"lost: {reason}"
        steps = [
            {**step, "status": "failed"} if step["status"] == "running" else step
            for step in self.record.get("steps", ())
        ]
        record = {
            **self.record,
            "running": False,
            "status": Status.FAILED.value,
            "message": f"Failed: {error}",
            "error": error,
            "error_type": "TaskLost",
            "finished_at": self.seen,
            "steps": steps,
            "rate": None,
            "eta": None,
        }
        return Slot(self.token, record, self.seen, self.cancel)


def slot_in(record: Record, name: str) -> Slot | None:
    """Return what a session's record says of the newest run of a task; None where there is none."""
    blob = record.get(RESERVED + name)
    return Slot(**json.loads(blob.data)) if blob is not None and blob.data else None


def find_life(backend: Backend, life: Life) -> Record | None:
    """Return the record of a life, also where its session has another id by now. None where it is over."""
    sid, uid = life
    tried = set()
    while sid not in tried:
        tried.add(sid)
        record = backend.peek(sid)
        if record is not None and record.uid == uid:
            return record
        sid = backend.find(uid) or sid
    return None


class TaskRecords:
    """A `silo_tasks.TaskStore` for one task of one session, whose backend keeps copies. The owner is the uid.

    It is written without a turn, by compare-and-set: it never waits for a request, nor a request for it.

    Attributes:
        token: the newest run that began here.
        settled: whether the end of that run was stored, or cannot be at the moment.
    """

    def __init__(self, store: SessionStore, sid: str) -> None:
        self._store = store
        self._sid = sid
        self.token: str | None = None
        self.settled = threading.Event()

    def begin(self, owner: str, name: str, token: str, record: TaskRecord, *, expect: str | None) -> bool:
        """Make `token` the newest run if the newest one still is `expect`."""

        def change(slot: Slot | None, now: float) -> Slot | bool:
            return Slot(token, record, now) if (slot.token if slot is not None else None) == expect else False

        begun = self._change(owner, name, change)
        if begun:
            self.token = token
        return begun

    def publish(self, owner: str, name: str, token: str, record: TaskRecord) -> bool:
        """Replace the record if `token` is the newest run; the one of its end stays."""

        def change(slot: Slot | None, now: float) -> Slot | bool:
            if slot is None or slot.token != token:
                return False
            new = Slot(token, record, now, slot.cancel)
            if new.running and not slot.running:
                return True
            if _exiting.is_set() and record.get("status") == Status.CANCELLED and not slot.cancel:
                return new.lost("its process was stopped")
            return new

        try:
            return self._change(owner, name, change)
        finally:
            if not record.get("running"):
                self.settled.set()

    def read(self, owner: str, name: str) -> tuple[str, TaskRecord] | None:
        """The token and the record of the newest run, or None."""
        record = self._find(owner)
        slot = slot_in(record, name) if record is not None else None
        return (slot.token, slot.at(self._store.moment().now).record) if slot is not None else None

    def request_cancel(self, owner: str, name: str, token: str) -> bool:
        """Raise the cancel flag if `token` is the newest run."""

        def change(slot: Slot | None, now: float) -> Slot | bool:  # noqa: ARG001
            if slot is None or slot.token != token:
                return False
            return slot.cancel or Slot(token, slot.record, slot.seen, cancel=True)

        return self._change(owner, name, change)

    def cancel_requested(self, owner: str, name: str, token: str) -> bool:
        """Whether the flag is up or the run is no longer the newest."""
        record = self._find(owner)
        slot = slot_in(record, name) if record is not None else None
        return slot is None or slot.token != token or slot.cancel

    def forget(self, owner: str, name: str, token: str) -> bool:
        """Delete the record if `token` is the newest run."""
        return self._change(owner, name, lambda slot, _: None if slot is not None and slot.token == token else False)

    def _find(self, uid: str) -> Record | None:
        holds = self._store.holds.of(uid)
        if holds:
            self._sid = holds[-1].sid
        record = find_life(self._store.backend, Life(self._sid, uid))
        if record is not None and record.sid != self._sid:
            self._sid = record.sid
            for hold in holds:
                hold.sid = record.sid
        return record

    def _change(self, uid: str, name: str, change: Callable[[Slot | None, float], Slot | bool | None]) -> bool:
        """Store what `change` makes of what is there: a slot, or None for nothing. A bool is the answer by itself.

        Raises:
            SessionConflict: others changed it all the time.
            StoreUnavailable: the backend cannot be reached.
        """
        key = RESERVED + name
        for left in reversed(range(TRIES)):
            record = self._find(uid)
            if record is None:
                return False
            at = self._store.moment()
            new = change(slot_in(record, name), at.now)
            if isinstance(new, bool):
                return new
            blob = record.get(key)
            data = json.dumps(vars(new)).encode() if new is not None else b""
            changes = {key: Change(blob.version if blob is not None else 0, data)}
            try:
                self._store.backend.write(Life(record.sid, uid), changes, at)
                return True
            except SessionConflict:
                if not left:
                    raise
            except SessionExpired:  # over, or moved to another id just now
                pass
        return False
