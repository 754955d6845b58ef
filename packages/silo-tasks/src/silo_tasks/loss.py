"""The log line of a run that is lost."""

from __future__ import annotations

import logging

logger = logging.getLogger("silo_tasks")

LOST = "Task %s (run %s) is lost: %s"
"""The log message of a run that something other than its own code has ended."""


def log_loss(label: str, token: str, reason: str) -> None:
    """Log that a run is lost.

    Args:
        label: What the log calls the task.
        token: The token of the run.
        reason: What ended it.
    """
    logger.warning(LOST, label, short(token), reason)


def short(token: str) -> str:
    """Return the beginning of a token: enough to find the run in other logs, where the token is the id of its job."""
    return token[:8]


def reason_of(error: str) -> str:
    """Return what ended a run, from the text of the error that it was lost with."""
    return error.removeprefix("lost: ")
