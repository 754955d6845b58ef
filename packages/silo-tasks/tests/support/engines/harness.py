"""RQ and Celery behind one face, so that a test says once what holds for both."""

from __future__ import annotations

import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from engines.celery_app import make_app
from rq import Queue
from servers import _Server, until
from silo_tasks import BackgroundTask
from silo_tasks.runners.celery import CeleryRunner
from silo_tasks.runners.message import Message
from silo_tasks.runners.queue import QueueRunner
from silo_tasks.runners.rq import RQRunner

HERE = Path(__file__).parent.parent


class Worker(_Server):
    """A worker process, which takes jobs as soon as the object is there.

    Args:
        command: What to run, after the interpreter.
        ready: What it prints once it takes jobs.
        folder: Holds its log; made if it is missing.
        imports: Where it finds modules.
        env: Added to this process's environment.
    """

    def __init__(
        self,
        command: Sequence[str],
        ready: str,
        *,
        folder: Path,
        imports: Path = HERE,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(imports)]))
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {}), "PYTHONPATH": path}
        self._launch([sys.executable, *command], signal.SIGTERM, cwd=folder, env=variables)
        try:
            until(lambda: not self.running or ready in self.log(), "the worker does not start")
        except BaseException:
            self.kill()
            raise
        if not self.running:
            self._finalizer.detach()
            raise RuntimeError(f"the worker ended:\n{self.log()}")

    def children(self) -> list[int]:
        """Its child processes."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def kill(self) -> None:
        """End it and its children with SIGKILL, as a machine that fails would."""
        children = self.children() if self.running else []
        super().kill()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def __exit__(self, *error: object) -> None:
        """End it at once: a worker of Celery takes a second to say goodbye."""
        if self.running:
            self.kill()


class Engine(ABC):
    """A task queue on a Redis server, seen from the process that starts tasks."""

    name: str
    pools: Sequence[str]
    """Kinds of workers, the usual one first."""
    bad: object
    """A value that cannot be sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent: list[Message] = []
        """What was sent, oldest first."""
        self.runner = self.make_runner()

    @abstractmethod
    def make_runner(self, **options: Any) -> QueueRunner:
        """A runner, which notes what it sends."""

    @abstractmethod
    def deliver(self, message: Message) -> None:
        """Put a message into the queue as if it had been sent once more."""

    @abstractmethod
    def start_worker(self, folder: Path, pool: str = "") -> Worker:
        """A worker of the kind."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def task(self, name: str = "task", **options: Any) -> BackgroundTask:
        """A task that runs here."""
        return BackgroundTask(name, **{"runner": self.runner, **options})


class RQ(Engine):
    name = "rq"
    pools = ("rq.Worker", "rq.SimpleWorker")
    bad = threading.Lock()

    def __init__(self, url: str, serializer: str | None = None) -> None:
        self.connection = redis.Redis.from_url(url)
        self.serializer = serializer
        self.queue = Queue(connection=self.connection, serializer=serializer)
        super().__init__(url)

    def make_runner(self, **options: Any) -> QueueRunner:
        runner: QueueRunner = _noting(RQRunner)(self.sent, self.queue, **options)
        return runner

    def deliver(self, message: Message) -> None:
        args = [message.head(), [list(message.args), dict(message.kwargs)], {}]
        self.queue.enqueue_call("silo_tasks.runners.rq.work", args=args)

    def start_worker(self, folder: Path, pool: str = "", *, env: Mapping[str, str] | None = None) -> Worker:
        more = ["--serializer", self.serializer] if self.serializer else []
        command = ["-m", "rq.cli", "worker", "--url", self.url, "-w", pool or self.pools[0], *more]
        return Worker(command, "Listening on", folder=folder, env=env)

    def close(self) -> None:
        self.connection.close()


class CeleryEngine(Engine):
    name = "celery"
    pools = ("prefork", "solo", "threads")
    bad = object()

    def __init__(self, url: str) -> None:
        self.app = make_app(url)
        super().__init__(url)

    def make_runner(self, **options: Any) -> QueueRunner:
        runner: QueueRunner = _noting(CeleryRunner)(self.sent, self.app, **options)
        return runner

    def deliver(self, message: Message) -> None:
        self.runner.send(message)

    def start_worker(
        self, folder: Path, pool: str = "", *, queues: str = "celery", env: Mapping[str, str] | None = None
    ) -> Worker:
        command = ["-m", "celery", "-A", "engines.celery_app", "worker", "--loglevel=INFO", "--without-mingle"]
        command += ["--without-gossip", "--concurrency=1", f"--pool={pool or self.pools[0]}", "--queues", queues]
        return Worker(command, " ready.", folder=folder, env={"ENGINE_URL": self.url, **(env or {})})

    def close(self) -> None:
        self.app.close()


ENGINES: dict[str, Callable[[str], Engine]] = {"rq": RQ, "celery": CeleryEngine}


def _noting(kind: Any) -> Any:
    class Noting(kind):  # type: ignore[misc]
        """Notes what it sends."""

        def __init__(self, sent: list[Message], *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._sent = sent

        def send(self, message: Message) -> None:
            super().send(message)
            self._sent.append(message)

    return Noting
