"""What commands say: documents, and text with sizes, times and columns; and how far long work is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple, TextIO

from ..escaping import printable

# Seconds of work before the first line of progress, and between two of them.
_LONG, _INTERVAL = 1.0, 0.2


class Output(NamedTuple):
    """What a command says.

    Attributes:
        document: For ``--json``.
        lines: Text.
        status: The exit status.
    """

    document: dict[str, Any]
    lines: list[str]
    status: int = 0


def size(count: int) -> str:
    """Return a number of bytes in a suitable unit, such as ``1.5 MB``. 1 MB is 1,000,000 bytes."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return plural(count, "byte")


def plural(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: ``1 file``, ``2 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def moment(seconds: float) -> str:
    """Return a time, given in seconds since the epoch, in UTC."""
    try:
        return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s since 1970"


def columns(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return a line for each row, with aligned columns. ``right`` numbers those that are aligned to the right."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


class Progress:
    """Shows on a terminal how many areas long work has done. Writes nothing to a pipe or a file.

    Args:
        verb: What is done, such as ``checked``.
        stream: By default ``sys.stderr``.
        clock: Returns seconds.
    """

    def __init__(self, verb: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._verb = verb
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._next = clock() + _LONG if self._stream.isatty() else float("inf")
        self._width = 0

    def show(self, areas: int) -> None:
        """Show that ``areas`` are done, unless the line was just updated."""
        now = self._clock()
        if now >= self._next:
            self._next = now + _INTERVAL
            self._draw(f"{plural(areas, 'area')} {self._verb}")

    def clear(self) -> None:
        """Remove the line."""
        if self._width:
            self._draw("")

    def _draw(self, line: str) -> None:
        self._stream.write("\r" + line.ljust(self._width) + ("" if line else "\r"))
        self._stream.flush()
        self._width = len(line)
