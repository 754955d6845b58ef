"""The write lock among the threads of a process: its order, its races and its interrupted waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
from servers import until
from silo_store import LockTimeout, SessionStore, TooManyWaiters, WriteLock
from silo_store.locks import WriteLocks
from silo_store.testing import SID, in_threads

OTHER = "b" * 32


@pytest.fixture
def locks() -> WriteLocks:
    return SessionStore().locks


class Queue:
    """Writers, each in a thread, that wait for one lock in the order in which they were started."""

    def __init__(self, locks: WriteLocks) -> None:
        self.locks = locks
        self.served: list[str] = []
        self.threads: list[threading.Thread] = []
        self.entered = 0
        locks.waiting = self.waiting

    def waiting(self, sid: str) -> AbstractContextManager[object]:
        self.entered += 1
        return nullcontext()

    def add(self, name: str, sid: str = SID) -> None:
        """Start a writer, and return once it waits."""
        before = self.entered
        self.threads.append(threading.Thread(target=self.write, args=(name, sid)))
        self.threads[-1].start()
        until(lambda: self.entered > before, f"{name} does not wait")

    def write(self, name: str, sid: str = SID) -> None:
        with WriteLock(self.locks, sid) as lock:
            lock.take(30)
            self.served.append(name)

    def join(self) -> None:
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()


def test_a_writer_that_waits_is_served_before_one_that_comes_later(locks: WriteLocks) -> None:
    queue = Queue(locks)
    first = WriteLock(locks, SID)
    first.take(30)
    queue.add("second")

    first.give_back()
    queue.write("third")  # this thread runs: with a plain lock, it would overtake the second one

    queue.join()
    assert queue.served == ["second", "third"]
    assert not locks.holders


def test_writers_are_served_in_the_order_in_which_they_came(locks: WriteLocks) -> None:
    queue = Queue(locks)
    names = [f"writer {number}" for number in range(10)]
    with WriteLock(locks, SID) as lock:
        lock.take(30)
        for name in names:
            queue.add(name)
    queue.write("last")
    queue.join()
    assert queue.served == [*names, "last"]
    assert not locks.holders


@pytest.mark.slow
@pytest.mark.usefixtures("many_switches")
def test_a_release_and_the_arrival_of_a_second_writer_do_not_miss_each_other(locks: WriteLocks) -> None:
    barrier = threading.Barrier(2)
    inside: list[int] = []

    def write(number: int) -> int:
        waits = 0
        for turn in range(10_000):
            lock = WriteLock(locks, SID)
            if turn % 2 == number:
                lock.take(30)
                barrier.wait(30)
            else:
                barrier.wait(30)
                lock.take(30)
            waits += lock.waited > 0
            inside.append(number)
            assert inside == [number]
            inside.pop()
            lock.give_back()
            barrier.wait(30)
        return waits

    assert sum(in_threads(2, write)) > 0
    assert not locks.holders


@pytest.mark.slow
@pytest.mark.usefixtures("many_switches")
def test_many_writers_of_few_sessions_exclude_each_other(locks: WriteLocks) -> None:
    counts = {SID: 0, OTHER: 0}
    sids = list(counts)

    def write(number: int) -> int:
        given_up, lock = 0, WriteLock(locks, SID)  # one lock for both sessions
        for turn in range(2_000):
            lock.sid = sid = sids[(turn + number) % 2]
            try:
                lock.take(0 if turn % 7 == number else 30)
            except LockTimeout:
                given_up += 1
            else:
                seen = counts[sid]
                for _ in range(3):
                    pass  # other threads may run here
                counts[sid] = seen + 1
                lock.give_back()
        return given_up

    given_up = sum(in_threads(6, write))
    assert sum(counts.values()) == 6 * 2_000 - given_up
    assert not locks.holders


class Stub:
    """Stands in for a module of which the write lock uses some names."""

    def __init__(self, **names: Any) -> None:
        self.__dict__.update(names)


def test_a_writer_that_arrives_during_a_release_tries_again(locks: WriteLocks, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = WriteLock(locks, SID), WriteLock(locks, SID)
    first.take(30)
    del first.alone  # as if the thread of the first writer were interrupted here, in ``give_back``
    slept: list[float] = []

    def finish(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            del locks.holders[SID]

    monkeypatch.setattr("silo_store.locks.time", Stub(sleep=finish, monotonic=lambda: 0.0))
    second.take(30)
    assert len(slept) == 3
    assert locks.holders == {SID: second}


def test_a_release_that_does_not_end_is_a_timeout(locks: WriteLocks) -> None:
    first, second = WriteLock(locks, SID), WriteLock(locks, SID)
    first.take(30)
    del first.alone
    with pytest.raises(LockTimeout):
        second.take(0.01)
    second.give_back()
    assert locks.holders == {SID: first}


@pytest.mark.parametrize("again", [SID, OTHER], ids=["the same session", "another session"])
def test_a_lock_that_is_taken_again_while_a_writer_arrives_keeps_what_it_has(locks: WriteLocks, again: str) -> None:
    first, second = WriteLock(locks, SID), WriteLock(locks, SID)

    class Holders(dict[str, WriteLock]):
        """Lets the first writer give its lock back and take it again once the second writer has seen it."""

        looks = 0

        def setdefault(self, sid: str, lock: WriteLock) -> WriteLock:
            found = super().setdefault(sid, lock)
            self.looks += lock is second
            if lock is second and self.looks == 2:
                first.give_back()
                first.sid = again
                first.take(30)
            return found

    locks.holders = Holders()
    first.take(30)
    if again == SID:
        with pytest.raises(LockTimeout):
            second.take(0.01)
        assert locks.holders == {SID: first}
    else:
        second.take(0.01)
        assert locks.holders == {SID: second, OTHER: first}
        second.give_back()
    first.give_back()
    assert not locks.holders


def test_a_lock_is_free_after_both_owners_threads_gave_it_back(locks: WriteLocks) -> None:
    """The release of one thread ends after the next writer has the lock."""
    first, second = WriteLock(locks, SID), WriteLock(locks, SID)
    first.take(30)
    first.give_back()
    second.take(30)
    first.give_back()
    assert locks.holders == {SID: second}


# Waits that end early


class Handed:
    """Stands in for the lock on which a writer waits: it is handed over as the wait ends."""

    def __init__(self, hand_over: Callable[[], object], error: BaseException | None) -> None:
        self.hand_over = hand_over
        self.error = error

    def acquire(self, timeout: float | None = None) -> bool:
        if timeout is not None:
            self.hand_over()
            if self.error is not None:
                raise self.error
        return False

    def release(self) -> None:
        """The wait is over already."""


def handed_late(
    monkeypatch: pytest.MonkeyPatch, hand_over: Callable[[], object], error: BaseException | None = None
) -> None:
    """Let the next wait end by a timeout or an error, right after ``hand_over()``."""
    monkeypatch.setattr("silo_store.locks.threading", Stub(Lock=lambda: Handed(hand_over, error)))


def test_a_wait_that_times_out_as_the_lock_is_handed_over_has_the_lock(
    locks: WriteLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = WriteLock(locks, SID), WriteLock(locks, SID)
    first.take(30)
    handed_late(monkeypatch, first.give_back)
    second.take(0)
    assert second.taken
    assert locks.holders == {SID: second}
    second.give_back()
    assert not locks.holders


def test_a_writer_that_times_out_leaves_the_queue(locks: WriteLocks) -> None:
    queue = Queue(locks)
    first, second = WriteLock(locks, SID), WriteLock(locks, SID)
    with first:
        first.take(30)
        queue.add("before")
        with pytest.raises(LockTimeout):
            second.take(0.01)
        queue.add("after")
    queue.join()
    assert queue.served == ["before", "after"]
    assert not locks.holders


@pytest.mark.parametrize("handed", [False, True], ids=["before it has the lock", "as it is handed the lock"])
def test_an_interrupted_wait_leaves_the_lock_to_the_next_writer(
    locks: WriteLocks, monkeypatch: pytest.MonkeyPatch, handed: bool
) -> None:
    first, second, queue = WriteLock(locks, SID), WriteLock(locks, SID), Queue(locks)
    first.take(30)

    def meanwhile() -> None:
        monkeypatch.undo()
        queue.add("third")
        if handed:
            first.give_back()

    handed_late(monkeypatch, meanwhile, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        second.take(30)
    second.give_back()
    first.give_back()
    queue.join()
    assert queue.served == ["third"]
    assert not locks.holders


def test_a_refused_wait_leaves_the_queue(locks: WriteLocks) -> None:
    @contextmanager
    def refuse(sid: str) -> Iterator[None]:
        raise TooManyWaiters(sid)
        yield

    first, second = WriteLock(locks, SID), WriteLock(locks, SID)
    locks.waiting = refuse
    with first:
        first.take(30)
        with pytest.raises(TooManyWaiters):
            second.take(30)
        assert first.queue is not None
        assert not first.queue.waiting
    assert not locks.holders


def test_a_signal_right_after_a_free_lock_is_taken_does_not_keep_it(locks: WriteLocks) -> None:
    class Interrupted(dict[str, WriteLock]):
        def setdefault(self, sid: str, lock: WriteLock) -> WriteLock:
            super().setdefault(sid, lock)
            raise KeyboardInterrupt

    locks.holders = Interrupted()
    with pytest.raises(KeyboardInterrupt), WriteLock(locks, SID) as lock:
        lock.take(30)
    assert not locks.holders


# Rotation, and nested locks


def test_writers_that_wait_while_the_lock_moves_are_served_in_order(locks: WriteLocks) -> None:
    queue = Queue(locks)
    with WriteLock(locks, SID) as lock:
        lock.take(30)
        queue.add("before")
        locks.move(lock, OTHER)
        assert locks.holders == {SID: lock, OTHER: lock}
        assert locks.held(OTHER) is lock
        assert locks.held(SID) is None
        queue.add("by the new id", OTHER)
        queue.add("by the old id")
    queue.join()
    assert queue.served == ["before", "by the new id", "by the old id"]
    assert not locks.holders


def test_a_lock_that_moved_twice_is_free_under_each_id(locks: WriteLocks) -> None:
    with WriteLock(locks, SID) as lock:
        lock.take(30)
        locks.move(lock, OTHER)
        locks.move(lock, "c" * 32)
        assert set(locks.holders) == {SID, OTHER, "c" * 32}
    assert not locks.holders


def test_the_locks_of_a_context_are_found_in_whatever_order_they_are_given_back(locks: WriteLocks) -> None:
    taken = {sid * 32: WriteLock(locks, sid * 32) for sid in "abcd"}
    for lock in taken.values():
        lock.take(30)
    for sid in ("b" * 32, "d" * 32):
        taken.pop(sid).give_back()
        assert locks.held(sid) is None
    taken["e" * 32] = last = WriteLock(locks, "e" * 32)
    last.take(30)
    assert {sid: locks.held(sid) for sid in taken} == taken
    assert in_threads(1, lambda _: locks.held("e" * 32)) == [None], "another thread does not have them"
    for lock in taken.values():
        lock.give_back()
    assert not locks.holders
