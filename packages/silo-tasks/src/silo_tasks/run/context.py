"""Which run the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import BackgroundTask
    from .run import Run

current_run: ContextVar[Run | None] = ContextVar("silo_tasks.current_run", default=None)


def current_task() -> BackgroundTask | None:
    """The task whose target is running here, or None outside any task.

    It follows the context, not the thread: code in an `asyncio` loop that the target started sees the task. A thread
    that the target starts sees it only when it runs in a copy of the context (`contextvars.copy_context().run`).
    """
    run = current_run.get()
    return None if run is None else run.task
