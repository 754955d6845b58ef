"""Ids and URLs in a form that logs and errors may show."""

from __future__ import annotations

from .address import split


def short(sid: str) -> str:
    """Return the start of an id: at most its first 6 characters, never more than a third of it."""
    return sid[: min(6, len(sid) // 3)] + "…"


def redact(url: str) -> str:
    """Return a backend's URL without user, password and options, which may be secret. If in doubt, only its scheme."""
    parts = split(url)
    bare = f"{parts.scheme}://" if parts.scheme else ""
    if not bare or not parts.sound or "@" in parts.path or (parts.port is not None and not parts.host):
        return bare
    return bare + parts.host + (f":{parts.port}" if parts.port is not None else "") + parts.path
