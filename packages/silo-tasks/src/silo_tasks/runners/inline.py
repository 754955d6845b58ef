"""A runner without threads."""

from __future__ import annotations

from ..errors import TaskError
from ..run.job import Job
from .base import Runner


class InlineRunner(Runner):
    """Executes each job at once, in the thread that submits it: ``start()`` returns when the run is over.

    For tests and scripts. A run can be cancelled by its own code or by another thread.
    """

    def __init__(self) -> None:
        self._closed = False

    def submit(self, job: Job) -> None:
        """Execute the job.

        Raises:
            TaskError: The runner has been shut down.
        """
        if self._closed:
            raise TaskError("the runner has been shut down")
        job.run.execute()

    def shutdown(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - nothing is ever left to wait for
        """Accept no more jobs."""
        self._closed = True
        return True
