"""The worker's side of a run that another process has started."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import TaskError, TaskFailed, TaskLost
from ..loss import reason_of, short
from ..run.failure import FAILED
from ..run.publishing import Publication
from ..stores.base import TaskStore
from ..stores.stored_run import StoredRun
from ..task import BackgroundTask
from .inline import InlineRunner
from .message import Message, resolve

logger = logging.getLogger("silo_tasks")

PATIENCE = 60.0
"""Seconds for which a worker tries to reach a task store, to claim a run or to store how it ended."""


def execute(
    message: Message,
    store: TaskStore | None = None,
    *,
    problem: Exception | None = None,
    ended: Callable[[BaseException], TaskFailed | None] = lambda _: None,
) -> bool:
    """Execute a run that was sent here, to its end. Workers of all task queues call this function.

    The run is claimed first, so that a message that is delivered twice, or whose run was cancelled, does nothing. The
    record of a running run is stored twice a second, and a cancel by another process is seen then. The deadline counts
    from the call of the function. The record holds the error of a function that raises, or cannot be imported.

    Args:
        message: The message of the run.
        store: The task store. A function with an attribute ``open_store`` brings its own, which ``open_store(message)``
            returns. Such a function should be cheap to import, because it is imported before the run is claimed.
        problem: The error of a message that cannot be used, for example because its arguments cannot be read. The run
            fails with it.
        ended: Called with the exception that ended the run. Returns the error with which the run fails, if the task
            queue has ended it by that exception; None for an exception of the run's own code.

    Returns:
        Whether the run was executed here.

    Raises:
        TaskError: The message has no task store, or the function that opens it cannot be imported.
        SystemExit: The task queue ended the run with it. The run has failed, and the worker still has to exit.
        Exception: The store could not be reached for ``PATIENCE`` seconds. The run stays as it is.
    """
    store = _store_of(message, store)
    if not _claim(store, message):
        logger.info("A message of task %r was ignored: its run is executed by another worker or over", message.name)
        return False
    task = BackgroundTask(
        message.name,
        timeout=message.timeout,
        max_logs=message.max_logs,
        runner=InlineRunner(),
        store=store,
        owner=message.owner,
    )
    exits: list[SystemExit] = []

    def target(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            failed = ended(error)
            if failed is None:
                raise
            if isinstance(error, SystemExit):
                exits.append(error)
            raise failed from error

    run = task._adopt(message, target)
    publication = Publication(store, run, settles=True)
    publication.watch()
    # After the claim and the first record, because the import may take long or kill the worker. Not within the run:
    # context variables that a module sets, as decimal does, would end with the run.
    function = _loaded(message.function) if problem is None else _raising(problem)
    run.execute()
    if not publication.settle(PATIENCE):
        logger.error("The end of a run of task %r could not be stored", message.name)
    if exits:
        raise SystemExit(exits[0].code)
    return True


def fail(message: Message, store: TaskStore | None, error: TaskFailed) -> bool:
    """Fail a run of which the task queue reports that no worker will finish it.

    Args:
        message: The message of the run. Arguments that cannot be read may be left out.
        store: The task store; see ``execute()``.
        error: The error with which the run fails.

    Returns:
        Whether the run was queued or running, and has failed now. If the store cannot be opened or reached, the run
        stays as it is, and the problem is logged.
    """
    try:
        store = _store_of(message, store)
        found = store.read(message.owner, message.name)
        if found is None or found[0] != message.token or not found[1].get("running"):
            return False
        failed = StoredRun(*found, time.time()).failed(error.error, error.error_type)
        if not isinstance(error, TaskLost):
            logger.error(FAILED, store.label(message.owner, message.name), short(message.token), error)
        if not store.publish(message.owner, message.name, message.token, failed.record):
            return False
        if isinstance(error, TaskLost):
            store.log_loss(message.owner, message.name, message.token, reason_of(error.error))
        return True
    except Exception:
        logger.exception("The end of a run of task %r could not be stored", message.name)
        return False


def _store_of(message: Message, store: TaskStore | None) -> TaskStore:
    if message.brings_store:
        store = _imported(message.function).open_store(message)  # type: ignore[attr-defined]
    if store is None:
        raise TaskError(f"task {message.name!r} has no task store to report to: make it with store=...")
    return store


def _claim(store: TaskStore, message: Message) -> bool:
    end, pause = time.monotonic() + PATIENCE, 0.05
    while True:
        try:
            return store.claim(message.owner, message.name, message.token)
        except Exception:
            if time.monotonic() + pause > end:
                raise
            logger.warning("The task store cannot be reached. Trying again", exc_info=True)
        time.sleep(pause)
        pause = min(2 * pause, 2.0)


def _imported(where: str) -> Callable[..., Any]:
    try:
        return resolve(where)
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        raise TaskError(f"the worker cannot import {where}: {error!r}") from error


def _loaded(where: str) -> Callable[..., Any]:
    try:
        return _imported(where)
    except TaskError as error:
        return _raising(error)


def _raising(error: Exception) -> Callable[..., NoReturn]:
    def target(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise error

    return target
