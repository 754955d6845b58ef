"""Kills this process at a chosen point, and knows files whose content tells whether they are whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from hashlib import sha256
from typing import Any

_STEPS = ("chmod", "copy_file_range", "fchmod", "ftruncate", "link", "mkdir", "open", "remove", "rename", "replace")
_MORE_STEPS = ("rmdir", "sendfile", "symlink", "truncate", "unlink", "utime")
_WRITES = ("pwrite", "write")


class Countdown:
    """Counts the system calls of this process that change or lock something, and kills the process at one of them.

    A write counts twice: the process may die before it, or when half of the bytes are written.

    Args:
        left: The process is killed at this point, counted from 1.
    """

    def __init__(self, left: int) -> None:
        self._left = left

    def start(self) -> None:
        """Count from now on."""
        for name in (*_STEPS, *_MORE_STEPS):
            if hasattr(os, name):
                setattr(os, name, self._before(getattr(os, name)))
        for name in _WRITES:
            setattr(os, name, self._within(getattr(os, name)))
        import fcntl  # which Windows lacks

        fcntl.flock = self._before(fcntl.flock)

    def _due(self) -> bool:
        self._left -= 1
        return self._left == 0

    def _before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            if self._due():
                die()
            return call(*args, **options)

        return counted

    def _within(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(fd: int, data: Any, *rest: Any) -> Any:
            if self._due():
                die()
            if self._due():
                call(fd, bytes(data)[: len(data) // 2], *rest)
                die()
            return call(fd, data, *rest)

        return counted


def die() -> None:
    """End this process as a kill from outside does."""
    os.kill(os.getpid(), signal.SIGKILL)


def content(sid: str, name: str, version: str, size: int) -> bytes:
    """Return about ``size`` bytes that say which file and version they are, and end with their checksum."""
    head = f"{sid}/{name}/{version}/".encode()
    block = sha256(head).hexdigest().encode()
    body = head + (block * (size // len(block) + 1))[:size]
    return body + sha256(body).hexdigest().encode()


def version_of(sid: str, name: str, data: bytes) -> str:
    """Return the version of the file with the content ``data``.

    Raises:
        AssertionError: These are not all bytes of one version of this file.
    """
    body, check = data[:-64], data[-64:]
    assert sha256(body).hexdigest().encode() == check, f"{name}: {len(data)} bytes that are no version of a file"
    found_sid, found_name, version, _ = body.split(b"/", 3)
    assert (found_sid.decode(), found_name.decode()) == (sid, name), "the content of another file"
    return version.decode()
