"""The functions that the code of a task calls: progress, steps, log, and checks for a cancel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from .importing import importing
from .log.levels import word_of
from .progress.loops import track_in
from .progress.scopes import as_count
from .progress.steps import checked, is_step
from .run.context import current_run
from .run.failure import exception_here
from .run.outcome import Outcome
from .run.run import Run
from .status import Status
from .text import cut

T = TypeVar("T")


class Reporter:
    """The methods of ``BackgroundTask`` by which a run reports.

    A call from the code of a run reports to that run, even if it was given up and another one has begun. Any other call
    reports to the newest run.
    """

    _key: object
    _run: Run

    def _mine(self) -> Run:
        run: Any = current_run.get()
        while run is not None and run.key is not self._key:
            run = run.parent
        if run is None:
            return self._run
        mine: Run = run
        return mine

    def update(
        self,
        progress: float | None = None,
        message: str | None = None,
        *,
        n: int | None = None,
        total: int | None = None,
    ) -> None:
        """Report progress. Ignored if the run is over.

        ``progress`` alone takes no lock, so it can be reported for every item.

        Args:
            progress: Percent of the innermost open step, or of the run if no step is open. A value below 0 counts as 0,
                one above 100 as 100. A value may be lower than the last, but never takes back the progress of loops and
                steps.
            message: What is being done. ``{n}``, ``{total}``, ``{percent}``, ``{rate}`` and ``{eta}`` are filled in
                when the message is read; the counts are those of the loop in which it was set. Like a log line, it
                is cut to ``MAX_LINE`` characters.
            n: Items done in the innermost loop or step.
            total: All items of that loop or step.

        Raises:
            TypeError: ``progress`` is not a number, for example a text that was meant as the message.
        """
        run = self._run
        if not run.stop.direct:
            own: Any = current_run.get()
            run = own if own is not None and own.key is self._key else self._mine()
            if run.stop.alert and run.is_closed():
                return
        if progress is not None:
            base = run.progress.base
            try:
                # NaN changes nothing.
                if progress >= 0:
                    base.percent = progress
                elif progress < 0:
                    base.percent = 0.0
            except TypeError:
                kind = type(progress).__name__
                message = f"progress is a percentage, not a {kind}: give a text as update(message=...)"
                raise TypeError(message) from None
        if message is not None:
            run.say(str(message))
        if n is not None or total is not None:
            run.progress.count(None if n is None else as_count(n), None if total is None else as_count(total))

    def advance(self, n: int = 1) -> None:
        """Count ``n`` more items as done, in the innermost loop or step. May be called from several threads."""
        run = self._mine()
        if not (run.stop.alert and run.is_closed()):
            run.progress.count(as_count(n), None, add=True)

    def track(self, iterable: Iterable[T], total: int | None = None) -> Iterator[T]:
        """Iterate and report each item as progress of the innermost open step, or of the run.

        A loop inside a loop fills the share of one item. If the task is cancelled, the loop raises ``Cancelled`` before
        the next item.

        Args:
            iterable: The items.
            total: Number of items, if the iterable has no length. Without a total, items are counted, but no percentage
                is known.
        """
        return track_in(self._mine(), iterable, total)

    @contextlib.contextmanager
    def step(self, name: str, weight: float = 1) -> Iterator[None]:
        """Open a part of the work, with its own share of the progress. Its name becomes the message.

        A step that ``plan()`` names takes its planned share. Any other takes ``weight / (weight + 1)`` of what is left:
        the first step of weight 1 fills one half, the next one half of the rest, so the bar is never full too soon.

        Raises:
            ValueError: The weight is not a positive, finite number.
        """
        name, weight = checked(name, weight)
        run = self._mine()
        run.stop.check()
        clock = run.settings.clock
        now, opened = clock(), run.settings.mono()
        with run.lock:
            over = run.status.is_final
            if not over:
                record = run.steps.begin(name, weight, run.progress.depth(), now)
                scope = run.progress.open_step(name, weight, opened)
                run.say(name)
        if over:
            yield
            return
        complete = False
        try:
            yield
            complete = True
        finally:
            now = clock()
            with run.lock:
                run.progress.close(scope, complete=complete)
                run.steps.end(record, now, failed=not complete)

    def plan(self, *steps: tuple[str, float]) -> None:
        """Announce the next steps with their weights. Each gets its exact share of the progress that is left here.

        Inside a plan, only its steps move the progress. The share of a step that is skipped is added at the end.

        Raises:
            ValueError: There are no steps, or a weight is not a positive, finite number.
            TypeError: A step is not a pair of name and weight.
        """
        if not all(isinstance(each, (tuple, list)) and is_step(*each) for each in steps):
            raise TypeError('plan() takes steps with their weights, as plan(("Parse", 1), ("Write", 3))')
        planned = [checked(name, weight) for name, weight in steps]
        if not planned:
            raise ValueError("a plan needs at least one step")
        run = self._mine()
        with run.lock:
            if not run.status.is_final:
                run.steps.plan(planned, run.progress.depth())
                run.progress.plan(planned)

    def log(self, message: str, *args: object, level: int | str = "info") -> None:
        """Add a line, which clients may read, to the log.

        The newest ``max_logs`` lines are kept, each cut to ``MAX_LINE`` characters.

        Args:
            message: The text, %-formatted with ``args`` when first read. Without ``args`` it is not formatted.
            args: The values. Numbers and short texts are formatted when the line is read, any other value at once.
            level: ``"debug"``, ``"info"``, ``"warning"``, ``"error"`` or a word of your own; or a level of the logging
                module, such as ``logging.INFO`` or ``"INFO"``, which is kept as ``"info"``.
        """
        run = self._mine()
        if run.stop.alert:
            run.is_closed()
        run.log.append(run.settings.clock(), cut(word_of(level)), str(message), args)

    def logging(
        self, *names: str, level: int | str = 0, public: bool = False
    ) -> contextlib.AbstractContextManager[None]:
        """Copy the records of these loggers into the log while the context is open.

        Only records of this run's own code are copied, so tasks that run side by side do not mix.

        Args:
            names: Names of loggers; none means all. The loggers' own levels are not changed. A record that passes
                two of them, or two captures of the run, is copied once. A warning that no other handler takes is
                printed to stderr, as without the capture.
            level: The lowest level that is copied, such as ``logging.INFO`` or ``"info"``. By default, all are copied.
            public: Whether clients may read the copied lines. Libraries log addresses, queries and other things that
                are not for clients, so ``state.to_dict(public=True)`` leaves the lines out by default.
        """
        with importing:
            from .log.capture import capture

        return capture(self._mine(), names, level, public=public)

    def checkpoint(self) -> None:
        """Raise ``Cancelled`` if the run was cancelled or is past its deadline."""
        self._mine().stop.check()

    def shield(self) -> contextlib.AbstractContextManager[None]:
        """Delay a cancel or deadline until the end of the ``with`` block, for work that must not be interrupted."""
        return self._mine().stop.shield()

    def complete(self, message: str = "Done") -> None:
        """End the run as succeeded. The target may go on; from then on its reports are ignored, but not its log lines.

        Its return value is still the result. If it raises, the error is logged, the run stays succeeded, and its result
        is None.
        """
        self._mine().end(Outcome(Status.SUCCEEDED, str(message)))

    def fail(self, error: str | BaseException) -> None:
        """End the run as failed.

        Args:
            error: What went wrong. Clients may read a ``str``; an exception that is being handled is kept as its cause.
                The text of an exception is private, unless its class is among the task's ``public_errors``.
        """
        self._mine().fail(error, exception_here())


def _current() -> Reporter | None:
    run = current_run.get()
    task: Reporter | None = None if run is None else run.task
    return task


def track(iterable: Iterable[T], total: int | None = None, *, task: Reporter | None = None) -> Iterator[T]:
    """Iterate and report each item as progress of ``task``, or of the running task; see ``BackgroundTask.track``.

    Outside any task, it only iterates, so a function that calls it works without a task too.
    """
    reporter = task if task is not None else _current()
    return iter(iterable) if reporter is None else reporter.track(iterable, total)


def step(name: str, weight: float = 1, *, task: Reporter | None = None) -> contextlib.AbstractContextManager[None]:
    """Open a step of ``task``, or of the running task; see ``BackgroundTask.step``. Does nothing outside any task."""
    reporter = task if task is not None else _current()
    return contextlib.nullcontext() if reporter is None else reporter.step(name, weight)
