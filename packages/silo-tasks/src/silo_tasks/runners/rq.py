"""Runs on the workers of RQ (2.0 or newer)."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from redis import ConnectionPool, Redis
from redis.exceptions import RedisError
from rq import Callback, Queue, Worker, get_current_job
from rq.connections import parse_connection
from rq.exceptions import DeserializationError
from rq.job import Job
from rq.serializers import DefaultSerializer

from ..errors import RunnerUnavailable, TaskError, TaskFailed
from ..run.publishing import INTERVAL
from ..stores.redis import IMPATIENT, RETAIN, RedisTaskStore, leave_replica
from ..text import describe
from .message import Message
from .queue import MAX_BYTES, MAX_WAIT, Listeners, QueueRunner, ended_by_worker, lost
from .worker import execute, fail

FORGET_DONE = 1
"""Seconds for which RQ keeps a finished job. Deleting it at once would take RQ seven round trips."""

FORGET_FAILED = 86_400
"""Seconds for which RQ lists a job whose worker was killed."""

NOTE = "silo_tasks"
"""The field of an RQ job that holds, as JSON, the head of the message and the settings of the store."""


class RQRunner(QueueRunner):
    """Sends runs to the workers of an RQ queue, which ``rq worker`` starts as usual.

    The target is an ordinary function that workers can import. Its arguments go through the queue's serializer, which
    is pickle by default. Records are kept beside the queue, in the same Redis. RQ keeps no result and forgets a
    job a second after its end. It applies no timeout and retries nothing; the deadline is that of the task.

    Args:
        queue: The queue, with its connection.
        prefix: Prefix of the keys of records.
        retain: Seconds for which a record is kept after the last report of its run.
        max_wait: Seconds that a run may wait for a worker; then it reads as failed, with ``TaskLost``.
        max_bytes: Bytes that the serialised arguments of a run may take.

    Raises:
        ValueError: ``max_wait`` or ``retain`` is not positive, or ``max_wait`` is infinite, or the queue's connection
            has an option that redis-py refuses, such as ssl_cert_reqs=CERT_REQUIRED in its URL.
        TypeError: ``queue`` is not a queue of RQ, for example only the name of one.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        prefix: str = "silo-tasks",
        retain: float = RETAIN,
        max_wait: float = MAX_WAIT,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        if not isinstance(queue, Queue):
            raise TypeError(
                f"queue must be a queue of RQ such as Queue(name, connection=...), not a {type(queue).__name__}"
            )
        store = RedisTaskStore(queue.connection, prefix=prefix, retain=retain)
        super().__init__(store, max_wait=max_wait, max_bytes=max_bytes)
        self._queue = queue
        self._store_settings = {"prefix": prefix, "retain": retain}
        self._pickles = queue.serializer is DefaultSerializer
        # A worker reads this before it forks a process for the job, and so imports this module once for all jobs.
        # Importing it for each job would take three times as long as the rest of a short job.
        self._meta = {"silo_tasks": work} if self._pickles else {}

    def dumps(self, value: Any) -> bytes:
        """Serialise one argument as the queue does."""
        return bytes(self._queue.serializer.dumps(value))

    def listeners(self) -> Listeners | None:
        """Count the workers that RQ lists for the queue. RQ lists a killed worker for up to eight minutes more.

        Returns:
            None for a queue that runs its jobs at once (``is_async=False``).

        Raises:
            RunnerUnavailable: Redis cannot be reached.
        """
        if not self._queue.is_async:
            return None
        try:
            number = len(Worker.all(queue=self._queue))
        except RedisError as error:
            leave_replica(self._queue.connection, error)
            raise RunnerUnavailable("the queue of RQ", describe(error)) from error
        return Listeners(self._queue.name, number, f"rq worker {self._queue.name}")

    def send(self, message: Message) -> None:
        """Put a message into the queue.

        Raises:
            RunnerUnavailable: Redis cannot be reached.
        """
        values: Any = [list(message.args), dict(message.kwargs)]
        # Pickled separately, so that a worker that cannot read them can still report that.
        values = self.dumps(values) if self._pickles else values
        # The note for the callbacks is not serialised by the queue, because a worker may have another serializer.
        pipe = self._queue.connection.pipeline() if self._queue.is_async else None
        try:
            self._queue.enqueue_call(
                work,
                args=(message.head(), values, self._store_settings),
                job_id=message.token,
                description=f"{message.name} ({message.function})",  # by default RQ shows the arguments
                meta=self._meta,
                timeout=-1,
                ttl=math.ceil(self.max_wait),
                result_ttl=FORGET_DONE,
                failure_ttl=FORGET_FAILED,
                on_failure=Callback(on_failure),
                on_stopped=Callback(on_stopped),
                pipeline=pipe,
            )
            if pipe is not None:
                note = json.dumps({"head": message.head(), "store": self._store_settings})
                pipe.hset(Job.key_for(message.token), NOTE, note)
                pipe.execute()
        except RedisError as error:
            leave_replica(self._queue.connection, error)
            raise RunnerUnavailable("the queue of RQ", describe(error)) from error


