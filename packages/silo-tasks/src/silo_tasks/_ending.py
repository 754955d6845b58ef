"""What is said and called when a run ends."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from silo_tasks._context import current_run

if TYPE_CHECKING:
    from silo_tasks.task import BackgroundTask

logger = logging.getLogger("silo_tasks")

Callback = Callable[["BackgroundTask"], object]


def call_back(callbacks: list[Callback], task: BackgroundTask) -> None:
    """Call each callback; what one raises is logged and harms nobody."""
    # A callback watches the task; it is no part of the run that has ended, and may start the next one.
    outer = current_run.set(None)
    try:
        for callback in callbacks:
            try:
                callback(task)
            except Exception:
                logger.exception("A callback of task %r failed", task.name)
    finally:
        current_run.reset(outer)


def describe(error: BaseException | str) -> str:
    """What went wrong, never empty."""
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001 - an exception that cannot say what it is still has a type
        text = ""
    if text:
        return text
    return "unknown error" if isinstance(error, str) else type(error).__name__


def traceback_of(error: BaseException) -> str:
    """The formatted traceback of an exception."""
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:  # noqa: BLE001 - its str() may raise
        return f"{type(error).__name__}\n"


def exception_here() -> BaseException | None:
    """The exception that is being handled, if any."""
    return sys.exc_info()[1]
