"""The seam below a task: where its code runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


class Work(Protocol):
    """What a pool of threads executes."""

    def execute(self) -> None:
        """Do it, to its end, in this thread. Does nothing when it was cancelled before."""

    def cancel(self) -> bool:
        """Ask it to stop; whether there was something to stop."""

    def will_stop(self, reason: str) -> None:
        """Note why it is about to be stopped. The reason is logged if the stop ends it."""

    def left_behind(self) -> None:
        """Log that it is lost, if it is still at work when its process ends."""


@runtime_checkable
class Job(Work, Protocol):
    """One run of a task, handed to a runner.

    A runner of this process calls `execute()`. One that has a child process execute it calls `begin()`, then `report()`
    with each record that the child sends, and `lose()` or `killed()` if the child dies. One that sends it to the
    workers of a task queue is an `QueueRunner`: they report through the task's `TaskStore`, and nobody calls the job
    again.
    """

    on_stop: Callable[[], object] | None
    """Set by a runner that has the job executed elsewhere: called, with no lock held, when it is asked to stop."""

    @property
    def name(self) -> str:
        """Name of the task."""

    @property
    def label(self) -> str:
        """What the log of the server calls the task."""

    @property
    def public_errors(self) -> Collection[str]:
        """Names of the exceptions whose text clients may read, as `package.module:name`."""

    @property
    def owner(self) -> str:
        """Whose task it is, "" when nobody said; the first half of the key in a task store."""

    @property
    def token(self) -> str:
        """Names this run and no other. What is reported under an old token is refused."""

    @property
    def number(self) -> int:
        """Number of the run, counted from 1."""

    @property
    def target(self) -> Callable[..., Any]:
        """The function to call: the task first, then the arguments."""

    @property
    def args(self) -> Sequence[Any]:
        """Positional arguments after the task."""

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """Keyword arguments."""

    @property
    def timeout(self) -> float | None:
        """Seconds the run may take, or None."""

    @property
    def max_logs(self) -> int:
        """Log lines that are kept."""

    @property
    def last_seq(self) -> int:
        """Number of the last log line of the run before."""

    def execute(self) -> None:
        """Run the target to its end in this thread. Does nothing when the job was cancelled before.

        What the target raises ends up in the task's state. Only `KeyboardInterrupt` is raised on to the caller.
        """

    def cancel(self) -> bool:
        """Ask the job to stop; whether it was still queued or running."""

    def begin(self) -> bool:
        """Be running, with the deadline counted from now; False when it was cancelled before."""

    def report(self, record: dict[str, Any], value: Any = ...) -> None:
        """Show what was heard of a job that is executed elsewhere; the record of its end ends it, with its value."""

    def lose(self, reason: str, *, public: bool = True) -> None:
        """Tell the job that nobody will finish it, as its thread or process is gone. It fails with that reason.

        Args:
            reason: What happened.
            public: Whether clients may read it.
        """

    def killed(self) -> None:
        """Tell the job that its process was killed because it did not stop. It is cancelled."""


@runtime_checkable
class Runner(Protocol):
    """Runs jobs.

    The rules, which `silo_tasks.testing.RunnerContract` checks: a job that was accepted is executed once or cancelled,
    in no promised order; constructing a runner starts nothing; a job that raises harms no other job.

    A runner may have an attribute `waiting`: the message of a run that it has accepted and not begun. By default the
    message is "Waiting".
    """

    def submit(self, job: Job) -> None:
        """Accept a job, to be executed now or later.

        Raises:
            QueueFull: As many jobs wait as may; this one was not accepted.
            TaskError: The runner has been shut down, or cannot run such a job.
        """

    def shutdown(self, timeout: float | None = None) -> bool:
        """Accept no more jobs and wait for the accepted ones.

        Args:
            timeout: Seconds to wait (None: for ever). Then the jobs left are cancelled, which running ones see at
                their next item.

        Returns:
            Whether everything had ended in time.
        """


def waiting_at(runner: Runner) -> str:
    """The message of a run that a runner has accepted and not begun."""
    return str(getattr(runner, "waiting", "Waiting"))


@runtime_checkable
class RemoteRunner(Runner, Protocol):
    """A runner that has jobs executed in other processes."""

    def check(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, given: int = 1
    ) -> None:
        """See whether a call can be sent there.

        Args:
            function: What shall be called.
            args: Positional arguments.
            kwargs: Keyword arguments.
            given: How many arguments the other side puts before these: 1, the task.

        Raises:
            TypeError: An argument does not fit the function or cannot be sent; the message names it.
            ValueError: The arguments are too large; the message names the largest.
        """


@runtime_checkable
class KillingRunner(Runner, Protocol):
    """A runner that can end a job which does not obey."""

    def kill(self, job: Job, after: float) -> bool:
        """Kill the process of the job if it has not stopped after so many seconds.

        Returns:
            Whether a process has the job.
        """
