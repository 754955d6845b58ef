"""Escapes text that is logged or shown on a terminal."""

from __future__ import annotations


def printable(text: str, encoding: str = "utf-8") -> str:
    """Escape control characters, and those that are invisible or change the writing direction."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)
