"""A thread that calls functions after a delay."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from .fork import reset_after_fork
from .logger import get_logger


class Alarm:
    """A scheduled call. ``cancel()`` drops the function, and everything that it keeps alive."""

    __slots__ = ("_timer", "call")

    def __init__(self, timer: Timer, call: Callable[[], None]) -> None:
        self._timer = timer
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Do not call the function."""
        if self.call is not None:
            self.call = None
            self._timer.forget()


class Timer:
    """Calls functions after a delay, one after the other, so they must be quick.

    The thread starts with the first alarm, and again in a forked child. A cancelled alarm stays in the heap as an empty
    entry until its time comes or most entries are empty, so memory is in proportion to the alarms that are pending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._numbers = itertools.count()
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        # The thread stayed in the parent, with the calls that it is to make.
        # Reentrant: a garbage collection inside the lock may cancel an alarm.
        self._wake = threading.Condition(threading.RLock())
        self._heap: list[tuple[float, int, Alarm]] = []
        self._thread: threading.Thread | None = None
        self._forgotten = 0

    def call_later(self, delay: float, call: Callable[[], None]) -> Alarm:
        """Call ``call`` once, ``delay`` seconds from now, on the timer's thread."""
        alarm = Alarm(self, call)
        entry = time.monotonic() + delay, next(self._numbers), alarm
        with self._wake:
            # In one expression: a garbage collection may cancel alarms and replace the heap.
            heapq.heappush(self._heap, entry)
            first = None
            if self._thread is None:
                self._thread = first = threading.Thread(target=self._work, name=self._name, daemon=True)
            elif self._heap[0][2] is alarm:
                self._wake.notify()
        if first is not None:
            # Not under the lock: a lock made before gevent's monkey patching would not keep the new thread out.
            self._start(first)
        return alarm

    def _start(self, thread: threading.Thread) -> None:
        try:
            thread.start()
        except RuntimeError:
            # No thread can be started, as at interpreter exit. A caller that reads a run still sees its deadline.
            self._thread = None
            get_logger().warning("The thread %s could not be started", self._name)

    def forget(self) -> None:
        """Count an alarm as cancelled, and drop the cancelled alarms once they are more than half."""
        with self._wake:
            self._forgotten += 1
            if self._forgotten > 64 and 2 * self._forgotten > len(self._heap):
                self._heap = [entry for entry in self._heap if entry[2].call is not None]
                heapq.heapify(self._heap)
                self._forgotten = 0

    def _work(self) -> None:
        while True:
            alarm = self._next()
            call = alarm.call
            alarm.call = None
            if call is not None:
                try:
                    call()
                except Exception:  # noqa: BLE001 - it is logged
                    get_logger().exception("An alarm of silo-tasks failed")
            del alarm, call

    def _next(self) -> Alarm:
        with self._wake:
            while True:
                # One wake-up is enough for all cancelled alarms that are next.
                while self._heap and self._heap[0][2].call is None:
                    heapq.heappop(self._heap)
                    self._forgotten -= 1
                delay = self._heap[0][0] - time.monotonic() if self._heap else None
                if delay is not None and delay <= 0:
                    return heapq.heappop(self._heap)[2]
                # A wait longer than threading.TIMEOUT_MAX raises OverflowError.
                self._wake.wait(None if delay is None else min(delay, threading.TIMEOUT_MAX))


deadlines: Timer = Timer("silo-tasks-deadlines")
"""For deadlines: no slow function may run on it."""

publisher: Timer = Timer("silo-tasks-publisher")
"""For task stores, which may be slow."""
