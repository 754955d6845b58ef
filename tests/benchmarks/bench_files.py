"""Measures silo-files against the bare file operations that it needs.

Run with ``uv run python tests/benchmarks/bench_files.py [folder]``. The two operations of a pair alternate, in this
process and on the same disk; the figures are medians.
"""

from __future__ import annotations

import fcntl
import itertools
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pairs import ratio, row, turns
from silo_files import FileStore
from silo_files.names import hash_name
from silo_store import SessionStore

sys.path.insert(0, str(Path(__file__).parents[2] / "packages/silo-store/tests/support"))

from servers import RedisServer

BIG = 256 * 1024 * 1024
BLOCK = 256 * 1024
SMALL = b"x" * 1024
AREAS, REDIS_AREAS = 100_000, 20_000
ORIGIN = "sqlite:/var/lib/app/sessions.db"


def seconds(action: Callable[[], object]) -> float:
    """Return how long ``action`` takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def save_big(folder: Path) -> tuple[float, float]:
    """Return the seconds to save 256 MiB from a file, and to copy it with shutil.copyfileobj."""
    store = FileStore(folder / "big")
    source, target = folder / "source", folder / "target"
    with source.open("wb") as file:
        for _ in range(BIG // BLOCK):
            file.write(b"0123456789abcdef" * (BLOCK // 16))

    def ours() -> None:
        with source.open("rb") as file:
            store.save("session", "big.bin", file)

    def bare() -> None:
        with source.open("rb") as file, target.open("wb") as copy:
            shutil.copyfileobj(file, copy, BLOCK)

    times = []
    for turn in range(8):
        # Each writes a new file, so neither pays for freeing an old one. The order alternates.
        pair = {}
        for action in (ours, bare) if turn % 2 else (bare, ours):
            pair[action] = seconds(action)
        times.append((pair[ours], pair[bare]))
        store.cleanup("session")
        store.purge()
        target.unlink()
    shutil.rmtree(folder / "big")
    source.unlink()
    return median(times[1:])


def move_big(folder: Path) -> tuple[float, float]:
    """Return the seconds to move a file of 256 MiB into a store, and to move it with os.replace."""
    store = FileStore(folder / "moved")
    source, target = folder / "source", folder / "target"
    with source.open("wb") as file:
        file.truncate(BIG)
    times = []
    for _ in range(50):
        bare = seconds(lambda: os.replace(source, target))  # noqa: PTH105
        times.append((seconds(lambda: store.save("session", "big.bin", target)), bare))
        path = store.get_path("session", "big.bin")
        assert path is not None
        os.link(path, source)
        store.delete("session", "big.bin")
    shutil.rmtree(folder / "moved")
    source.unlink()
    return median(times[1:])


def save_small(folder: Path) -> tuple[float, float]:
    """Return the seconds to save 1 KiB under a new name, and to write it with open()."""
    store = FileStore(folder / "small")
    plain = folder / "plain"
    plain.mkdir()
    store.save("session", "first", SMALL)
    numbers = itertools.count()

    def bare(name: str) -> None:
        with open(f"{plain}/{name}", "wb") as file:  # noqa: PTH123 - pathlib would cost more than the file
            file.write(SMALL)

    times = []
    for _ in range(5000):
        name = f"report-{next(numbers)}.csv"
        times.append((seconds(lambda: store.save("session", name, SMALL)), seconds(lambda: bare(name))))  # noqa: B023
    shutil.rmtree(folder / "small")
    shutil.rmtree(plain)
    return median(times)


def replace_small(folder: Path) -> tuple[float, float]:
    """Return the seconds to replace a file of 1 KiB, and to write it with open()."""
    store = FileStore(folder / "again")
    target = folder / "again.bin"

    def bare() -> None:
        with open(str(target), "wb") as file:  # noqa: PTH123
            file.write(SMALL)

    times = [(seconds(lambda: store.save("session", "same", SMALL)), seconds(bare)) for _ in range(5000)]
    shutil.rmtree(folder / "again")
    target.unlink()
    return median(times[1:])


def cleanup(folder: Path) -> tuple[float, float]:
    """Return the seconds to clean up a session of 1,000 files, and to delete such a folder with shutil.rmtree."""
    store = FileStore(folder / "clean")
    times = []
    for _ in range(15):
        plain = folder / "plain"
        plain.mkdir()
        for number in range(1000):
            store.save("session", f"{number}.txt", b"x")
            (plain / str(number)).write_bytes(b"x")
        times.append((seconds(lambda: store.cleanup("session")), seconds(lambda: shutil.rmtree(plain))))  # noqa: B023
        store.purge()
    shutil.rmtree(folder / "clean")
    return median(times[1:])


def reserve(folder: Path) -> tuple[float, float]:
    """Return the seconds of a reservation, and of one lock and a write, while 4 processes do that in one session."""
    store = FileStore(folder / "reserve", max_session_bytes=1 << 40)
    store.save("session", "first", SMALL)
    plain = folder / "locked"
    plain.write_bytes(b"x" * 64)

    def reserving() -> Callable[[], object]:
        ledger = FileStore(folder / "reserve", max_session_bytes=1 << 40)._ledger
        # Two turns of the lock: one to reserve, one to give back.
        return lambda: ledger.reserve("session", size=BIG).release()

    def bare() -> Callable[[], object]:
        def lock_and_write() -> None:
            fd = os.open(plain, os.O_RDWR)
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.write(fd, SMALL[:64])
            os.close(fd)

        return lock_and_write

    # The bare calls are so short that fewer of them would run one process after the other, without contention.
    pairs = [(together(reserving) / 2, together(bare, times=40_000)) for _ in range(7)]
    shutil.rmtree(folder / "reserve")
    plain.unlink()
    return median(pairs)


def together(make: Callable[[], Callable[[], object]], processes: int = 4, times: int = 2000) -> float:
    """Return the seconds from one call to the next in each of several processes that call at once."""
    context = multiprocessing.get_context("fork")
    barrier, took = context.Barrier(processes), context.Queue()

    def work() -> None:
        action = make()
        action()
        barrier.wait()
        took.put(seconds(lambda: [action() for _ in range(times)]) / times)

    children = [context.Process(target=work) for _ in range(processes)]
    for child in children:
        child.start()
    found: list[float] = [took.get() for _ in children]
    for child in children:
        child.join()
    return statistics.median(found)


def look_up_usage(folder: Path) -> None:
    """Print what usage() of a session of 50,000 files takes, beside du of such a folder."""
    store = FileStore(folder / "used")
    for number in range(50_000):
        store.save("session", f"{number}.txt", b"x")
    path = store.session_dir("session")
    command = ["du", "-s", path]
    ours = statistics.median(seconds(lambda: store.usage("session")) for _ in range(1000))
    bare = statistics.median(
        seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)) for _ in range(5)
    )
    report("usage of 50,000 files / du", (ours, bare), "reach 0.1 ms")
    shutil.rmtree(folder / "used")


def list_many(folder: Path) -> None:
    """Print what list_files of 10,000 files takes, beside listdir and a sort of the same names."""
    store = FileStore(folder / "many")
    plain = folder / "plain"
    plain.mkdir()
    for number in range(10_000):
        store.save("session", f"report-{number}.csv", b"x")
        (plain / f"report-{number}.csv").touch()

    def ours() -> None:
        store.list_files("session")

    def first() -> None:
        hash_name.cache_clear()
        store.list_files("session")

    def bare() -> None:
        sorted(os.listdir(plain))  # noqa: PTH208 - what is measured

    ours()
    again, cold, listed = turns(ours, first, bare, repeats=31)
    row("list_files of 10,000 / sorted listdir", ratio(again, listed, 1e-3, "ms"), "3x")
    row("  the first time, with 10,000 names to hash", ratio(cold, listed), "-")
    shutil.rmtree(folder / "many")
    shutil.rmtree(plain)


def sweep_many(folder: Path) -> None:
    """Print what a sweep of many areas takes after a restart, beside walking them.

    All sessions live, unless the row says otherwise.
    """
    base, owners = folder / "swept", folder / "swept" / "owners"
    made = FileStore(base, origin=ORIGIN)
    for number in range(AREAS):
        made.save(f"{number:032x}", "a.csv", b"x")
    (owner,) = (path.name for path in owners.iterdir() if path.name != "areas.lock")
    made.close()
    store = FileStore(base, origin=ORIGIN)
    slices: list[float] = []

    def ours() -> None:
        marks = [time.perf_counter()]
        store.sweep(lambda keys: keys, on_progress=lambda *_: marks.append(time.perf_counter()))
        slices.append(max(end - start for start, end in itertools.pairwise(marks)))

    def after_a_kill() -> None:
        (owners / owner).touch()  # what a killed process leaves, so its folders may have unfinished files
        ours()

    def walk() -> None:
        for prefix in os.scandir(base / "areas"):
            for area in os.scandir(prefix):
                with os.scandir(area) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            for _ in os.scandir(entry):
                                pass

    walk()
    swept, killed, walked = turns(ours, after_a_kill, walk, repeats=7, clock=time.perf_counter)
    row(f"sweep of {AREAS:,} areas / walking them", ratio(swept, walked, 1, "s"), "1.2x")
    row("  after a process was killed, which wrote to all of them", ratio(killed, walked, 1, "s"), "-")
    row("  the longest slice", f"{max(slices) * 1e3:.0f} ms", "200 ms")
    gone = FileStore(base, origin=ORIGIN)
    marks = [time.perf_counter()]
    gone.sweep(lambda keys: keys[1::2], on_progress=lambda *_: marks.append(time.perf_counter()))
    longest = max(end - start for start, end in itertools.pairwise(marks))
    row("  the longest slice if half of the sessions are dead", f"{longest * 1e3:.0f} ms", "200 ms")
    shutil.rmtree(base)


def sweep_redis(folder: Path) -> None:
    """Print what a sweep takes if the sessions are on Redis, beside one question for each area."""
    with RedisServer(folder / "redis") as server:
        sessions = SessionStore(backend=server.url)
        sessions.register_namespace("state", dict)
        base = folder / "swept"
        made = FileStore(base, origin=sessions.backend.origin)
        for number in range(REDIS_AREAS):
            made.save(sessions.get(f"{number:032d}").uid, "a.csv", b"x")
        made.close()
        store = FileStore(base, origin=sessions.backend.origin)

        def ours() -> None:
            store.sweep(sessions.living)

        def one_by_one() -> None:
            store.sweep(lambda keys: [key for key in keys if sessions.has_life(key)])

        swept, asked = turns(ours, one_by_one, repeats=5, clock=time.perf_counter)
        row(f"sweep of {REDIS_AREAS:,} areas, sessions on Redis / one question each", ratio(swept, asked, 1, "s"), "-")
        sessions.close()
        shutil.rmtree(base)


def median(times: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the medians of both sides."""
    return statistics.median(ours for ours, _ in times), statistics.median(bare for _, bare in times)


def report(what: str, pair: tuple[float, float], goal: str) -> None:
    """Print one line."""
    ours, bare = pair
    print(f"{what:<42} {ours * 1e3:9.3f} ms   bare {bare * 1e3:9.3f} ms   ratio {ours / bare:6.2f}   ({goal})")


def main() -> None:
    """Measure each operation and print the table."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder = Path(name)
        report("save 1 KiB, new name / open+write", save_small(folder), "reach 2x")
        report("save 1 KiB, replacing / open+write", replace_small(folder), "reach 2x")
        report("cleanup of 1,000 files / rmtree", cleanup(folder), "reach 0.05 ms")
        report("a reservation, 4 processes / flock+write", reserve(folder), "reach 2x")
        look_up_usage(folder)
        list_many(folder)
        sweep_many(folder)
        sweep_redis(folder)
        report("save 256 MiB / copyfileobj", save_big(folder), "reach 1.0x")
        report("save a Path of 256 MiB / os.replace", move_big(folder), "no byte copied")


if __name__ == "__main__":
    main()
