"""Waiting for a run in an asyncio loop, without a thread for each waiter."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from ..status import Status
from .latch import Latch
from .outcome import not_over
from .run import Run


class LoopWaiter:
    """Wakes a coroutine of this thread's loop. Any thread may set the latch."""

    __slots__ = ("_loop", "future")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def release(self) -> None:
        """Wake the coroutine in its own thread."""
        # The loop may have been closed meanwhile, and its coroutines with it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


async def refreshed(run: Run) -> Run:
    """Refresh a run and return it. If that reads a store, the loop goes on meanwhile."""
    if not run.is_remote:
        run.refresh()
    else:
        await asyncio.get_running_loop().run_in_executor(None, run.refresh)
    return run


async def passed(run: Run, latch: Latch, timeout: float | None) -> bool:
    """Wait for ``done`` or ``value_ready`` of a run. A coroutine that is cancelled leaves nothing behind."""
    if not await _set(run, latch, timeout) and run.is_remote:
        # It may have been set in another process since the last read.
        await refreshed(run)
    return latch.is_set


async def _set(run: Run, latch: Latch, timeout: float | None) -> bool:
    if latch.is_set:
        return True
    waiter = LoopWaiter()
    if latch.add(waiter):
        try:
            run.follow()
            await asyncio.wait([waiter.future], timeout=timeout)
        finally:
            if not latch.is_set:
                latch.remove(waiter)
    return latch.is_set


async def value_of(run: Run, timeout: float | None) -> Any:
    """Wait for the return value of a run, and return it.

    Raises:
        TaskFailed: The run failed.
        TaskCancelled: The run was cancelled.
        TimeoutError: The run is not over after ``timeout`` seconds.
    """
    end = None if timeout is None else time.monotonic() + timeout
    over = await passed(run, run.done, timeout)
    if over and run.status is Status.SUCCEEDED:
        # A target that called complete() goes on until it returns its value.
        over = await passed(run, run.value_ready, None if end is None else max(0.0, end - time.monotonic()))
    if not over:
        raise not_over(run.name, timeout)
    return run.result()
