"""Shortens and formats texts: lines, errors, durations, percentages."""

from __future__ import annotations

MAX_LINE = 2000
"""Characters of a log line, a message or an error that are kept; the rest is cut and marked with an ellipsis."""


def cut(text: str) -> str:
    """Return a text cut to ``MAX_LINE`` characters and an ellipsis, in characters that UTF-8 can encode."""
    return writable(text if len(text) <= MAX_LINE else text[:MAX_LINE] + "…")


def writable(text: str) -> str:
    """Return a text with "?" for each character that UTF-8 cannot encode, such as a file name may contain."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-8", "replace").decode()
    return text


def describe(error: BaseException | str) -> str:
    """Return the text of an error, cut to the length of a log line; the name of its class if it has no text."""
    try:
        text = cut(str(error).strip())
    except Exception:  # noqa: BLE001 - an exception whose str() raises still has a type
        text = ""
    if text:
        return text
    return "unknown error" if isinstance(error, str) else type(error).__name__


def duration(seconds: float) -> str:
    """Return seconds as ``4:05`` or ``1:04:05``; ``?`` for infinity and NaN."""
    if not abs(seconds) < float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def rounded(percent: float, digits: int = 0) -> float:
    """Return a rounded percentage, which is 100 only if everything is done."""
    if percent >= 100:
        return 100.0
    shown = round(percent, digits)
    return shown if shown < 100 else 100 - 10.0**-digits
