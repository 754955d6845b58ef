"""Measures a run on RQ and on Celery, from its start to its result, against the same engine without Silo.

Run with ``uv run python tests/benchmarks/bench_engines.py [rq|celery]``. It starts its own Redis and one worker
process at a time, which both use in turn. The side without Silo does what users of the engine do: it calls RQ's
``latest_result()``, or Celery's ``get()`` with the Redis result backend. Figures are ratios of wall time, ours over
theirs: the median of alternating turns and the middle half of them, and the median milliseconds of both. A turn is one
job, or ``BURST`` jobs that are submitted and then awaited. More rows compare the CPU time that a job takes, in the
worker, or in the client and the worker, and the commands that Redis executes for it, those of scripts included. On a
busy machine, the wall time of one job is mostly that of waiting for a processor after each round trip. A cancel is
measured from ``cancel()`` until the run has ended; the figure is the longest of several.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import engine_jobs
import redis
from pairs import ratio, row, warm
from rq import Queue
from silo_tasks import BackgroundTask
from silo_tasks.runners.rq import RQRunner

sys.path.insert(0, str(Path(__file__).parents[2] / "packages/silo-store/tests/support"))
sys.path.insert(0, str(Path(__file__).parents[2] / "packages/silo-tasks/tests/support"))

from engines.harness import Worker
from servers import RedisServer

REPEATS = 200

BURST, BURSTS = 100, 15
"""Jobs of a burst, and turns of each kind of burst."""

Start: TypeAlias = Callable[[int], Callable[[], object]]
"""Submits the job with this number. Returns a function that waits for its result and returns it."""


@contextmanager
def worker(server: RedisServer, command: list[str], ready: str) -> Iterator[Worker]:
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    folder, env = server.folder.parent / "worker", {"ENGINE_URL": server.url}
    with Worker(command, ready, folder=folder, env=env) as process:
        yield process


def jobs(start: Start, count: int) -> Callable[[], None]:
    def run() -> None:
        for result in [start(number) for number in range(count)]:
            assert result() == 3

    return run


def timed(case: str, bare: Start, ours: Start, process: Worker | None = None) -> None:
    """Print the row of one job, and that of its CPU time if the process of a worker is given."""
    both = [jobs(bare, 1), jobs(ours, 1)]
    for _ in range(4):
        both[0](), both[1]()
    floor, measured = warm(*both, repeats=REPEATS)
    row(case, ratio(measured, floor, 1e-3, "ms"), "1.2x")
    if process is not None:
        both = [settled(each) for each in both]
        floor, measured = warm(*both, repeats=REPEATS, clock=lambda: time.process_time() + _cpu_time(process))
        row(f"{case}, CPU time of client and worker", ratio(measured, floor, 1e-3, "ms"), "-")


def settled(action: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls an action, and then gives the worker time for what it does after the result."""

    def run() -> None:
        action()
        time.sleep(0.01)

    return run


def burst(case: str, server: RedisServer, process: Worker, bare: Start, ours: Start) -> None:
    client, both = redis.Redis.from_url(server.url), [jobs(bare, BURST), jobs(ours, BURST)]
    floor, measured = warm(*both, repeats=BURSTS)
    commands = []
    for action in reversed(both):
        before = _commands(client)
        action()
        commands.append(f"{(_commands(client) - before) / BURST:.0f}")
    row(f"{case}, {BURST} jobs", ratio(measured, floor, 1e-3, "ms"), "1.2x")
    floor, measured = warm(*both, repeats=BURSTS, clock=lambda: _cpu_time(process))
    row(f"{case}, {BURST} jobs, CPU time of the worker", ratio(measured, floor, 1e-3, "ms"), "1.2x")
    row(f"{case}, {BURST} jobs, commands of Redis for a job", " / ".join(commands), "-")
    client.close()


def _commands(client: redis.Redis) -> int:
    return sum(each["calls"] for each in client.info("commandstats").values())


def _cpu_time(process: Worker) -> float:
    """Return the seconds of CPU time of a worker and its living children. Only Linux counts them this exactly."""
    tasks = [task for pid in (process.pid, *process.children()) for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def starter(tasks: list[BackgroundTask]) -> Start:
    def start(number: int) -> Callable[[], object]:
        task = tasks[number]
        task.start(engine_jobs.add, 1, 2)
        return lambda: task.result(30)

    return start


def cancelled(case: str, task: BackgroundTask) -> None:
    longest = 0.0
    for turn in range(8):
        task.start(engine_jobs.endless)
        while task.state.n < 1:
            time.sleep(0.01)
        time.sleep(turn / 16)  # a moment between two polls of the worker
        begin = time.perf_counter()
        task.cancel()
        task.wait()
        longest = max(longest, time.perf_counter() - begin)
    row(case, f"{longest * 1000:6.0f} ms", "1 s")


def on_rq(server: RedisServer) -> None:
    queue = Queue(connection=redis.Redis.from_url(server.url))
    tasks = [BackgroundTask(f"add-{number}", runner=RQRunner(queue)) for number in range(BURST)]

    def bare(_: int) -> Callable[[], object]:
        job = queue.enqueue(engine_jobs.bare, 1, 2)

        def result() -> object:
            found = job.latest_result(timeout=30)
            return found.return_value if found is not None else None

        return result

    for case, more in (
        ("RQ, a process for each job", []),
        ("RQ, a process for each job, -c module that has imported it", ["-c", "silo_tasks.runners.rq"]),
        ("RQ, SimpleWorker", ["-w", "rq.SimpleWorker"]),
    ):
        command = ["-m", "rq.cli", "worker", "--url", server.url, *more]
        with worker(server, command, "Listening on") as process:
            timed(case, bare, starter(tasks), process if "-w" in more else None)
            if not more:
                cancelled("RQ, cancel of a running job", tasks[0])
            if "-w" in more:
                burst(case, server, process, bare, starter(tasks))


def on_celery(server: RedisServer) -> None:
    os.environ["ENGINE_URL"] = server.url
    import engine_app

    tasks = [BackgroundTask(f"add-{number}", runner=engine_app.runner) for number in range(BURST)]

    def bare(_: int) -> Callable[[], object]:
        found = engine_app.bare.delay(1, 2)
        return lambda: found.get(timeout=30)

    for pool in ("prefork", "threads", "solo"):
        command = ["-m", "celery", "-A", "engine_app", "worker", "--loglevel=INFO", "--without-mingle"]
        with worker(server, [*command, "--without-gossip", "--concurrency=1", f"--pool={pool}"], " ready.") as process:
            timed(f"Celery, {pool}", bare, starter(tasks), process)
            if pool == "prefork":
                cancelled("Celery, cancel of a running job", tasks[0])
            if pool == "solo":
                burst(f"Celery, {pool}", server, process, bare, starter(tasks))


CASES = {"rq": on_rq, "celery": on_celery}

if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder) / "redis") as server:
            CASES[name](server)
