"""Calls the ``on_done()`` callbacks of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..errors import Cancelled
from ..logger import get_logger
from .context import current_run

Callback = Callable[[Any], object]
"""Called with the task of a run that is over."""


def call_back(callbacks: list[Callback], task: Any, *, detach: bool = False) -> None:
    """Call each callback. An error of a callback is logged and affects nothing else.

    Args:
        callbacks: The callbacks, in the order in which they were added.
        task: The task, the argument of each callback.
        detach: Call them in a new thread, if one can be started.
    """
    if detach:
        try:
            threading.Thread(target=_call_each, args=(callbacks, task), daemon=True).start()
        except RuntimeError:
            # As at interpreter exit.
            pass
        else:
            return
    _call_each(callbacks, task)


def _call_each(callbacks: list[Callback], task: Any) -> None:
    # A callback watches the task; it does not belong to the run that has ended, and may start the next one.
    outer = current_run.set(None)
    try:
        for callback in callbacks:
            try:
                callback(task)
            except (Exception, SystemExit, Cancelled):  # noqa: BLE001 - it is logged
                get_logger().exception("A callback of task %r failed", task.name)
            except KeyboardInterrupt:
                # The caller of start() gets it from an InlineRunner; a thread of a runner drops it.
                get_logger().exception("A callback of task %r was interrupted", task.name)
                raise
    finally:
        current_run.reset(outer)
