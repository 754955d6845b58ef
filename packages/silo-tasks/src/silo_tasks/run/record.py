"""What is known of one run, and the job that runners see."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..log.lines import LogRing
from ..loss import log_loss
from ..progress.scopes import Probe, Progress, Scope
from ..progress.steps import Steps
from ..status import Status
from ..timer import Alarm
from .failure import Callback
from .latch import Latch

if TYPE_CHECKING:
    from ..state import TaskState
    from ..stores.base import TaskStore
    from ..task import BackgroundTask
    from .follower import Follower
    from .run import Run


LEFT = "its process ended before it was over"
"""The reason that is logged for a run that is still at work at interpreter exit."""


class Settings(NamedTuple):
    """What all runs of a task share."""

    name: str
    owner: str
    timeout: float | None
    max_logs: int
    store: TaskStore | None
    clock: Callable[[], float]
    mono: Callable[[], float]
    """Like `clock`, for durations; monotonic unless the clock was injected."""
    public_errors: frozenset[str]
    """Names of the exceptions whose text clients may read."""
    label: str
    """What the log of the server calls the task."""


class RunRecord:
    """The attributes of a run. They are written by its own code or under its lock, and read by anybody."""

    # A dict for each run would cost more than all of its locks.
    __slots__ = (
        "_alarm",
        "_must_stop",
        "_probes",
        "_shields",
        "_token",
        "args",
        "away",
        "began",
        "callbacks",
        "deadline",
        "direct",
        "done",
        "ended",
        "error",
        "error_public",
        "error_type",
        "exception",
        "executing",
        "finished_at",
        "function",
        "key",
        "kwargs",
        "lock",
        "log",
        "message",
        "message_scope",
        "number",
        "on_stop",
        "parent",
        "progress",
        "returned",
        "said",
        "settings",
        "shown",
        "started_at",
        "status",
        "steps",
        "stop",
        "stopped_by",
        "task",
        "thread",
        "traceback",
        "value",
    )

    def __init__(
        self,
        settings: Settings,
        key: object,
        previous: RunRecord | None = None,
        task: BackgroundTask | None = None,
        function: Callable[..., Any] | None = None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings = settings
        self.key = key
        self.task = task
        """What the function gets first and callbacks get; None once the run has nothing to do, as a cycle would keep
        the task alive."""
        self.function = function
        self.args = args
        self.kwargs: Mapping[str, Any] = kwargs or {}
        self.parent: Run | None = None
        # Reentrant: a garbage collection inside the lock may close a loop of this run.
        self.lock = threading.RLock()
        self.progress = Progress(self.lock)
        self.steps = Steps()
        self.number: int = 0 if previous is None else previous.number + (task is not None)
        self.log: LogRing = LogRing(settings.max_logs, self.lock, 0 if previous is None else previous.log.last_seq)
        self.status = Status.IDLE
        self.stop = False
        """Whether reports must look closer: the run is over or asked to cancel. Read without a lock."""
        self.direct = task is not None and (previous is None or previous.number == 0)
        """Whether any report must be this run's: it is open, and no code of an earlier run can be around. Read without
        a lock."""
        self.message = ""
        self.message_scope: Scope | None = None
        self.said = False
        """Whether its code, or a watcher, has set a message."""
        self.error: str | None = None
        self.error_public = False
        self.error_type: str | None = None
        self.traceback = ""
        self.exception: BaseException | None = None
        self.value: Any = None
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.began: float | None = None
        self.ended: float | None = None
        self.deadline: float | None = None
        self.done = Latch()
        self.returned = Latch()
        self.callbacks: list[Callback] = []
        self.executing = False
        self.thread: int | None = None
        """The thread that executes it, if one here does."""
        self.away: Follower | None = None
        """Looks at the record of a run that a worker elsewhere is sent, as the store alone knows how it goes."""
        self.shown: TaskState | None = None
        """What was last heard of a run that is executed elsewhere."""
        self.on_stop: Callable[[], object] | None = None
        """Passes a cancel or deadline on to where the run is executed."""
        self.stopped_by: str | None = None
        """Why its process or its runner stops it; None if neither does."""
        self._must_stop = False
        self._shields = 0
        self._probes: list[Probe] = []
        self._alarm: Alarm | None = None
        # After a reset the store still holds the record of the run before.
        self._token: str | None = None if previous is None or task is not None else previous._token

    def take_over(self, token: str, number: int, last_seq: int) -> None:
        """Be the run of that number, whose log goes on after that of the run before, in whatever process it was."""
        self._token, self.number = token, number
        self.log = LogRing(self.settings.max_logs, self.lock, last_seq)

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.settings.name

    @property
    def label(self) -> str:
        """What the log of the server calls the task."""
        return self.settings.label

    @property
    def owner(self) -> str:
        """Whose task it is."""
        return self.settings.owner

    @property
    def token(self) -> str:
        """Names this run and no other."""
        with self.lock:
            if self._token is None:
                self._token = secrets.token_hex(16)
            return self._token

    def _forget_call(self) -> None:
        """Keep neither the function and its arguments nor the task."""
        self.task, self.function, self.args, self.kwargs = None, None, (), {}

    def will_stop(self, reason: str) -> None:
        """Note why it is about to be stopped. The reason is logged if the stop ends it."""
        with self.lock:
            if self.status.is_active and not self._must_stop:
                self.stopped_by = reason

    def left_behind(self) -> None:
        """Log that it is lost, if it is still at work when its process ends."""
        with self.lock:
            noted, self.stopped_by = self.stopped_by, None
        if noted is not None and self.status.is_active:
            self._log_loss(LEFT)

    def _log_loss(self, reason: str) -> None:
        """Log that it is lost, unless another process has."""
        store = self.settings.store
        if store is not None:
            store.log_loss(self.owner, self.name, self.token, reason, label=self.label)
        else:
            log_loss(self.label, self.token, reason)
