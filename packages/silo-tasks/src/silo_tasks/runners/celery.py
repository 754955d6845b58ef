"""Runs on the workers of Celery (5)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery, signals
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from kombu import serialization
from kombu.exceptions import OperationalError
from kombu.utils.url import parse_url

from ..errors import RunnerUnavailable, TaskError, TaskFailed, TaskTimeout
from ..fitting import check_store
from ..stores.base import TaskStore
from ..text import describe
from .message import Message
from .queue import MAX_BYTES, MAX_WAIT, Listeners, QueueRunner, ended_by_worker, lost, signal_words
from .worker import execute, fail

RETRY: dict[str, float] = {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
"""How sending a message is retried while the broker does not accept it."""

ANSWER_WAIT = 1.0
"""Seconds to wait for the workers' answers about their queues."""

HEAD = "silo_tasks"
"""The header of a Celery message that holds the head of a ``Message``, for a worker that cannot read the rest."""

_stores: WeakKeyDictionary[Celery, dict[str, TaskStore]] = WeakKeyDictionary()


class CeleryRunner(QueueRunner):
    """Sends runs to the workers of a Celery application.

    The runner adds one Celery task to the application, so a worker has to import the module that makes the runner.
    Targets are ordinary functions that workers can import. Their arguments go through the application's
    ``task_serializer``, which is JSON by default. Celery keeps no result and retries nothing; the deadline is that of
    the task. Time limits that the application sets for all tasks hold as well.

    Args:
        app: The application, configured.
        store: The store to which workers report; by default a ``RedisTaskStore`` at the broker's URL, with the broker's
            TLS settings, from ``broker_use_ssl`` or its URL.
        queue: The Celery queue; by default the one to which the application routes the task ``name``.
        name: Name of the Celery task. Runners of one application share it, unless their stores differ.
        max_wait: Seconds that a run may wait for a worker; then it reads as failed, with ``TaskLost``.
        max_bytes: Bytes that the serialised arguments of a run may take.

    Raises:
        ValueError: No store is given, and the broker is not at a redis:// or rediss:// URL, or ``broker_use_ssl`` is
            not a dict of redis-py's options. Or the application has a runner of that name with another store, or
            ``max_wait`` is not positive, or infinite.
        TypeError: ``app`` is not an application of Celery, or ``store`` is not a task store.
    """

    def __init__(
        self,
        app: Celery,
        *,
        store: TaskStore | None = None,
        queue: str | None = None,
        name: str = "silo_tasks.execute",
        max_wait: float = MAX_WAIT,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        if not isinstance(app, Celery):
            raise TypeError(
                f"app must be an application of Celery such as Celery(name, broker=url), not a {type(app).__name__}"
            )
        if store is not None:
            check_store(store)
        stores = _stores.setdefault(app, {})
        if name not in stores:
            stores[name] = store if store is not None else _beside_broker(app)
            _register(app, name, stores[name])
        elif store is not None and store is not stores[name]:
            raise ValueError(f"{name!r} has another store in this application: give this runner another name")
        super().__init__(stores[name], max_wait=max_wait, max_bytes=max_bytes)
        self.app = app
        self._queue = queue
        self._name = name

    def dumps(self, value: Any) -> bytes:
        """Serialise one argument as the application does."""
        data = self._pack(value)[2]
        return data if isinstance(data, bytes) else data.encode()

    def _pack(self, value: Any) -> tuple[str, str, bytes | str]:
        """Return the content type, the encoding and the data of a value."""
        dumps: Any = serialization.dumps
        packed: tuple[str, str, bytes | str] = dumps(value, serializer=self.app.conf.task_serializer)
        return packed

    def listeners(self) -> Listeners | None:
        """Ask Celery's workers for their queues, and count those with the queue of this runner.

        A worker that cannot answer while it is busy, such as one with the pool ``solo``, is not counted.

        Returns:
            None if the broker cannot carry questions to workers (Amazon SQS), if workers answer none
            (``worker_enable_remote_control``), or if runs need no worker (``task_always_eager``).

        Raises:
            RunnerUnavailable: The broker cannot be reached.
        """
        conf, queue = self.app.conf, str(self._routed().name)
        if conf.task_always_eager or not conf.worker_enable_remote_control:
            return None
        try:
            with self.app.connection_for_write() as connection:
                connection.ensure_connection(**RETRY)
                if not connection.supports_exchange_type("fanout"):
                    return None
                ask: Any = self.app.control.broadcast
                answers = ask("active_queues", reply=True, timeout=ANSWER_WAIT, connection=connection) or []
        except (OperationalError, OSError) as error:
            raise RunnerUnavailable("the broker", describe(error)) from error
        # Not by ``inspect()``, which counts workers of the same name once.
        listed = [queues for answer in answers for queues in answer.values() if isinstance(queues, list)]
        number = sum(any(each["name"] == queue for each in queues) for queues in listed)
        return Listeners(queue, number, f"celery -A ... worker -Q {queue}")

    def _routed(self) -> Any:
        """Return the queue to which runs are sent."""
        return self.app.amqp.router.route({"queue": self._queue} if self._queue else {}, self._name)["queue"]

    def send(self, message: Message) -> None:
        """Give a message to the broker.

        Raises:
            RunnerUnavailable: The broker does not accept it.
        """
        values: list[Any] = [list(message.args), dict(message.kwargs)]
        kind, encoding, data = self._pack(values)
        if isinstance(data, bytes):
            # Bytes, as from pickle. Packed separately, so that a worker that cannot read them can still report that.
            values = [data, [kind, encoding]]
        try:
            self.app.tasks[self._name].apply_async(
                (message.head(), *values),
                task_id=message.token,
                queue=self._queue,
                headers={HEAD: message.head()},
                argsrepr=f"{message.name} ({message.function})",  # by default Celery shows the arguments
                kwargsrepr="{}",
                retry=True,
                retry_policy=RETRY,
            )
        except (OperationalError, OSError) as error:
            raise RunnerUnavailable("the broker", describe(error)) from error


def _beside_broker(app: Celery) -> TaskStore:
    url = str(app.conf.broker_write_url or "")
    if not url.startswith(("redis://", "rediss://")) or ";" in url:
        raise ValueError(
            "the broker is not at one redis:// or rediss:// URL: configure it first, or give store=RedisTaskStore(url) "
            "for workers to report to"
        )
    from ..stores.address import without_options
    from ..stores.redis import RedisTaskStore

    # The options in the URL are for kombu.
    place, tls = without_options(url), _tls_of(app, url)
    return RedisTaskStore(_over_tls(place, tls) if tls else place)


def _tls_of(app: Celery, url: str) -> Any:
    """Return the TLS settings that kombu finds in the URL or ``broker_use_ssl``; False if it connects without TLS."""
    try:
        given = parse_url(url).get("ssl")
    except (KeyError, ValueError):
        raise ValueError(
            "kombu cannot read the broker's URL: ssl_cert_reqs in it is CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE"
        ) from None
    # kombu does not check a certificate that no setting mentions.
    return given or app.conf.broker_use_ssl or (url.startswith("rediss://") and {"ssl_cert_reqs": ssl.CERT_NONE})


def _over_tls(url: str, settings: Any) -> Any:
    """Return a client that connects as kombu does."""
    import redis

    from ..stores.redis import IMPATIENT

    try:
        client = redis.Redis.from_url(f"rediss{url[url.index('://') :]}", **IMPATIENT, **settings)
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # refuses unknown options; opens no connection
    except (TypeError, redis.RedisError):
        raise ValueError(
            "broker_use_ssl of a broker in Redis is a dict of redis-py's options, as in {'ssl_cert_reqs': "
            "ssl.CERT_REQUIRED, 'ssl_ca_certs': '/path/of/authority.pem'}: configure it so, or give "
            "store=RedisTaskStore(url) for workers to report to"
        ) from None
    return client


def _register(app: Celery, name: str, store: TaskStore) -> None:
    """Add the Celery task that executes runs."""

    def work(head: Mapping[str, Any], args: Sequence[Any] | bytes, kwargs: Any) -> None:
        problem = None
        try:
            args, kwargs = _unpacked(app, args, kwargs)
        except Exception as error:  # noqa: BLE001 - whatever a class does when its instance is made again
            args, kwargs, problem = (), {}, TaskError(f"the worker cannot read the arguments: {error!r}")
        execute(Message.of(head, args, kwargs), store, problem=problem, ended=_ended)

    # Acknowledged at the start: another worker that got the message of a killed worker would find the run claimed.
    app.task(
        name=name,
        shared=False,
        ignore_result=True,
        store_errors_even_if_ignored=False,
        acks_late=False,
        track_started=False,
        max_retries=0,
    )(work)


def _unpacked(app: Celery, args: Any, kwargs: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if not isinstance(args, bytes):
        return args, kwargs
    loads: Any = serialization.loads
    accepted: Any = serialization.prepare_accept_content
    args, kwargs = loads(args, *kwargs, accept=accepted(app.conf.accept_content))
    return args, kwargs


def _ended(error: BaseException) -> TaskFailed | None:
    if isinstance(error, SoftTimeLimitExceeded):
        return TaskTimeout("took longer than the soft time limit of its worker", "TaskTimeout")
    return ended_by_worker(error, "billiard", "celery")


# Celery sends these signals in the process that received the message. The process that executed it may be dead then.


def _on_failure(sender: Any, exception: BaseException, args: Any, **_: Any) -> None:
    """Fail the run of a killed process or of a failed Celery task. (If a run fails, its Celery task does not.)"""
    store = _store_of(sender, getattr(sender, "name", None))
    if store is None or not args:
        return
    if isinstance(exception, TimeLimitExceeded):
        error: TaskFailed = lost(f"its worker ended it at the time limit of {exception.args[0]:g} seconds")
    elif isinstance(exception, WorkerLostError):
        error = lost(f"its process has ended: {describe(exception)}")
    else:
        error = TaskFailed(f"the worker of Celery failed: {describe(exception)}", type(exception).__name__)
    head, *values = args
    _fail(store, sender.app, head, values, error)


def _on_revoke(sender: Any, request: Any, terminated: bool, signum: Any, expired: bool, **_: Any) -> None:
    store = _store_of(sender, getattr(sender, "name", None))
    if store is None:
        return
    if terminated:
        how = f" by {signal_words(signum)}" if isinstance(signum, int) else ""
        reason = f"it was revoked, and its worker ended it{how}"
    else:
        reason = "it expired before a worker took it" if expired else "it was revoked before a worker took it"
    _fail(store, sender.app, request.get(HEAD), (), lost(reason))


def _on_rejection(sender: Any, message: Any, exc: Exception | None, **_: Any) -> None:
    """Fail the run of a message that the worker cannot read, or may not."""
    store = _store_of(sender, (message.headers or {}).get("task"))
    if store is not None and exc is not None:
        error = TaskFailed(f"the worker of Celery refuses the message: {describe(exc)}", type(exc).__name__)
        _fail(store, sender.app, message.headers.get(HEAD), (), error)


def _store_of(sender: Any, name: Any) -> TaskStore | None:
    """Return the store of a ``CeleryRunner``; None for any other task of Celery."""
    app = getattr(sender, "app", None)
    return _stores.get(app, {}).get(name) if isinstance(app, Celery) else None


def _fail(store: TaskStore, app: Celery, head: Any, values: Sequence[Any], error: TaskFailed) -> None:
    if isinstance(head, Mapping):
        # Only a function that brings its store needs the arguments here.
        args, kwargs = _unpacked(app, *values) if values and head.get("brings_store") else ((), {})
        fail(Message.of(head, args, kwargs), store, error)


signals.task_failure.connect(_on_failure)
signals.task_revoked.connect(_on_revoke)
signals.task_rejected.connect(_on_rejection)
