"""``QueueRunner``, the base class of runners that send messages to workers of a task queue."""

from __future__ import annotations

import math
import signal
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..checks import check_number
from ..errors import TaskError, TaskLost
from ..fitting import check_store
from ..run.job import Job
from ..stores.base import TaskStore
from .base import Runner
from .message import Message, check, message_of

__all__ = ["Listeners", "Message", "QueueRunner"]

MAX_WAIT = 86_400.0
"""Seconds that a run may wait for a worker."""

MAX_BYTES = 1_000_000
"""Bytes that the serialised arguments of a run may take."""


class Listeners(NamedTuple):
    """The workers of a queue."""

    queue: str
    """The name of the queue."""
    number: int
    """Number of workers that take jobs from the queue."""
    command: str
    """The command that starts another worker; ``...`` stands for the name of a module."""


class QueueRunner(Runner):
    """Sends runs to the workers of a task queue, which report through a ``TaskStore``.

    A subclass implements ``dumps()`` and ``send()``, and its workers call ``silo_tasks.runners.worker.execute()``.

    Args:
        store: The store to which workers report, for tasks that have no store of their own.
        max_wait: Seconds that a run may wait for a worker; then it reads as failed, with ``TaskLost``.
        max_bytes: Bytes that the serialised arguments of a run may take.

    Raises:
        ValueError: ``max_wait`` is not positive, or infinite; or ``max_bytes`` is negative.
        TypeError: ``store`` is not a task store, or another argument is not a number.
    """

    waiting = "Waiting for a worker"
    remote = True

    store: TaskStore
    max_wait: float

    def __init__(self, store: TaskStore, *, max_wait: float = MAX_WAIT, max_bytes: int = MAX_BYTES) -> None:
        check_store(store)
        check_number("max_wait", max_wait, " of seconds")
        check_number("max_bytes", max_bytes)
        if not 0 < max_wait < math.inf:
            raise ValueError("max_wait must be positive, and not infinite")
        if not max_bytes >= 0:
            raise ValueError("max_bytes must be 0 or more")
        self.store = store
        self.max_wait = max_wait
        self.max_bytes = max_bytes
        self._closed = False

    def submit(self, job: Job) -> None:
        """Send the job to a worker.

        Raises:
            TaskError: The runner has been shut down, or a worker cannot import the function.
            TypeError: An argument does not fit the function or cannot be sent; the message names it.
            ValueError: The arguments are too large; the message names the largest.
            RunnerUnavailable: The queue cannot be reached.
        """
        if self._closed:
            raise TaskError("the runner has been shut down")
        message = message_of(job)
        self.check(job.function, job.args, job.kwargs)
        self.send(message)

    def check(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, given: int = 1
    ) -> None:
        """Check that a call can be sent.

        Args:
            function: The function to call.
            args: Positional arguments.
            kwargs: Keyword arguments.
            given: Number of arguments that the worker puts before these: 1, the task.

        Raises:
            TypeError: An argument does not fit the function or cannot be sent; the message names it.
            ValueError: The arguments are too large; the message names the largest.
        """
        sizes = check(function, args, kwargs, self.dumps, given)
        if sum(sizes.values()) > self.max_bytes:
            largest = max(sizes, key=lambda name: sizes[name])
            raise ValueError(
                f"the arguments take {sum(sizes.values())} bytes, of which {largest!r} takes {sizes[largest]}; up to "
                f"{self.max_bytes} can be sent to a worker. Put large data into a file or a store"
            )

    def shutdown(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - there is nothing to wait for here
        """Send no more jobs. Workers finish those that were sent."""
        self._closed = True
        return True

    def listeners(self) -> Listeners | None:
        """Count the workers that take the runs of this runner, for a check by an operator. The call may take a second.

        Returns:
            The queue and the number of its workers; None if the task queue cannot tell, or needs no worker.

        Raises:
            RunnerUnavailable: The queue cannot be reached.
        """
        return None

    @abstractmethod
    def dumps(self, value: Any) -> bytes:
        """Serialise one argument as the task queue does."""

    @abstractmethod
    def send(self, message: Message) -> None:
        """Give a message to the task queue, so that a worker calls ``execute()`` with it.

        Raises:
            RunnerUnavailable: The queue cannot be reached.
        """


def ended_by_worker(error: BaseException, *packages: str) -> TaskLost | None:
    """Return the error of a run that its worker has ended by ``SystemExit``, as its signal handler does.

    Args:
        error: The exception that ended the run.
        packages: The packages of the task queue's worker.

    Returns:
        The error; None if the run's own code raised it.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if not isinstance(error, SystemExit) or traceback is None:
        return None
    if str(traceback.tb_frame.f_globals.get("__name__")).partition(".")[0] not in packages:
        return None
    # Celery's processes give the number of the signal, counted from -256.
    number = 256 + error.code if isinstance(error.code, int) else 0
    if number not in list(signal.Signals):
        return lost("its worker was shut down")
    return lost(f"its worker ended it by {signal_words(number)}, as at a time limit, a revoke or a shutdown")


def lost(reason: str) -> TaskLost:
    """Return the error of a run that no worker will finish."""
    return TaskLost(f"lost: {reason}", "TaskLost")


def signal_words(number: int) -> str:
    """Name a signal, as in "signal 15 (SIGTERM)"."""
    return f"signal {number} ({signal.Signals(number).name})"
