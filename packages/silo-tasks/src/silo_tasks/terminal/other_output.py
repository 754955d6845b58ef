"""Puts the output of other code above a bar on the same terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from ..fork import reset_after_fork

if TYPE_CHECKING:
    from typing_extensions import Self

LONGEST = 4096
"""Characters of an unfinished line that are held back. A longer line is written at once."""


class Drawing(Protocol):
    """An object that draws on a terminal."""

    def insert(self, write: Callable[[], object] | None) -> bool:
        """Call ``write``, if given, to write lines above the drawing. Return False if the drawing itself is writing."""

    def after_fork(self) -> None:
        """Begin with a free lock, in a forked child."""


class OutputAbove:
    """Puts the output of other code above a drawing, as long as the context is open.

    Streams of this process that lead to the same terminal get another ``write()``: ``sys.stdout``, ``sys.stderr``, and
    those of the handlers of ``logging``. So code that already holds the stream is covered too, in every thread. A line
    is written once it is complete, or when the context closes. Output of other processes and of C code is not seen.

    Args:
        out: The stream on which the drawing is written.
        drawing: The drawing.
    """

    def __init__(self, out: TextIO, drawing: Drawing) -> None:
        self._out = out
        self._drawing = drawing
        self._redirects: list[_Redirect] = []

    @staticmethod
    def is_drawn_on(out: TextIO) -> bool:
        """Return whether a drawing is on the terminal of this stream."""
        return isinstance(getattr(out, "__dict__", {}).get("write"), _Redirect)

    def __enter__(self) -> Self:
        reset_after_fork(self)
        for stream in _streams(self._out):
            if hasattr(stream, "__dict__"):
                self._redirects.append(_Redirect(stream, self._drawing))
        return self

    def __exit__(self, *_: object) -> None:
        for redirect in reversed(self._redirects):
            redirect.restore()
        for redirect in self._redirects:
            redirect.end_lines()

    def _after_fork(self) -> None:
        # The drawing belongs to the parent.
        self._drawing.after_fork()
        for redirect in reversed(self._redirects):
            redirect.restore()


class _Redirect:
    """Replaces ``write()`` of one stream."""

    def __init__(self, stream: Any, drawing: Drawing) -> None:
        self._stream = stream
        self._drawing = drawing
        self._own: Callable[[str], int] | None = vars(stream).get("write")
        self._write: Callable[[str], int] = stream.write
        self._unfinished: dict[int, str] = {}
        """The unfinished line of each thread. A thread changes only its own."""
        self._over = False
        vars(stream)["write"] = self

    def __call__(self, text: str) -> int:
        if self._over or not isinstance(text, str):
            return self._write(text)
        thread = get_ident()
        lines, rest = _split(self._unfinished.get(thread, "") + text)
        if not self._drawing.insert((lambda: self._print(lines)) if lines else None):
            return self._write(text)
        self._unfinished[thread] = rest
        return len(text)

    def _print(self, lines: str) -> None:
        self._write(lines)
        if hasattr(self._stream, "flush"):
            self._stream.flush()

    def restore(self) -> None:
        self._over = True
        if vars(self._stream).get("write") is self:
            del vars(self._stream)["write"]
            if self._own is not None:
                vars(self._stream)["write"] = self._own

    def end_lines(self) -> None:
        for rest in list(self._unfinished.values()):
            if rest:
                self._drawing.insert(lambda rest=rest: self._print(f"{rest}\n"))  # type: ignore[misc]


def _split(text: str) -> tuple[str, str]:
    """Return the whole lines, and the part of the unfinished line that its carriage returns leave visible."""
    lines, end, rest = text.rpartition("\n")
    rest = rest[rest.rstrip("\r").rfind("\r") + 1 :]
    return (f"{lines}{end}{rest}\n", "") if len(rest) > LONGEST else (lines + end, rest)


def _streams(out: TextIO) -> Iterator[Any]:
    """Yield the streams of this process that lead to the terminal of ``out``, each once."""
    seen: set[int] = set()
    for stream in (out, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__, *_streams_of_handlers()):
        if stream is not None and id(stream) not in seen and (stream is out or _is_same_terminal(stream, out)):
            seen.add(id(stream))
            yield stream


def _streams_of_handlers() -> Iterator[Any]:
    for logger in (logging.root, *list(logging.root.manager.loggerDict.values())):
        for handler in getattr(logger, "handlers", ()):
            yield getattr(handler, "stream", None)


def _is_same_terminal(stream: Any, out: TextIO) -> bool:
    try:
        if not stream.isatty():
            return False
        return not hasattr(os, "ttyname") or os.ttyname(stream.fileno()) == os.ttyname(out.fileno())
    except (AttributeError, OSError, TypeError, ValueError):
        return False
