"""Copies records of the logging module into the log of a run."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..run.run import Run


class _Emitted(threading.local):
    """The record that this thread is emitting, and the runs that have already copied it by another capture."""

    record: weakref.ref[logging.LogRecord] | None = None
    runs: tuple[int, ...] = ()

    def note(self, record: logging.LogRecord, run: Run) -> bool:
        """Note that a run copies a record. Return whether it is the first copy for this run."""
        if self.record is None or self.record() is not record:
            self.record, self.runs = weakref.ref(record), ()
        new = id(run) not in self.runs
        self.runs += (id(run),)
        return new


_emitted = _Emitted()


class RunHandler(logging.Handler):
    """Copies the records that the code of one run emits into the log of that run."""

    def __init__(self, run: Run, level: int, *, public: bool) -> None:
        # No level: every record reaches handle(), so that a record that is not copied can still be printed.
        super().__init__()
        self._run = run
        self._least = level
        self._public = public

    def handle(self, record: logging.LogRecord) -> bool:  # type: ignore[override, unused-ignore]
        """Copy the record, and print it if the logging module would do so without this handler."""
        copied = bool(super().handle(record))
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and _only_captured(record, self):
            last.handle(record)
        return copied

    def filter(self, record: logging.LogRecord) -> bool:  # type: ignore[override, unused-ignore]
        """Return whether this run's own code has emitted the record, at a level to copy."""
        return record.levelno >= self._least and self._run.is_here() and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Add the record to the log."""
        try:
            run = self._run
            if _emitted.note(record, run):
                level, text = record.levelname.lower(), record.getMessage()
                run.log.append(run.settings.clock(), level, text, public=self._public)
        except Exception:  # noqa: BLE001 - as in the logging module, the error is reported and the code goes on
            self.handleError(record)


def _only_captured(record: logging.LogRecord, handler: RunHandler) -> bool:
    """Return whether only captures handle a record, and this capture is the first of them.

    The logging module itself prints a warning if no logger has a handler. A capture must not change that.
    """
    logger = logging.getLogger(record.name)
    handlers = [each for one in (logger, *_above(logger)) for each in one.handlers]
    return handlers[:1] == [handler] and all(isinstance(each, RunHandler) for each in handlers)


def _above(logger: logging.Logger | None) -> Iterator[logging.Logger]:
    while logger is not None and logger.propagate:
        logger = logger.parent
        if logger is not None:
            yield logger


def _number_of(level: int | str) -> int:
    """Return the number of a level of the logging module, given as a number or by its name in either case.

    Raises:
        ValueError: The logging module has no level of that name.
        TypeError: The level is neither a number nor a name.
    """
    if isinstance(level, str):
        for name in (level, level.upper()):
            number = logging.getLevelName(name)
            if isinstance(number, int):
                return number
        raise ValueError(
            f"level {level[:50]!r} is unknown: give a level of the logging module, such as logging.INFO, or its name, "
            "such as 'info'"
        )
    if not isinstance(level, int):
        raise TypeError(
            f"level must be a number or a name, such as logging.INFO or 'info', not a {type(level).__name__}"
        )
    return level


@contextmanager
def capture(run: Run, names: tuple[str, ...], level: int | str, *, public: bool) -> Iterator[None]:
    """Copy the records of the named loggers, or of all loggers, while the context is open."""
    handler = RunHandler(run, _number_of(level), public=public)
    chosen = {logging.getLogger(name) for name in names or ("",)}
    # Not a logger below another chosen one: its records reach the handler there.
    loggers = [logger for logger in chosen if chosen.isdisjoint(_above(logger))]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
