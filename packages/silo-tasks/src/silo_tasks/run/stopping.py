"""Stops the code of a run: cancels, deadlines, and the shields that delay them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ..errors import Cancelled
from ..importing import importing
from ..progress.scopes import Probe

if TYPE_CHECKING:
    from ..timer import Alarm, Timer

_deadlines: Timer | None = None
"""The timer for deadlines, once a run has one."""


class Stop:
    """The part of a run that stops its code.

    Args:
        lock: Lock of the run. Reentrant, because a garbage collection inside it may close a loop of the run.

    Attributes:
        alert: Whether a report must check the state of the run, because the run is over or must stop. Read without a
            lock.
        direct: Whether every report belongs to this run, because it is open and no code of an earlier run can report.
            Read without a lock.
        wanted: Whether the run was asked to stop.
        over: Whether the run is over.
        deadline: When the run must be over, by the clock for durations; None for no limit.
        reason: Why the runner or the process stops the run; None if neither does.
    """

    __slots__ = ("_alarm", "_probes", "_shields", "alert", "deadline", "direct", "lock", "over", "reason", "wanted")

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self.lock: AbstractContextManager[object] = lock
        self.alert: bool = False
        self.wanted: bool = False
        self.over: bool = False
        self.direct: bool = False
        self.deadline: float | None = None
        self.reason: str | None = None
        self._shields = 0
        self._probes: list[Probe] = []
        self._alarm: Alarm | None = None

    def check(self) -> None:
        """Raise ``Cancelled`` if the run must stop and no shield is held."""
        if self.wanted and not self._shields:
            raise Cancelled

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """Delay a cancel or deadline for the code inside."""
        with self.lock:
            # In one step: no shield can be added once the loops have been asked to stop.
            self.check()
            self._shields += 1
        try:
            yield
        finally:
            with self.lock:
                self._shields -= 1
                if self.wanted:
                    self._arm()
        self.check()

    def request(self) -> None:
        """Stop the code of the run at its next report or item, or when its last shield ends."""
        with self.lock:
            self.wanted = True
            self._arm()

    def _arm(self) -> None:
        if not self._shields:
            self.alert, self.direct = True, False
            for probe in self._probes:
                probe.stop()

    def add(self, probe: Probe) -> None:
        """Add a loop to stop. Called under the lock."""
        self._probes.append(probe)

    def remove(self, probe: Probe) -> None:
        """Remove a loop that has ended. Called under the lock."""
        self._probes.remove(probe)

    def set_alarm(self, delay: float, call: Callable[[], None]) -> None:
        """Call a function after ``delay`` seconds, at the deadline, unless the run is over by then."""
        alarm = (_deadlines or _import_deadlines()).call_later(delay, call)
        with self.lock:
            if not self.over:
                self._alarm = alarm
                return
        alarm.cancel()

    def close(self) -> Alarm | None:
        """Set ``over``. Called under the lock.

        Returns:
            The alarm of the deadline, to be cancelled without the lock.
        """
        self.over = self.alert = True
        self.direct = False
        alarm, self._alarm = self._alarm, None
        return alarm

    def forget_alarm(self) -> None:
        """Drop the alarm without cancelling it, in a forked child: the alarm belongs to the parent's timer."""
        self._alarm = None


def _import_deadlines() -> Timer:
    """Import the timer. Most runs have no deadline."""
    global _deadlines
    with importing:
        from ..timer import deadlines

    _deadlines = deadlines
    return deadlines
