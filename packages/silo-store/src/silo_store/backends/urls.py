"""A backend from its URL."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from ..backend import Backend
from .memory import MemoryBackend

SCHEMES = "memory://, sqlite:///path, redis://host, rediss://host, unix:///path"


def open_backend(url: str) -> Backend:
    """Make the backend that a URL names.

    ============================ ==========================================================================
    ``memory://``                live objects in this process: the fastest, and the state can hold anything
    ``memory://?copy=1``         encoded copies in this process: behaves as the backends do that are shared
    ``sqlite:///relative.db``    one file for many processes of one host; ``sqlite:////absolute.db``
    ``redis://host:6379/0``      a Redis or Valkey server for many hosts; ``rediss://`` with TLS,
                                 ``unix:///path?db=0`` through a socket
    ============================ ==========================================================================

    `SQLiteBackend.from_url` and `RedisBackend.from_url` name the options that may follow the ``?``.

    Raises:
        ValueError: no backend has that URL. The message does not repeat it: there may be a password in it.
        ImportError: the backend needs a package that is not installed; the message says which.
    """
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return _open_memory(url)
    if scheme == "sqlite":
        from .sqlite import SQLiteBackend

        return SQLiteBackend.from_url(url)
    if scheme in ("redis", "rediss", "unix"):
        try:
            from .redis import RedisBackend
        except ModuleNotFoundError as error:
            raise ImportError("sessions in Redis need redis-py: pip install 'silo-store[redis]'") from error
        return RedisBackend.from_url(url)
    raise ValueError(f"no session backend has that URL: use one of {SCHEMES}")


def options(url: str, *known: str) -> dict[str, str]:
    """Return the options that follow the ``?`` of a backend's URL.

    Raises:
        ValueError: one is not known, or is given twice.
    """
    parts = urlsplit(url)
    found: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known or name in found:
            names = ", ".join(known)
            raise ValueError(f"a {parts.scheme}:// URL takes each of these options once: {names}; not {name!r}")
        found[name] = value
    return found


def _open_memory(url: str) -> Backend:
    parts = urlsplit(url)
    copy = options(url, "copy").get("copy", "0")
    if parts.netloc or parts.path not in ("", "/") or copy not in ("0", "1"):
        raise ValueError("the URL of sessions in memory is memory:// or memory://?copy=1")
    return MemoryBackend(copy=copy == "1")
