"""The records of a session's tasks, which are attached to the session and which every process can read."""

from __future__ import annotations

import atexit
import json
import threading

from silo_store import (
    Change,
    Life,
    Record,
    SessionConflict,
    SessionExpired,
    SessionStore,
    StateDecodeError,
    short,
)
from silo_tasks import RunChange, Status, StoredRun, TaskRecord, TaskStore, default_runner

PREFIX = "task:"
"""The prefix of the names under which the records of tasks are attached to their session."""

MAX_ATTEMPTS = 50
"""How often a change is tried if other processes change the record at the same time."""

_exiting = threading.Event()
default_runner()  # silo-tasks has now registered the function that cancels the remaining runs at exit
# Called before that one: the function that was registered last is called first.
atexit.register(_exiting.set)


def label_of(name: str, sid: str) -> str:
    """Return what the log calls the task of a session."""
    return f"{name!r} of session {short(sid)}"


def stored_run(record: Record, name: str) -> StoredRun | None:
    """Return the newest run of a task from the record of its session; None if no run is stored.

    Raises:
        StateDecodeError: The record of the task is damaged.
    """
    blob = record.get(PREFIX + name)
    try:
        return StoredRun.from_dict(json.loads(blob.data)) if blob is not None and blob.data else None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise StateDecodeError(record.sid, PREFIX + name, "", "it is not the record of a task") from None


class TaskRecords(TaskStore):
    """The ``silo_tasks.TaskStore`` of one session; the owner is its uid. Used where sessions are kept as copies.

    A record is written by compare-and-set, without the session's write lock, so neither a request nor a task waits.

    Args:
        store: The store of the session.
        sid: The id of the session. A session that is rotated is found under its new id.

    Attributes:
        token: The token of the newest run that began with these records.
        settled: Set once the end of that run is stored, or storing it has failed.
    """

    def __init__(self, store: SessionStore, sid: str) -> None:
        self._store = store
        self._sid = sid
        self.token: str | None = None
        self.settled: threading.Event = threading.Event()

    def begin(
        self, owner: str, name: str, token: str, record: TaskRecord, *, expect: str | None, wait: float | None = None
    ) -> bool:
        """Make a run the newest one, if the token of the newest one still is ``expect``."""
        begun = super().begin(owner, name, token, record, expect=expect, wait=wait)
        if begun:
            self.token = token
        return begun

    def publish(self, owner: str, name: str, token: str, record: TaskRecord) -> bool:
        """Replace the record of a run, if it is the newest run. The first record of its end stays."""
        if _exiting.is_set() and record.get("status") == Status.CANCELLED:
            stored, now = self.look(owner, name)
            if stored is not None and not stored.cancel:
                record = StoredRun(token, record, now).lost("its process was stopped").record
        try:
            return super().publish(owner, name, token, record)
        finally:
            if not record.get("running"):
                self.settled.set()

    def look(self, owner: str, name: str) -> tuple[StoredRun | None, float]:
        """Return the stored run of a task, None if there is none, and the time by the clock of the session store."""
        record = self._find(owner)
        return stored_run(record, name) if record is not None else None, self._store.moment().now

    def label(self, owner: str, name: str) -> str:  # noqa: ARG002
        """Return what the log calls a task."""
        return label_of(name, self._sid)

    def _find(self, uid: str) -> Record | None:
        record = self._store.attached(self._sid, uid)
        if record is not None:
            self._sid = record.sid
        return record

    def change(self, owner: str, name: str, change: RunChange) -> bool:
        """Replace the stored run of a task with the one that ``change`` returns.

        Raises:
            SessionConflict: Other processes changed the record at each attempt.
            StoreUnavailable: The store cannot be reached.
        """
        key = PREFIX + name
        for left in reversed(range(MAX_ATTEMPTS)):
            record = self._find(owner)
            if record is None:
                return False
            new = change(stored_run(record, name), self._store.moment().now)
            if isinstance(new, bool):
                return new
            blob = record.get(key)
            data = json.dumps(new.to_dict()).encode() if new is not None else b""
            version = blob.version if blob is not None else 0
            try:
                self._store.attach(Life(record.sid, owner), key, Change(version, data))
                return True
            except SessionConflict:
                if not left:
                    raise
            except SessionExpired:  # the session has just ended or been rotated
                pass
        return False
