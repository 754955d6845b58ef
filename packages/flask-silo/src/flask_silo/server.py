"""The server that answers a request: its threads, how many of them are taken, and whether it is stopping."""

from __future__ import annotations

import select
import sys
import threading
from contextlib import suppress
from socket import MSG_PEEK
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from .fork import reset_after_fork

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

THREAD_PER_CONNECTION = 1000
"""The number of threads that is assumed if each connection has its own thread or greenlet."""

MAX_STREAMS = 100
"""Streams that stay open in one process by default. They are limited because those of each session read the store."""


class ThreadLimit:
    """The server threads of this process that one kind of request takes: open streams, or requests that wait.

    Each caller that takes a thread gives its own limit, because the limit depends on the server that answers it.
    """

    def __init__(self) -> None:
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Start at zero: the counted requests are the parent's."""
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many threads are taken."""
        return self._taken

    def acquire(self, limit: int) -> bool:
        """Take a thread, unless ``limit`` threads are taken. Return whether it was taken."""
        with self._lock:
            free = self._taken < limit
            self._taken += free
        return free

    def release(self) -> None:
        """Give a thread back."""
        with self._lock:
            self._taken -= 1


open_streams: ThreadLimit = ThreadLimit()
"""The streams that are open in this process."""


class Server(NamedTuple):
    """The server of a request, as the WSGI environment and the stack show it."""

    threads: int | None
    """How many requests it answers at once in this process; None if that is unknown."""
    worker: Any = None
    """Gunicorn's worker; None for other servers."""
    connection: Any = None
    """The socket of the client; None if it is unknown."""
    in_line: bool = False
    """Whether the requests of one connection are answered one after the other, as Gunicorn does with HTTP/2."""

    @classmethod
    def from_environ(cls, environ: WSGIEnvironment) -> Server:
        """Return the server of a request. Call it in the thread that answers the request."""
        channel = getattr(environ.get("waitress.client_disconnected"), "__self__", None)
        connection = (
            environ.get("gunicorn.socket") or environ.get("werkzeug.socket") or getattr(channel, "socket", None)
        )
        software = environ.get("SERVER_SOFTWARE", "")
        worker, threads, in_line = None, None, False
        if software.startswith("gevent/"):  # its environment says that it is single-threaded
            threads = THREAD_PER_CONNECTION if _greenlets_sleep() else 1
        elif not environ.get("wsgi.multithread"):
            threads = 1
        elif "gunicorn.socket" in environ:
            worker = _gunicorn_worker()
            threads = _gunicorn_threads(worker)
            in_line = environ.get("SERVER_PROTOCOL", "").startswith("HTTP/2")
        elif channel is not None:
            threads = getattr(channel.adj, "threads", None)
        elif software.startswith("Werkzeug/"):
            threads = THREAD_PER_CONNECTION
        return cls(threads, worker, connection, in_line)

    def max_streams(self, wanted: int | None, waiting: int = 0) -> int:
        """Return how many streams may stay open in this process, so that threads are left for other requests.

        Args:
            wanted: The setting ``max_streams``; None for the default. It is trusted if the server does not show how
                many threads it has.
            waiting: How many of the threads have a request that waits.
        """
        if self.in_line:
            return 0
        if self.threads is None:
            return wanted or 0
        most = min(MAX_STREAMS, self.threads // 2) if wanted is None else wanted
        return max(0, min(most, self.threads - 1 - waiting))

    def is_closing(self) -> bool:
        """Return whether the server is stopping, or the client has disconnected."""
        if self.worker is not None and not self.worker.alive:
            return True
        with suppress(OSError, ValueError):  # TLS, or a number too large for select(): a failed write ends the stream
            if self.connection is not None and select.select([self.connection], [], [], 0)[0]:
                return not self.connection.recv(1, MSG_PEEK)
        return False


def _greenlets_sleep() -> bool:
    """Return whether a greenlet that sleeps lets other greenlets run."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("time"))


def _gunicorn_worker() -> Any:
    """Find the worker on the stack: only the worker has the settings, and the WSGI environment does not lead to it."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("gunicorn.workers."):
            worker = frame.f_locals.get("self")
            if hasattr(worker, "cfg") and hasattr(worker, "alive"):
                return worker
        frame = frame.f_back
    return None


def _gunicorn_threads(worker: Any) -> int | None:
    if worker is None:
        return None
    kind = type(worker).__module__.rpartition(".")[2]
    if kind == "gthread":
        return int(worker.cfg.threads)
    return int(worker.cfg.worker_connections) if kind in ("ggevent", "geventlet") else None
