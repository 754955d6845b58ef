"""Ids as people may see them."""

from __future__ import annotations


def short(sid: str) -> str:
    """Shorten an id for people to read: at most its first 6 characters, never more than a third of it."""
    return sid[: min(6, len(sid) // 3)] + "…"
