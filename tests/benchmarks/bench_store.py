"""Measures silo-store against a plain dict.

Run with ``uv run python tests/benchmarks/bench_store.py``.
"""

from __future__ import annotations

import threading
import time
import tracemalloc
from typing import Any

from pairs import interleaved, row
from silo_store import MemoryBackend, SessionStore, WriteLock, new_sid

MILLION = 1_000_000


def bench_get() -> None:
    """Measure ``store.get`` of an existing session over a dict look-up, with 1,000 sessions."""
    store = SessionStore()
    store.register_namespace("ns", lambda: {"value": 0})
    sids = [new_sid() for _ in range(1000)]
    plain = {sid: store.get(sid) for sid in sids}

    def ours() -> None:
        for _ in range(100):
            for sid in sids:
                store.get(sid)

    def bare() -> None:
        for _ in range(100):
            for sid in sids:
                plain[sid]

    def method() -> None:
        for _ in range(100):
            for sid in sids:
                nothing.get(sid)

    nothing = Nothing()
    got, looked_up, called = interleaved(ours, bare, method)
    row("store.get of an existing session / dict[sid]", f"{got / looked_up:.1f}x ({got * 1e4:.0f} ns)", "5x")
    row(
        "  of which: a method that reads time.time() and a dict",
        f"{called / looked_up:.1f}x ({called * 1e4:.0f} ns)",
        "-",
    )


class Nothing:
    """The minimum that exact expiry at read needs: a method call, a clock, a look-up."""

    def __init__(self) -> None:
        self.items: dict[str, Any] = {}
        self.clock = time.time

    def get(self, sid: str) -> Any:
        """Look up and read the clock."""
        self.clock()
        return self.items.get(sid)


def bench_lock() -> None:
    """Measure taking a free write lock and giving it back, over a lock of its own for each session."""
    store = SessionStore()
    sids = [new_sid() for _ in range(1000)]
    plain = {sid: threading.Lock() for sid in sids}

    def ours() -> None:
        for _ in range(10):
            for sid in sids:
                lock = WriteLock(store.locks, sid)
                lock.take(30)
                lock.give_back()

    def bare() -> None:
        for _ in range(10):
            for sid in sids:
                lock = plain[sid]
                lock.acquire()
                lock.release()

    taken, locked = interleaved(ours, bare, clock=time.thread_time)
    row(
        "free write lock, taken and given back / dict[sid] of locks",
        f"{taken / locked:.1f}x ({taken * 1e5:.0f} ns)",
        "-",
    )


def bench_is_expired(store: SessionStore, sids: list[str], some: list[str], case: str) -> None:
    """Measure ``store.is_expired`` of some of the ids over ``in`` of a dict with all of them."""
    plain = dict.fromkeys(sids)

    def ours() -> None:
        for _ in range(100):
            for sid in some:
                store.is_expired(sid)

    def bare() -> None:
        for _ in range(100):
            for sid in some:
                sid in plain  # noqa: B015 - what is measured

    moved, store._clock = store._clock, time.time  # a clock in Python would be half of the time
    asked, looked_up = interleaved(ours, bare)
    store._clock = moved
    row(f"is_expired, {case} / in dict", f"{asked / looked_up:.1f}x ({asked * 1e4:.0f} ns)", "4x")


class Clock:
    """A clock that moves only when a test moves it."""

    now = 1_000_000.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


class WatchedLock:
    """A lock that records the longest time it was held, in CPU time, because other processes use the machine too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.longest = 0.0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._taken = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.longest = max(self.longest, time.thread_time() - self._taken)
        self._lock.release()


def bench_million() -> None:
    """Measure sweeps and expired ids with a million sessions."""
    clock = Clock()
    clock.now = began = time.time()
    backend = MemoryBackend()
    store = SessionStore(clock=clock, backend=backend, ttl=3600, expired_retain=1e6)
    sids = [new_sid() for _ in range(MILLION)]
    for number, sid in enumerate(sids):
        clock.now = began + number / 1000
        store.get(sid)
    some = sids[:: MILLION // 1000]
    few = SessionStore(clock=clock, ttl=3600)
    for sid in some:
        few.get(sid)
    bench_is_expired(few, some, some, "one of 1,000 live ids")
    bench_is_expired(store, sids, some, "one of 1 million live ids")
    idle = []
    for _ in range(20):
        start = time.perf_counter()
        store.cleanup()
        idle.append(time.perf_counter() - start)
    row("cleanup, 1 million live, none due", f"{sorted(idle)[10] * 1000:.3f} ms", "0.1 ms")

    backend._lock = lock = WatchedLock()  # type: ignore[assignment]
    clock.now += 10_000
    start = time.perf_counter()
    expired = len(store.cleanup())
    took = time.perf_counter() - start
    assert expired == MILLION
    row("longest hold of a lock while 1 million expire", f"{lock.longest * 1000:.2f} ms of {took:.1f} s", "5 ms")

    bench_is_expired(store, sids, some, "one of 1 million remembered ids")
    few = SessionStore(clock=clock, ttl=1, expired_retain=1e6)
    for sid in some:
        few.get(sid)
    clock.now += 10
    few.cleanup()

    bench_is_expired(few, some, some, "one of 1,000 remembered ids")

    clock.now += 2_000_000
    start = time.process_time()
    backend.prune(clock.now - store.expired_retain)
    took = time.process_time() - start
    assert not backend.expired_count()
    row("1 million expired ids forgotten", f"{took:.2f} s", "4 s")


def bench_memory() -> None:
    """Measure the memory of an idle session over a dict of dicts."""

    def size(fill: Any) -> float:
        sids = [new_sid() for _ in range(100_000)]
        tracemalloc.start()
        kept = fill(sids)
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del kept
        return used / 100_000

    def ours(sids: list[str]) -> SessionStore:
        store = SessionStore()
        store.register_namespace("ns", lambda: {"value": 0})
        for sid in sids:
            store.get(sid)
        return store

    def bare(sids: list[str]) -> dict[str, Any]:
        return {sid: {"ns": {"value": 0}} for sid in sids}

    used, least = size(ours), size(bare)
    row("memory per idle session / dict[sid] = {...}", f"{used / least:.2f}x ({used:.0f} B)", "1.4x")


if __name__ == "__main__":
    bench_get()
    bench_lock()
    bench_million()
    bench_memory()
