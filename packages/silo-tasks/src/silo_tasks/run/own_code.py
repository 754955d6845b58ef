"""A run as its own code meets it: what it may report, and where it must stop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import Cancelled
from ..progress.scopes import Probe, Scope
from ..text import cut
from .context import current_run
from .record import RunRecord


class OwnCode(RunRecord):
    """What the code of a run calls, by way of its task."""

    __slots__ = ()

    def check(self) -> None:
        """Raise Cancelled if the run must stop and no shield is held."""
        if self._must_stop and not self._shields:
            raise Cancelled

    def is_closed(self) -> bool:
        """Whether the run takes no more reports; its own code is stopped by `Cancelled` if it must stop."""
        # A watcher that reports something is not to be stopped.
        if self._must_stop and not self._shields and self.is_here():
            raise Cancelled
        return self.status.is_final

    def is_here(self) -> bool:
        """Whether the calling code belongs to this run."""
        inner = current_run.get()
        while inner is not None and inner is not self:
            inner = inner.parent
        return inner is self

    def say(self, message: str) -> None:
        """Set the message, as said in the innermost scope."""
        with self.lock:
            # It may have ended since somebody looked.
            if not self.status.is_final:
                self.message, self.message_scope, self.said = cut(message), self.progress.top, True

    def _arm(self) -> None:
        if not self._shields:
            self.stop, self.direct = True, False
            for probe in self._probes:
                probe.stop()

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """Put off a cancel or deadline for the code inside."""
        with self.lock:
            # In one step: no shield can come up once the loops have been told to end.
            self.check()
            self._shields += 1
        try:
            yield
        finally:
            with self.lock:
                self._shields -= 1
                if self._must_stop:
                    self._arm()
        self.check()

    def open_loop(self, probe: Probe, total: int | None, now: float) -> Scope:
        """Begin a loop."""
        with self.lock:
            self._probes.append(probe)
            return self.progress.open_loop(probe, total, now)

    def close_loop(self, probe: Probe, scope: Scope, *, complete: bool) -> None:
        """End a loop."""
        with self.lock:
            self._probes.remove(probe)
            self.progress.close(scope, complete=complete)
