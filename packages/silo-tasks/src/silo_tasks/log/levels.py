"""Converts levels of log lines: numbers and names."""

from __future__ import annotations

import logging

_WORDS = {name: name.lower() for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")}


def number_of(level: int | str) -> int:
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


def word_of(level: int | str) -> str:
    """Return the word for a level in the log of a run: a level of the logging module in lower case, or the caller's."""
    if isinstance(level, int):
        return str(logging.getLevelName(level)).lower()
    word = str(level)
    return _WORDS.get(word, word)
