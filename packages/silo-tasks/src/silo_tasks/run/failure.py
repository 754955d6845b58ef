"""What is said and called when a run ends."""

from __future__ import annotations

import builtins
import contextlib
import inspect
import logging
import sys
import traceback
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled
from ..text import writable
from .context import current_run

if TYPE_CHECKING:
    from ..task import BackgroundTask

logger = logging.getLogger("silo_tasks")

MAX_TRACEBACK = 20_000
"""Characters of a traceback that are kept."""

# Since Python 3.11.
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())

Callback = Callable[["BackgroundTask"], object]


def call_back(callbacks: list[Callback], task: BackgroundTask) -> None:
    """Call each callback; what one raises is logged and harms nobody."""
    # A callback watches the task; it is no part of the run that has ended, and may start the next one.
    outer = current_run.set(None)
    try:
        for callback in callbacks:
            try:
                callback(task)
            except (Exception, SystemExit, Cancelled):
                logger.exception("A callback of task %r failed", task.name)
    finally:
        current_run.reset(outer)


def with_type(text: str, error_type: str | None) -> str:
    """The text of an error with the name of its class before it, unless the text is that name.

    Without its class, the text of many errors says nothing.
    """
    return text if error_type is None or text == error_type else f"{error_type}: {text}"


def is_bare_key(error: BaseException | str | None) -> bool:
    """Whether the text of an error is nothing but a key."""
    return isinstance(error, KeyError) and type(error).__str__ is KeyError.__str__


LAZY = (CoroutineType, GeneratorType, AsyncGeneratorType)
"""What a call gives that has executed nothing of its function yet."""


def has_begun(value: Any) -> bool:
    """Whether something of a coroutine or generator was executed; if not, it never will be."""
    if isinstance(value, CoroutineType):
        # It would warn that nobody has waited for it.
        value.close()
    return isinstance(value, GeneratorType) and inspect.getgeneratorstate(value) != inspect.GEN_CREATED


def only_cancelled(error: BaseException) -> bool:
    """Whether an exception is a group of nothing but `Cancelled`, as of an `asyncio.TaskGroup` that was stopped."""
    return isinstance(error, _GROUP) and error.split(Cancelled)[1] is None


def traceback_of(error: BaseException) -> str:
    """The formatted traceback of an exception; of a long one, the middle is left out."""
    try:
        text = writable("".join(traceback.format_exception(type(error), error, error.__traceback__)))
        half = MAX_TRACEBACK // 2
        return text if len(text) <= MAX_TRACEBACK else f"{text[:half]}\n…\n{text[-half:]}"
    except Exception:  # noqa: BLE001 - its str() may raise
        return f"{type(error).__name__}\n"


def let_go(error: BaseException) -> None:
    """Clear the local variables of every frame that an exception, or one behind it, holds."""
    left, seen = [error], set[int]()
    while left:
        error = left.pop()
        if id(error) not in seen:
            seen.add(id(error))
            traceback.clear_frames(error.__traceback__)
            if error.__traceback__ is not None:
                _clear(error.__traceback__.tb_frame.f_back)
            behind = [error.__cause__, error.__context__, *(error.exceptions if isinstance(error, _GROUP) else ())]
            left += [other for other in behind if other is not None]


def _clear(frame: FrameType | None) -> None:
    # A frame holds the one that has called it, and so on, with the arguments of the run at last.
    with contextlib.suppress(RuntimeError):
        # The first that is still executed raises.
        while frame is not None:
            frame.clear()
            frame = frame.f_back


def exception_here() -> BaseException | None:
    """The exception that is being handled, if any."""
    return sys.exc_info()[1]
