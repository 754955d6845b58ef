"""Executes the functions of sessions' tasks in this process, each with its session held."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from flask import Flask
from silo_store import Hold, Life, SessionExpired, SessionStore, StoreUnavailable, short
from silo_tasks import BackgroundTask, Cancelled

from .records import label_of
from .session import working_for

logger = logging.getLogger("flask_silo")

MAX_LOOKUPS = 3
"""How often a session is looked up if it gets another id just when its task begins."""


class TaskCall(NamedTuple):
    """What one run of a task calls."""

    name: str
    """The name of the task."""
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Executor:
    """Executes the functions of one application's tasks.

    Args:
        app: The application whose context a function runs in.
        store: The store of its sessions.
    """

    def __init__(self, app: Flask, store: SessionStore) -> None:
        self._app = app
        self._store = store

    def hold(self, life: Life) -> Hold:
        """Hold the session of a life, under whichever id it has now.

        Raises:
            SessionExpired: The life is over.
        """
        sid, uid = life
        for _ in range(MAX_LOOKUPS):
            with suppress(SessionExpired):
                hold = self._store.hold(sid)
                if hold.uid == uid:
                    hold.sids.add(life.sid)
                    return hold
                hold.release()
            record = self._store.attached(sid, uid)
            if record is None:
                break
            sid = record.sid
        raise SessionExpired(life.sid)

    def release(self, hold: Hold, name: str) -> None:
        """Release the hold of a task that has ended. If the store cannot be reached, the log says so."""
        try:
            hold.release()
        except StoreUnavailable as error:
            logger.warning("session %s was not renewed when its task %r ended: %s", short(hold.sid), name, error)

    def execute_sent(self, task: BackgroundTask, life: Life | None, call: TaskCall) -> Any:
        """Execute a run that another process has sent. Its session is held during the run.

        Args:
            task: The task, as this process reports it.
            life: The life of the session; None if processes do not share sessions.
            call: What to call.

        Raises:
            Cancelled: The session has ended.
        """
        if life is None:
            return self._call(None, call)
        try:
            hold = self.hold(life)
        except SessionExpired:
            raise Cancelled from None
        try:
            return self.execute(task, hold, call)
        finally:
            self.release(hold, call.name)

    def execute(self, task: BackgroundTask, hold: Hold, call: TaskCall) -> Any:
        """Execute a run whose session is held.

        Raises:
            Cancelled: The function raised, and the session has ended. The function is not at fault.
        """
        task.label = label_of(call.name, hold.sid)
        try:
            return self._call(hold, call)
        except Exception as error:
            if not self._has_ended(hold, error):
                raise
            kind = type(error).__name__
            logger.info("task %s was cancelled, as its session has ended (%s: %s)", task.label, kind, error)
            raise Cancelled from None
        finally:
            task.label = label_of(call.name, hold.sid)  # the session may have another id now

    def _has_ended(self, hold: Hold, error: Exception) -> bool:
        if isinstance(error, SessionExpired) and error.sid in {hold.sid, *hold.sids}:
            return True
        try:
            return self._store.attached(hold.sid, hold.uid) is None
        except StoreUnavailable:
            return False

    def _call(self, hold: Hold | None, call: TaskCall) -> Any:
        lock = self._store.locks.held(hold.sid) if hold is not None else None
        try:
            with working_for(self._store, hold), self._app.app_context():
                return call.function(*call.args, **call.kwargs)
        finally:
            # The task ran in a request that has the write lock. Its changes are saved even if the request fails.
            if lock is not None and lock.session is not None:
                self._store.write_back(lock.session, lock)
