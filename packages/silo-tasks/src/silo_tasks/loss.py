"""The log line of a run that is lost."""

from __future__ import annotations

from .logger import get_logger

LOST = "Task %s (run %s) is lost: %s"
"""The log message for a run that was not ended by its own code."""


def log_loss(label: str, token: str, reason: str) -> None:
    """Log that a run is lost.

    Args:
        label: The task's name in the log.
        token: The token of the run.
        reason: What ended the run.
    """
    get_logger().warning(LOST, label, short(token), reason)


def short(token: str) -> str:
    """Return the beginning of a token: enough to find the run in other logs, where the token is the id of a job."""
    return token[:8]


def reason_of(error: str) -> str:
    """Return what ended a run, from the text of its ``TaskLost``."""
    return error.removeprefix("lost: ")
