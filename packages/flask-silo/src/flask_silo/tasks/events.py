"""The stream of a client's tasks, as Server-Sent Events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from ..server import Server, open_streams
from .watch import Watch


class StreamTiming(NamedTuple):
    """The times of a stream, in seconds."""

    look: float = 0.25
    """Time between two looks at the tasks."""
    check: float = 1.0
    """Time between two checks whether the server stops or the client has disconnected: each takes a system call."""
    heartbeat: float = 15.0
    """Time after which an empty comment is sent if nothing has changed."""
    lifetime: float = 300.0
    """Time after which the stream ends; the client reconnects and continues."""
    retry: float = 1.0
    """Time after which the client reconnects to a stream that has ended."""
    poll: float = 2.0
    """Time after which the client reconnects if no further stream may stay open."""


def stream(
    watch: Watch, sid: str | None, known: str, server: Server, limit: int, timing: StreamTiming
) -> Iterator[bytes]:
    """Yield the events of a client's tasks: each state that it does not know, and each change while a task runs.

    The stream ends when no task runs any more, the session gets another id, the server stops, the client has
    disconnected, or the stream has reached its lifetime. If ``limit`` streams are open, it ends after the first states.

    Args:
        watch: Looks at the tasks, for all streams of the session. It has looked once.
        sid: The id by which the client knows the session; None if there is no session.
        known: The id of the last event that the client got.
        server: The server of the request.
        limit: How many streams may be open in this process.
        timing: The times of the stream.
    """
    stays = open_streams.acquire(limit)
    try:
        retry = timing.retry if stays else timing.poll
        yield f"retry: {round(1000 * retry)}\nid: {known}\n\n".encode()
        began = last_sent = checked = time.monotonic()
        while True:
            look, change = watch.look(timing.look)
            if not look.shows(sid):
                return
            now = time.monotonic()
            if look.id != known:
                yield look.events(known)
                known, last_sent = look.id, now
            if not (stays and look.runs) or now - began >= timing.lifetime:
                return
            if now - checked >= timing.check:
                if server.is_closing():
                    return
                checked = now
            if now - last_sent >= timing.heartbeat:
                yield b":\n\n"
                last_sent = now
            watch.wait(change)
    finally:
        if stays:
            open_streams.release()
