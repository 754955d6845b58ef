"""The words for the levels of log lines."""

from __future__ import annotations

_WORDS = {name: name.lower() for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")}


def word_of(level: int | str) -> str:
    """Return the word for a level in the log of a run: a level of the logging module in lower case, or the caller's."""
    if isinstance(level, int):
        from logging import getLevelName  # a caller that gives a number has imported it

        return str(getLevelName(level)).lower()
    word = str(level)
    return _WORDS.get(word, word)