def work(head: Mapping[str, Any], values: Any, store: Mapping[str, Any]) -> None:
    """Execute a run. RQ's workers call this."""
    job, problem = get_current_job(), None
    assert job is not None
    try:
        args, kwargs = _unpacked(job, values)
    except Exception as error:  # noqa: BLE001 - whatever a class does when its instance is made again
        args, kwargs, problem = (), {}, TaskError(f"the worker cannot read the arguments: {error!r}")
    records = _Records(job.connection, **store)
    try:
        execute(Message.of(head, args, kwargs), records, problem=problem, ended=_ended)
    finally:
        records.close()


def _unpacked(job: Job, values: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    args, kwargs = job.serializer.loads(values) if isinstance(values, bytes) else values
    return args, kwargs


def _ended(error: BaseException) -> TaskFailed | None:
    return ended_by_worker(error, "rq")


def on_failure(job: Job, connection: Redis, kind: type[BaseException], error: BaseException, _: object) -> None:
    """Fail a run whose job RQ cannot execute. RQ's workers call this. (If a run fails, its job does not.)"""
    what = describe(error.__cause__ or error)
    if issubclass(kind, DeserializationError):
        what = f"{what}. The worker needs the serializer of the queue"
    _fail(job, connection, TaskFailed(f"the worker of RQ cannot execute the job: {what}", kind.__name__))


def on_stopped(job: Job, connection: Redis) -> None:
    """Fail a run that was told to stop by ``rq.command.send_stop_job_command()``. RQ's workers call this."""
    # The worker itself calls this, not the process of the job. Opening a store that the function brings could load a
    # whole application, which the processes of later jobs would inherit. Such a run is lost once its lease has passed.
    _fail(job, connection, lost("its worker was told to stop its job, and ended it"), opens=False)


def _fail(job: Job, connection: Redis, error: TaskFailed, *, opens: bool = True) -> None:
    note: Any = connection.hget(job.key, NOTE)
    values = {} if note is None else json.loads(note)
    if not values or (values["head"].get("brings_store") and not opens):
        return
    try:
        args, kwargs = _unpacked(job, job.args[1])
    except Exception:  # noqa: BLE001 - perhaps the reason for which the job failed
        args, kwargs = (), {}
    fail(Message.of(values["head"], args, kwargs), RedisTaskStore(connection, **values["store"]), error)


class _Records(RedisTaskStore):
    """A store that gets a connection of its own for a run that takes a while.

    A connection of RQ's worker waits minutes for an answer, and a run that does not report for seconds is lost.
    """

    def __init__(self, client: Redis, **settings: Any) -> None:
        super().__init__(client, **settings)
        self._lock = threading.Lock()
        self._own: ConnectionPool | None = None
        # Half of the time until the record is first stored again. A run that is over by then needs no connection of its
        # own.
        self._patience = time.monotonic() + INTERVAL / 2

    def _check(self, client: Redis) -> None:
        """Check nothing: the worker is connected. The check would take a tenth of the time of a short job."""

    def _run(self, script: Any, key: bytes, *args: str | int) -> Any:
        if self._own is None and time.monotonic() > self._patience:
            self._hurry()
        return super()._run(script, key, *args)

    def _hurry(self) -> None:
        """Use a connection of its own from now on, with the timeouts of other stores."""
        with self._lock:
            if self._own is None:
                kind, connection_class, options = parse_connection(self._client)
                own = ConnectionPool(connection_class, **{**options, **IMPATIENT})
                self._client = kind(connection_pool=own)
                self._own = own

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._own is not None:
            self._own.disconnect()
