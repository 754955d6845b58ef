"""Measures a run on RQ and on Celery, from its start to its result, against the same engine without Silo.

Run with ``uv run python tests/benchmarks/bench_engines.py [rq|celery]``. It starts its own Redis and one worker
process at a time, which both use in turn. Without Silo is what users of the engine do: RQ's ``latest_result()``,
Celery's ``get()`` with the Redis result backend. Figures are medians of wall time; a ratio is ours over theirs. A
cancel is measured from ``cancel()`` until the run has ended, the longest of several.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import engine_jobs
import redis
from pairs import interleaved, row
from rq import Queue
from silo_tasks import BackgroundTask
from silo_tasks.runners.rq import RQRunner

sys.path.insert(0, str(Path(__file__).parents[2] / "packages/silo-store/tests/support"))
sys.path.insert(0, str(Path(__file__).parents[2] / "packages/silo-tasks/tests/support"))

from engines.harness import Worker
from servers import RedisServer

REPEATS = 200


@contextmanager
def worker(server: RedisServer, command: list[str], ready: str) -> Iterator[None]:
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    with Worker(command, ready, folder=server.folder.parent / "worker", env={"ENGINE_URL": server.url}):
        yield


def timed(case: str, bare: Callable[[], object], ours: Callable[[], object]) -> None:
    for _ in range(5):
        bare(), ours()
    floor, measured = interleaved(bare, ours, repeats=REPEATS, clock=time.perf_counter)
    row(case, f"{measured * 1000:6.2f} / {floor * 1000:6.2f} ms  {measured / floor:5.2f}x", "1.2x")


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
    task = BackgroundTask("add", runner=RQRunner(queue))

    def bare() -> None:
        result = queue.enqueue(engine_jobs.bare, 1, 2).latest_result(timeout=30)
        assert result is not None
        assert result.return_value == 3

    def ours() -> None:
        task.start(engine_jobs.add, 1, 2)
        assert task.result(30) == 3

    for case, more in (
        ("RQ, a process for each job", []),
        ("RQ, a process for each job, -c module that has imported it", ["-c", "silo_tasks.runners.rq"]),
        ("RQ, SimpleWorker", ["-w", "rq.SimpleWorker"]),
    ):
        command = ["-m", "rq.cli", "worker", "--url", server.url, *more]
        with worker(server, command, "Listening on"):
            timed(case, bare, ours)
            if not more:
                cancelled("RQ, cancel of a running job", task)


def on_celery(server: RedisServer) -> None:
    os.environ["ENGINE_URL"] = server.url
    import engine_app

    task = BackgroundTask("add", runner=engine_app.runner)

    def bare() -> None:
        assert engine_app.bare.delay(1, 2).get(timeout=30) == 3

    def ours() -> None:
        task.start(engine_jobs.add, 1, 2)
        assert task.result(30) == 3

    for pool in ("prefork", "threads", "solo"):
        command = ["-m", "celery", "-A", "engine_app", "worker", "--loglevel=INFO", "--without-mingle"]
        with worker(server, [*command, "--without-gossip", "--concurrency=1", f"--pool={pool}"], " ready."):
            timed(f"Celery, {pool}", bare, ours)
            if pool == "prefork":
                cancelled("Celery, cancel of a running job", task)


CASES = {"rq": on_rq, "celery": on_celery}

if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder) / "redis") as server:
            CASES[name](server)
