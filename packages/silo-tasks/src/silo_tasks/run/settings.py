"""The settings that all runs of a task share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..stores.base import TaskStore
else:
    TaskStore = object  # a named tuple evaluates its annotations, and most tasks have no store


class Settings(NamedTuple):
    """The settings of a task."""

    name: str
    owner: str
    timeout: float | None
    max_logs: int
    store: TaskStore | None
    clock: Callable[[], float]
    mono: Callable[[], float]
    """Like ``clock``, for durations; monotonic unless the clock was injected."""
    public_errors: frozenset[str]
    """Names of the exceptions whose text clients may read."""
    label: str
    """The task's name in the log of the server."""
