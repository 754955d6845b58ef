"""``Job``, which a runner gets to execute: the data of one run, and the run itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ..errors import TaskError
from .run import Run


class LiveRun(Protocol):
    """The run of a job, as a runner of this process uses it."""

    @property
    def token(self) -> str:
        """Identifies the run. Made at the first access."""

    def execute(self) -> None:
        """Run the function to its end in this thread. Does nothing if the run was cancelled before.

        An error of the function ends up in the task's state. Only ``KeyboardInterrupt`` is raised to the caller.
        """

    def cancel(self) -> bool:
        """Ask the run to stop. Return whether it was queued or running."""

    def will_stop(self, reason: str) -> None:
        """Note why the runner is about to stop the run. The reason is logged if the stop ends the run."""

    def left_behind(self) -> None:
        """Log that the run is lost, if it is still active when its process ends."""


class Job(NamedTuple):
    """One run of a task, as a runner gets it: a value that never changes."""

    run: LiveRun
    """The run itself, for a runner that executes it in this process."""
    name: str
    """Name of the task."""
    label: str
    """The task's name in the log of the server."""
    owner: str
    """Owner of the task, "" by default; the first half of the key in a task store."""
    number: int
    """Number of the run, counted from 1."""
    function: Callable[..., Any]
    """The function to call: the task first, then the arguments."""
    args: Sequence[Any]
    """Positional arguments after the task."""
    kwargs: Mapping[str, Any]
    """Keyword arguments."""
    timeout: float | None
    """Seconds that the run may take; None for no limit."""
    max_logs: int
    """Number of log lines that are kept."""
    last_seq: int
    """Number of the last log line of the previous run."""
    public_errors: frozenset[str]
    """Names of the exceptions whose text clients may read, as ``package.module:name``."""

    @property
    def token(self) -> str:
        """Identifies this run. A store refuses reports under the token of an older run."""
        return self.run.token

    def __repr__(self) -> str:
        # Without the arguments, which may hold secrets.
        return f"<Job of task {self.name!r}, run {self.number}>"


def job_of(run: Run) -> Job:
    """Return the job for a run.

    Raises:
        TaskError: The run is over already.
    """
    name, owner, timeout, max_logs, _, _, _, public_errors, label = run.settings
    with run.lock:
        function, args, kwargs, over = run.function, run.args, run.kwargs, run.status.is_final
    if over or function is None:
        raise TaskError(f"task {name!r} has nothing to run: its run is over")
    number, last_seq = run.number, run.log.last_seq
    return Job(run, name, label, owner, number, function, args, kwargs, timeout, max_logs, last_seq, public_errors)
