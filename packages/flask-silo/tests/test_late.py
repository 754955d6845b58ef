"""Attributes that are made when they are first read."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from flask_silo.late import made_once


class ObservedLock:
    """A reentrant lock. ``awaited`` is set when a thread has to wait for it."""

    def __init__(self) -> None:
        self.awaited = threading.Event()
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.awaited.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Owner:
    """Has a part, and a second one that needs it."""

    def __init__(self) -> None:
        self.making = ObservedLock()
        self.begun = threading.Event()
        self.made: list[str] = []

    @made_once
    def part(self) -> object:
        """The part."""
        self.made.append("part")
        self.begun.set()
        assert self.making.awaited.wait(10)
        return object()

    @made_once
    def second(self) -> object:
        self.made.append("second")
        return self.part


def test_two_threads_that_read_at_once_get_the_same_part() -> None:
    owner = Owner()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(lambda: owner.second)
        assert owner.begun.wait(10)
        other = pool.submit(lambda: owner.part)
        assert first.result(10) is other.result(10)

    assert owner.made == ["second", "part"]
    assert owner.second is owner.part
