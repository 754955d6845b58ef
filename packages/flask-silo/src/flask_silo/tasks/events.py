"""The stream of a client's tasks, as Server-Sent Events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from silo_store import SessionExpired, StoreUnavailable
from silo_tasks import TaskState

from .event_id import EventId
from .server import Server, open_streams
from .states import StateReader


@dataclass(frozen=True)
class StreamTiming:
    """The times of a stream, in seconds."""

    look: float = 0.25
    """Time between two looks at the tasks."""
    heartbeat: float = 15.0
    """Time after which an empty comment is sent if nothing has changed."""
    lifetime: float = 300.0
    """Time after which the stream ends; the client reconnects and continues."""
    retry: float = 1.0
    """Time after which the client reconnects to a stream that has ended."""
    poll: float = 2.0
    """Time after which the client reconnects if no further stream may stay open."""


def stream(reader: StateReader, known: EventId, server: Server, limit: int, timing: StreamTiming) -> Iterator[bytes]:
    """Yield the events of a client's tasks: each state that it does not know, and each change while a task runs.

    The stream ends when no task runs any more, the session gets another id, the server stops, the client has
    disconnected, or the stream has reached its lifetime. If ``limit`` streams are open, it ends after the first states.

    Args:
        reader: Reads the states.
        known: What the client knows; updated with each event.
        server: The server of the request.
        limit: How many streams may be open in this process.
        timing: The times of the stream.
    """
    stays = open_streams.acquire(limit)
    try:
        retry = timing.retry if stays else timing.poll
        yield f"retry: {round(1000 * retry)}\nid: {known}\n\n".encode()
        began = last_sent = time.monotonic()
        while True:
            runs = True
            try:
                states = reader.read()
            except StoreUnavailable:  # the client keeps what it knows until the store is back
                states = None
            except SessionExpired:
                return
            if states is not None:
                runs = any(state["running"] for state in states.values())
                events = "".join(_event(known, name, state) for name, state in known.news(reader.names(), states))
                if events:
                    yield events.encode()
                    last_sent = time.monotonic()
            now = time.monotonic()
            if not (stays and runs) or now - began >= timing.lifetime or server.is_closing():
                return
            if now - last_sent >= timing.heartbeat:
                yield b":\n\n"
                last_sent = now
            time.sleep(timing.look)
    finally:
        if stays:
            open_streams.release()


def _event(known: EventId, name: str, state: dict[str, Any] | None) -> str:
    """Return the event of a task, and note that the client knows it."""
    known.note(name, state)
    data = json.dumps(state if state is not None else TaskState(name=name).to_dict(public=True))
    return f"event: task\nid: {known}\ndata: {data}\n\n"
