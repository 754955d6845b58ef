"""The error of a failed run: its text, class and traceback."""

import builtins
import contextlib
import sys
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, NamedTuple

from ..errors import Cancelled
from ..importing import importing
from ..text import describe, writable
from .public_errors import is_public

MAX_TRACEBACK = 20_000
"""Characters of a traceback that are kept."""

FAILED = "Task %s (run %s) failed: %s"
"""The log message of a run that has failed."""

# Since Python 3.11.
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())


class Failure(NamedTuple):
    """The error of a failed run."""

    text: str
    """What went wrong."""
    error_type: str | None = None
    """The name of the exception's class."""
    traceback: str = ""
    """The traceback, formatted."""
    public: bool = False
    """Whether clients may read the text."""
    exception: BaseException | None = None
    """The exception itself, if it was raised in this process."""
    message: str | None = None
    """The message of the run; by default made from the text."""

    @property
    def shown(self) -> str:
        """The message of the run."""
        return f"Failed: {self.text}" if self.message is None else self.message

    @property
    def logged(self) -> str:
        """The text for the server's log."""
        return with_type(self.text, self.error_type)


def failure_of(
    error: BaseException | str, public_errors: frozenset[str], cause: BaseException | None = None
) -> Failure:
    """Return the failure for an exception, or for a text that clients may read.

    Args:
        error: What went wrong.
        public_errors: Names of the exceptions whose text clients may read.
        cause: The exception behind a text, if there is one.
    """
    text, public = describe(error), is_public(error, public_errors)
    message = None
    if isinstance(error, BaseException):
        cause = error
        # A text that clients may read stays as it was written.
        if not public and isinstance(error, KeyError) and type(error).__str__ is KeyError.__str__:
            message = f"Failed: {with_type(text, type(error).__name__)}"
    if cause is None:
        return Failure(text, public=public)
    return Failure(text, type(cause).__name__, traceback_of(cause), public, cause, message)


def with_type(text: str, error_type: str | None) -> str:
    """Return the text of an error with the name of its class before it, unless the text is that name.

    Without their class, the texts of many errors are meaningless.
    """
    return text if error_type is None or text == error_type else f"{error_type}: {text}"


LAZY = (CoroutineType, GeneratorType, AsyncGeneratorType)
"""Types of values that a call returns before it has executed any code of its function."""


def has_begun(value: Any) -> bool:
    """Return whether some of a coroutine or generator was executed; if not, it never will be."""
    if isinstance(value, CoroutineType):
        # Otherwise it would warn that it was never awaited.
        value.close()
    if not isinstance(value, GeneratorType):
        return False
    from inspect import GEN_CREATED, getgeneratorstate  # most runs return no generator

    return getgeneratorstate(value) != GEN_CREATED


def only_cancelled(error: BaseException) -> bool:
    """Return whether an exception is a group of ``Cancelled`` only, as of a stopped ``asyncio.TaskGroup``."""
    return isinstance(error, _GROUP) and error.split(Cancelled)[1] is None


def traceback_of(error: BaseException) -> str:
    """Return the formatted traceback of an exception. The middle of a long one is left out."""
    with importing:  # takes milliseconds, and most runs do not fail
        from traceback import format_exception

    try:
        text = writable("".join(format_exception(type(error), error, error.__traceback__)))
        half = MAX_TRACEBACK // 2
        return text if len(text) <= MAX_TRACEBACK else f"{text[:half]}\n…\n{text[-half:]}"
    except Exception:  # noqa: BLE001 - its str() may raise
        return f"{type(error).__name__}\n"


def drop_first_frame(error: BaseException) -> None:
    """Leave the first frame out of the traceback of an exception: it belongs to silo-tasks."""
    # Not by setting the attribute, which an exception that is a frozen dataclass refuses.
    frames = error.__traceback__
    BaseException.with_traceback(error, frames and frames.tb_next)


def clear_frames(error: BaseException) -> None:
    """Clear the local variables of every frame that an exception, its causes and its contexts hold."""
    with importing:
        from traceback import clear_frames as clear

    left, seen = [error], set[int]()
    while left:
        error = left.pop()
        if id(error) not in seen:
            seen.add(id(error))
            clear(error.__traceback__)
            if error.__traceback__ is not None:
                _clear_callers(error.__traceback__.tb_frame.f_back)
            behind = [error.__cause__, error.__context__, *(error.exceptions if isinstance(error, _GROUP) else ())]
            left += [other for other in behind if other is not None]


def _clear_callers(frame: FrameType | None) -> None:
    # A frame holds the one that has called it, and so on up to the frame with the arguments of the run.
    with contextlib.suppress(RuntimeError):
        # The first that is still executed raises.
        while frame is not None:
            frame.clear()
            frame = frame.f_back


def exception_here() -> BaseException | None:
    """Return the exception that is being handled, if any."""
    return sys.exc_info()[1]
