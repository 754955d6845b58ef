"""A run that this process executes."""

from __future__ import annotations

import threading
from contextvars import copy_context

from ..errors import Cancelled, TaskLost
from ..logger import get_logger
from ..loss import reason_of, short
from ..status import Status
from .context import CurrentRun, current_run
from .failure import FAILED, LAZY, clear_frames, drop_first_frame, failure_of, has_begun, only_cancelled
from .outcome import CANCELLED, SUCCEEDED, Outcome
from .run import Run
from .target import explained

_SUCCEEDED = Status.SUCCEEDED


class LocalRun(Run):
    """A run whose function is called in a thread of this process.

    Attributes:
        parent: The run whose code executes this one; None if there is none. Set while this run is executed.
    """

    __slots__ = ("parent",)

    parent: CurrentRun | None

    def execute(self) -> None:
        """Run the function to its end in this thread. Does nothing if the run was cancelled before."""
        if not self.begin(threading.get_ident()):
            return
        try:
            # In a context of its own: context variables that the function sets end with the run.
            copy_context().run(self._execute)
        finally:
            # A callback, or a run that called ``complete()``, may have logged lines since.
            self.log.trim()
            # If ``value_ready`` is set, ``end()`` has done all of this.
            if not self.value_ready.is_set:
                self.executing = False
                self._drop_call()
                if self.failure is not None and self.failure.exception is not None:
                    clear_frames(self.failure.exception)
                self.value_ready.set()

    def _execute(self) -> None:
        self.parent = current_run.get()
        current_run.set(self)
        function, args, kwargs = self.function, (self.task, *self.args), self.kwargs
        assert function is not None
        try:
            value = function(*args, **kwargs)
            if value is not None and isinstance(value, LAZY) and not has_begun(value):
                raise TypeError("the target of a task is a plain function, without yield; it may call asyncio.run()")
        except Cancelled:
            self.end(CANCELLED)
        except KeyboardInterrupt as error:
            self._crash(error)
            raise
        except BaseException as error:  # noqa: BLE001 - _crash() logs it
            if only_cancelled(error):
                self.end(CANCELLED)
            else:
                self._crash(explained(error, function, args, kwargs))
        else:
            # No longer executing, so that a callback may ask for the result.
            self.value, self.executing = value, False
            self.end(SUCCEEDED)
            if self.status is not _SUCCEEDED:
                self.value = None
        finally:
            self.parent = None
            # The exception holds this frame, and must not hold the arguments with it.
            del function, args, kwargs

    def _crash(self, error: BaseException) -> None:
        """End the run by an exception of its code."""
        drop_first_frame(error)
        failure = failure_of(error, self.settings.public_errors)
        if not self.end(Outcome(Status.FAILED, failure=failure)):
            get_logger().warning("Task %s (run %s) raised after its end", self.label, short(self.token), exc_info=error)
        elif isinstance(error, TaskLost) and isinstance(error.__cause__, SystemExit):
            # The worker got a signal to end.
            self._log_loss(reason_of(error.error))
        else:
            get_logger().error(FAILED, self.label, short(self.token), failure.logged, exc_info=error)

    def is_here(self) -> bool:
        """Return whether the calling code belongs to this run."""
        inner = current_run.get()
        while inner is not None and inner is not self:
            inner = inner.parent
        return inner is self
