"""Plain text for a terminal: durations, moments, counts and columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone


def printable(text: str, encoding: str = "utf-8") -> str:
    """Escape characters that do not print. State comes from clients, so it could hold control sequences."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def duration(seconds: float) -> str:
    """Return a duration in a suitable unit, such as ``2 h``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:.0f} {unit}"
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}" if size > 60 else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s"


def moment(seconds: float) -> str:
    """Return a time, given in seconds since the epoch, in UTC."""
    try:
        return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s since 1970"


def size(count: int | None) -> str:
    """Return a number of bytes; a dash for None."""
    return "-" if count is None else f"{count:,}"


def plural(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: ``1 session``, ``2 sessions``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def cut(text: str, length: int) -> str:
    """Shorten a text to ``length`` characters and append its full length."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text):,} characters, --json shows all)"


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
