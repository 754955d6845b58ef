"""Output of other code to a terminal while a bar is drawn on it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import TYPE_CHECKING, Any, TextIO

from ..fork import reset_after_fork

if TYPE_CHECKING:
    from typing_extensions import Self

    from .writers import Screen

LONGEST = 4096
"""Characters of a line without an end that are kept back."""


class Above:
    """Puts output of other code above a drawing, as long as the context is open.

    Streams of this process that lead to the same terminal get a `write()` of their own: `sys.stdout`, `sys.stderr`, and
    those of the handlers of `logging`. So it works for all code that has the stream already, and for every thread. A
    line is written once it is complete, or when the context closes. Output of other processes, or of code below Python,
    does not pass through here.

    Args:
        out: Where the drawing is.
        screen: What draws it.
    """

    def __init__(self, out: TextIO, screen: Screen) -> None:
        self._out = out
        self._screen = screen
        self._writers: list[_Writer] = []

    @staticmethod
    def is_drawn_on(out: TextIO) -> bool:
        """Whether a drawing is on the terminal of this stream."""
        return isinstance(getattr(out, "__dict__", {}).get("write"), _Writer)

    def __enter__(self) -> Self:
        reset_after_fork(self)
        for stream in _streams(self._out):
            if hasattr(stream, "__dict__"):
                self._writers.append(_Writer(stream, self._screen))
        return self

    def __exit__(self, *_: object) -> None:
        for writer in reversed(self._writers):
            writer.give_back()
        for writer in self._writers:
            writer.end_lines()

    def _after_fork(self) -> None:
        # The drawing is the parent's.
        self._screen.after_fork()
        for writer in reversed(self._writers):
            writer.give_back()


class _Writer:
    """In place of the `write()` of one stream."""

    def __init__(self, stream: Any, screen: Screen) -> None:
        self._stream = stream
        self._screen = screen
        self._own: Callable[[str], int] | None = vars(stream).get("write")
        self._write: Callable[[str], int] = stream.write
        self._begun: dict[int, str] = {}
        """What each thread has written of a line. A thread changes only its own."""
        self._over = False
        vars(stream)["write"] = self

    def __call__(self, text: str) -> int:
        if self._over or not isinstance(text, str):
            return self._write(text)
        thread = get_ident()
        begun = self._begun.get(thread, "")
        lines, rest = _split(begun + text)
        if not self._screen.insert((lambda: self._print(lines)) if lines else None):
            return self._write(text)
        self._begun[thread] = rest
        return len(text)

    def _print(self, lines: str) -> None:
        self._write(lines)
        if hasattr(self._stream, "flush"):
            self._stream.flush()

    def give_back(self) -> None:
        self._over = True
        if vars(self._stream).get("write") is self:
            del vars(self._stream)["write"]
            if self._own is not None:
                vars(self._stream)["write"] = self._own

    def end_lines(self) -> None:
        for rest in list(self._begun.values()):
            if rest:
                self._screen.insert(lambda rest=rest: self._print(f"{rest}\n"))  # type: ignore[misc]


def _split(text: str) -> tuple[str, str]:
    """Whole lines, and the part of an unfinished line that is still visible after its carriage returns."""
    lines, end, rest = text.rpartition("\n")
    rest = rest[rest.rstrip("\r").rfind("\r") + 1 :]
    return (f"{lines}{end}{rest}\n", "") if len(rest) > LONGEST else (lines + end, rest)


def _streams(out: TextIO) -> Iterator[Any]:
    """The streams of this process that lead to the terminal of `out`, each once."""
    seen: set[int] = set()
    for stream in (out, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__, *_logged_to()):
        if stream is not None and id(stream) not in seen and (stream is out or _same(stream, out)):
            seen.add(id(stream))
            yield stream


def _logged_to() -> Iterator[Any]:
    for logger in (logging.root, *list(logging.root.manager.loggerDict.values())):
        for handler in getattr(logger, "handlers", ()):
            yield getattr(handler, "stream", None)


def _same(stream: Any, out: TextIO) -> bool:
    try:
        if not stream.isatty():
            return False
        return not hasattr(os, "ttyname") or os.ttyname(stream.fileno()) == os.ttyname(out.fileno())
    except (AttributeError, OSError, TypeError, ValueError):
        return False
