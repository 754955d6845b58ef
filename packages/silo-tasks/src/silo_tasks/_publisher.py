"""Keeps the record of a run in a task store up to date, and its cancel flag in sight."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from silo_tasks._snapshot import state_of
from silo_tasks._timer import publisher
from silo_tasks.errors import TaskRunning

if TYPE_CHECKING:
    from silo_tasks._run import Run
    from silo_tasks.store import TaskStore

logger = logging.getLogger("silo_tasks")

INTERVAL = 0.5
"""Seconds between two records of a running task."""


def begin(store: TaskStore, run: Run) -> None:
    """Make the run the newest one in the store.

    Raises:
        TaskRunning: Another process started the task in the same moment.
    """
    newest = store.read(run.owner, run.name)
    expect = None if newest is None else newest[0]
    if not store.begin(run.owner, run.name, run.token, state_of(run).to_dict(), expect=expect):
        raise TaskRunning(f"task {run.name!r} was started elsewhere")


def watch(store: TaskStore, run: Run) -> None:
    """Store the record every `INTERVAL` and at the end of the run."""
    if not run.add_callback(lambda _: publish(store, run)):
        publish(store, run)
    elif not run.status.is_final:
        publisher.call_later(INTERVAL, lambda: _again(store, run))


def _again(store: TaskStore, run: Run) -> None:
    publish(store, run)
    if not run.status.is_final:
        publisher.call_later(INTERVAL, lambda: _again(store, run))


def publish(store: TaskStore, run: Run) -> None:
    """Store the record now, and cancel the run if the store says so. A store that fails harms nobody."""
    try:
        while True:
            state = state_of(run)
            newest = store.publish(run.owner, run.name, run.token, state.to_dict())
            # The run may have ended meanwhile, and its last record must not be overwritten by this one.
            if not (newest and state.running and run.status.is_final):
                break
        if state.running and (not newest or store.cancel_requested(run.owner, run.name, run.token)):
            run.cancel()
    except Exception:
        logger.exception("The record of task %r could not be stored", run.name)
