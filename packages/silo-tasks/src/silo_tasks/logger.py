"""The logger of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .importing import importing

if TYPE_CHECKING:
    from logging import Logger


def get_logger() -> Logger:
    """Return the logger ``silo_tasks``. The logging module is imported for the first line, as it takes milliseconds."""
    with importing:
        import logging

    return logging.getLogger("silo_tasks")
