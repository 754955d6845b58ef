"""Requests that wait for a session, and how many requests of one process may wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import has_request_context
from silo_store import TooManyWaiters

from ..server import ThreadLimit, open_streams

UNKNOWN = 4
"""Requests that may wait in a process whose server does not show how many threads it has."""

waiters: ThreadLimit = ThreadLimit()
"""The requests that wait in this process. Its applications share the threads of the server."""


class Waiting:
    """Keeps waiting requests from taking every thread of the server. A request is in this context during each wait.

    A request waits while another one writes its session, and in ``SessionTask.result``. Meanwhile it takes a thread of
    the server, or a greenlet if each request has one. A task takes no thread of the server and may always wait.

    Args:
        wanted: The setting ``max_waiters``; None for the default.

    Attributes:
        threads: How many requests the server answers at once in this process; None if that is unknown.
    """

    def __init__(self, wanted: int | None) -> None:
        self._wanted = wanted
        self.threads: int | None = None

    @contextmanager
    def __call__(self, sid: str) -> Iterator[None]:
        """Count a request that waits for a session.

        Raises:
            TooManyWaiters: The allowed number of requests is waiting already.
        """
        most = most_waiters(self.threads, self._wanted, open_streams.taken)
        if most is None or not has_request_context():
            yield
            return
        if not waiters.acquire(most):
            raise TooManyWaiters(sid)
        try:
            yield
        finally:
            waiters.release()


def most_waiters(threads: int | None, wanted: int | None, streams: int = 0) -> int | None:
    """Return how many requests may wait in one process, so that a thread is left for other requests.

    Args:
        threads: How many threads the server has; None if that is unknown. The request that the others wait for takes
            one of them.
        wanted: The setting ``max_waiters``; None for the default.
        streams: How many of the threads have an open stream.

    Returns:
        The number; None for no limit, if the server answers one request at a time.
    """
    if threads == 1:
        return wanted
    if threads is None:
        return UNKNOWN if wanted is None else wanted
    most = max(2, threads // 2) if wanted is None else wanted
    return max(0, min(most, threads - 2 - streams))
