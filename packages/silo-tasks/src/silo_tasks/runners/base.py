"""``Runner``, the interface to what executes the runs of tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import TaskError
from ..importing import importing

if TYPE_CHECKING:
    from ..run.job import Job
    from ..run.run import Run
    from ..stores.base import TaskStore

_job_of: Callable[[Run], Job] | None = None
"""``job_of()``, once a runner needs a job."""


class Runner(ABC):
    """Executes the runs of tasks: the base class of every runner.

    A runner must have ``submit()`` and ``shutdown()``, and obey the rules that ``silo_tasks.testing.RunnerContract``
    checks: a job that was accepted is executed once or cancelled, in no guaranteed order; constructing a runner starts
    nothing; a job that raises harms no other job.

    A runner of this process calls ``job.run.execute()`` or ``job.run.cancel()``. A runner that sends jobs to the
    workers of a task queue derives from ``silo_tasks.runners.queue.QueueRunner``.

    Attributes:
        waiting: The message of a run that was accepted and has not begun.
        remote: Whether runs are executed in other processes. ``check()`` then checks what is sent there.
        can_kill: Whether ``kill()`` can end a run that does not stop.
        store: The store to which the workers of a task queue report; None for any other runner.
        max_wait: Seconds that a run may wait for a worker of a task queue; None for any other runner.
    """

    waiting: ClassVar[str] = "Waiting"
    remote: ClassVar[bool] = False
    can_kill: ClassVar[bool] = False
    store: TaskStore | None = None
    max_wait: float | None = None

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Accept a job, to be executed now or later.

        Raises:
            QueueFull: The queue is full; the job was not accepted.
            TaskError: The runner has been shut down, or cannot run such a job.
        """

    def _submit_run(self, run: Run) -> None:
        """Submit the job for a run."""
        self.submit((_job_of or _import_job_of())(run))

    @abstractmethod
    def shutdown(self, timeout: float | None = None) -> bool:
        """Accept no more jobs and wait for the accepted ones.

        Args:
            timeout: Seconds to wait; None for no limit. Then the remaining jobs are cancelled; running ones stop at
                their next item.

        Returns:
            Whether all jobs ended in time.
        """

    def check(  # noqa: B027 - a thread takes any arguments
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, given: int = 1
    ) -> None:
        """Check that a call can be sent to the process that would execute it. In this process, every call can.

        Args:
            function: The function to call.
            args: Positional arguments.
            kwargs: Keyword arguments.
            given: Number of arguments that the other side puts before these: 1, the task.

        Raises:
            TypeError: An argument does not fit the function or cannot be sent; the message names it.
            ValueError: The arguments are too large; the message names the largest.
        """

    def kill(self, token: str, after: float) -> bool:  # noqa: ARG002 - for runners that can
        """Kill the process that executes a run if the run has not stopped in time.

        Args:
            token: The token of the run.
            after: Seconds from now that the run has to stop.

        Returns:
            Whether a process executes the run.

        Raises:
            TaskError: The runner cannot kill; see ``can_kill``.
        """
        raise TaskError(f"a {type(self).__name__} cannot kill run {token[:8]}: that takes a ProcessRunner")


def _import_job_of() -> Callable[[Run], Job]:
    """Import what makes jobs. Most programs have only a ``ThreadRunner``, which needs none."""
    global _job_of
    with importing:
        from ..run.job import job_of

    _job_of = job_of
    return job_of
