from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from silo_tasks import timer as timer_module
from silo_tasks.run.latch import Latch, Waiter
from silo_tasks.timer import Timer

WAIT = 30


class SetWhileWaiting(list[Waiter]):
    """Sets the latch just before a waiter is added."""

    def __init__(self, latch: Latch) -> None:
        super().__init__()
        self.latch = latch

    def append(self, item: Waiter) -> None:
        self.latch.set()
        super().append(item)


def test_a_latch_that_is_set_while_a_thread_begins_to_wait() -> None:
    latch = Latch()
    latch._waiters = SetWhileWaiting(latch)
    done = threading.Event()

    def wait() -> None:
        assert latch.wait()
        done.set()

    threading.Thread(target=wait, daemon=True).start()
    assert done.wait(WAIT)


def test_a_latch_drops_waiters_that_gave_up() -> None:
    latch = Latch()
    for _ in range(3):
        assert not latch.wait(0)
    assert not latch.wait(-1)
    assert latch._waiters == []
    latch.set()
    assert latch.wait(0)


def test_a_sooner_alarm_wakes_the_timer() -> None:
    timer, sooner = Timer("test"), threading.Event()
    later = timer.call_later(3600, lambda: None)
    while not timer._wake._waiters:  # type: ignore[attr-defined]
        pass
    timer.call_later(0.001, sooner.set)
    assert sooner.wait(WAIT)
    later.cancel()
    assert later.call is None


def test_one_wake_up_drops_all_cancelled_alarms_that_are_next() -> None:
    timer, rang = Timer("test"), threading.Event()
    for _ in range(10):
        timer.call_later(3600, lambda: None).cancel()
    last = timer.call_later(7200, lambda: None)
    timer.call_later(0, rang.set)
    assert rang.wait(WAIT)
    deadline = time.monotonic() + WAIT
    while len(timer._heap) > 1:
        assert time.monotonic() < deadline
    assert timer._heap[0][2] is last
    assert timer._forgotten == 0


def test_no_alarm_is_lost_when_others_are_cancelled_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    timer, rang = Timer("test"), threading.Event()
    alarms = [timer.call_later(3600, lambda: None) for _ in range(200)]

    def now() -> float:
        # As a garbage collection may do at any point.
        while alarms:
            alarms.pop().cancel()
        return time.monotonic()

    monkeypatch.setattr(timer_module, "time", SimpleNamespace(monotonic=now))
    timer.call_later(0.001, rang.set)
    assert rang.wait(WAIT)


def test_an_alarm_that_fails_stops_no_other() -> None:
    timer, rang = Timer("test"), threading.Event()

    def bad() -> None:
        raise ValueError("on purpose")

    timer.call_later(0, bad)
    timer.call_later(0.001, rang.set)
    assert rang.wait(WAIT)
