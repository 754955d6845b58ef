"""Choose a backend by its URL."""

from __future__ import annotations

from ..address import split
from ..backend import Backend
from .memory import MemoryBackend
from .options import known

SCHEMES = "memory://, sqlite:///path, redis://host, rediss://host, unix:///path"


def open_backend(url: str) -> Backend:
    """Make the backend that a URL names.

    ============================ ==========================================================================
    ``memory://``                live objects in this process: the fastest, and the state can hold anything
    ``memory://?copy=1``         encoded copies in this process: behaves like the shared backends
    ``sqlite:///relative.db``    one file for many processes of one host; ``sqlite:////absolute.db``
    ``redis://host:6379/0``      a Redis or Valkey server for many hosts; ``rediss://`` with TLS,
                                 ``unix:///path?db=0`` through a socket
    ============================ ==========================================================================

    ``SQLiteBackend.from_url`` and ``RedisBackend.from_url`` name the options that may follow the ``?``.

    Raises:
        ValueError: No backend has that URL. The message does not repeat it, as it may contain a password.
        StoreUnavailable: The folder of an SQLite file is missing and cannot be created, or cannot be written to.
        ImportError: The backend needs a package that is not installed; the message says which.
    """
    scheme = split(url).scheme
    if scheme == "memory":
        return _open_memory(url)
    if scheme == "sqlite":
        from .sqlite import SQLiteBackend

        return SQLiteBackend.from_url(url)
    if scheme in ("redis", "rediss", "unix"):
        try:
            from .redis import RedisBackend
        except ImportError as error:
            raise _not_imported(error) from error
        return RedisBackend.from_url(url)
    raise ValueError(f"no session backend has that URL: use one of {SCHEMES}")


def _not_imported(error: ImportError) -> ImportError:
    """Return an error that says what to do: redis-py, or a package that it needs, is missing or does not fit."""
    name = error.name or ""
    if name == "redis" and isinstance(error, ModuleNotFoundError):
        advice = "redis-py, which is not installed: pip install redis"
    elif name.partition(".")[0] == "redis":
        advice = "another release of redis-py than the installed one: pip install --upgrade redis"
    else:
        advice = f"redis-py, which is installed but cannot be imported: {error}"
    return ImportError(f"sessions in Redis need {advice}", name=error.name, path=error.path)


def _open_memory(url: str) -> Backend:
    parts = split(url)
    copy = known(parts, "copy").get("copy", "0")
    if parts.user is not None or parts.host or parts.path not in ("", "/") or copy not in ("0", "1"):
        raise ValueError("the URL of sessions in memory is memory:// or memory://?copy=1")
    return MemoryBackend(copy=copy == "1")
