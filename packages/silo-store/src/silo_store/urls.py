"""A backend from its URL."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from .backend import Backend
from .memory import MemoryBackend


def open_backend(url: str) -> Backend:
    """Make the backend that a URL names.

    ==================== ==============================================================================
    ``memory://``        live objects in this process: the fastest, and the state can hold anything
    ``memory://?copy=1`` encoded copies in this process: behaves as the backends do that processes share
    ==================== ==============================================================================

    Raises:
        ValueError: no backend has that URL.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query, keep_blank_values=True)
    if parts.scheme == "memory" and not parts.netloc and parts.path in ("", "/") and options.keys() <= {"copy"}:
        copy = options.get("copy", ["0"])[-1]
        if copy in ("0", "1"):
            return MemoryBackend(copy=copy == "1")
    raise ValueError(f"no session backend has the URL scheme or options of {parts.scheme}://: use memory://")
