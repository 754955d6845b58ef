"""The stream of a client's tasks: what it says (Server-Sent Events), and for how long it stays open."""

from __future__ import annotations

import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from silo_store import Life, SessionExpired, SessionStore, StoreUnavailable
from silo_tasks import TaskState

from .server import open_streams

if TYPE_CHECKING:
    from .runs import SessionRuns
    from .server import Server
    from .task import SessionTask

VOLATILE_FIELDS = ("elapsed", "rate", "eta")
"""What changes while nothing happens, and is no news by itself."""

ID_PREFIX = "1."
"""What the id of an event begins with."""

NAME, STATE = 4, 8
"""Characters of an id that stand for a task's name, and for the state in which the client knows it."""

EVENT_ID = re.compile(rf"{re.escape(ID_PREFIX)}([A-Za-z0-9_-]{{{NAME + STATE}}})*")


@dataclass(frozen=True)
class StreamTiming:
    """The times of a stream, all in seconds."""

    look: float = 0.25
    """Between two looks at the tasks."""
    heartbeat: float = 15.0
    """After which something is sent although there is no news."""
    lifetime: float = 300.0
    """After which the stream ends; the client comes back and goes on where it was."""
    retry: float = 1.0
    """After which the client comes back to a stream that has ended."""
    poll: float = 2.0
    """After which it comes back where no stream stays open."""


class EventId:
    """What a client knows of its tasks. It travels as the id of an event, so that any process can go on.

    Args:
        text: the id that the client was sent last; what is none counts as nothing.
        names: those of all tasks. What the id says of others is left out: each event has what is kept of it.
    """

    def __init__(self, text: str = "", names: Iterable[str] = ()) -> None:
        given, size = text[len(ID_PREFIX) :] if EVENT_ID.fullmatch(text) else "", NAME + STATE
        said = {given[at : at + NAME]: given[at + NAME : at + size] for at in range(0, len(given), size)}
        shorts = [_short(NAME, name) for name in names]
        self._known = {short: said[short] for short in shorts if short in said}

    def __str__(self) -> str:
        return ID_PREFIX + "".join(name + state for name, state in self._known.items())

    def news(self, names: list[str], states: Mapping[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any] | None]]:
        """Return the tasks that the client does not know as they are, None where one is gone, and their names."""
        found: list[tuple[str, dict[str, Any] | None]] = []
        for name in names:
            state = states.get(name)
            if self._known.get(_short(NAME, name)) != (_digest(state) if state is not None else None):
                found.append((name, state))
        return found

    def note(self, name: str, state: dict[str, Any] | None) -> None:
        """Note that the client knows a task as it is."""
        if state is None:
            self._known.pop(_short(NAME, name), None)
        else:
            self._known[_short(NAME, name)] = _digest(state)


def _digest(state: dict[str, Any]) -> str:
    return _short(STATE, json.dumps({key: value for key, value in state.items() if key not in VOLATILE_FIELDS}))


def _short(length: int, text: str) -> str:
    return urlsafe_b64encode(blake2b(text.encode("utf-8", "replace"), digest_size=length * 3 // 4).digest()).decode()


class StateReader:
    """The tasks of one life of a session, seen from outside its requests: no turn, no renewal.

    Args:
        store: where the session is.
        tasks: those of this process.
        declared: all that there can be, by name.
        life: whose tasks; None where there is no session.
    """

    def __init__(
        self,
        store: SessionStore,
        tasks: SessionRuns,
        declared: Mapping[str, SessionTask[..., Any]],
        life: Life | None,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._declared = declared
        self._life = life

    def names(self) -> list[str]:
        """The names of all tasks that there can be."""
        return list(self._declared)

    def look(self) -> dict[str, dict[str, Any]]:
        """Return the state of each task that was started in this life, with one look at the store.

        Raises:
            SessionExpired: the session has another id now; whoever knows the old one is not to see more of it.
            StoreUnavailable: the store cannot be reached.
        """
        record = self._store.attached(*self._life) if self._life is not None else None
        if record is None:
            return {}
        if self._life is not None and record.sid != self._life.sid:
            raise SessionExpired(self._life.sid)
        states = {name: self._tasks.newest(record, name).state for name in self.names()}
        return {name: self._tasks.client_state(state) for name, state in states.items() if state is not None}


def stream(reader: StateReader, known: EventId, server: Server, most: int, timing: StreamTiming) -> Iterator[bytes]:
    """Say what is new of a client's tasks, and what becomes new while something runs.

    It ends when nothing runs any more, the session gets another id, the server stops, the client has gone or the stream
    has become old; at once after what is new where `most` streams are open already.
    """
    stays = open_streams.acquire(most)
    try:
        retry = timing.retry if stays else timing.poll
        yield f"retry: {round(1000 * retry)}\nid: {known}\n\n".encode()
        began = spoken = time.monotonic()
        while True:
            runs = True
            try:
                states = reader.look()
            except StoreUnavailable:  # the client keeps what it knows, and hears more when the store is back
                states = None
            except SessionExpired:
                return
            if states is not None:
                runs = any(state["running"] for state in states.values())
                said = "".join(_say(known, name, state) for name, state in known.news(reader.names(), states))
                if said:
                    yield said.encode()
                    spoken = time.monotonic()
            now = time.monotonic()
            if not (stays and runs) or now - began >= timing.lifetime or server.is_closing():
                return
            if now - spoken >= timing.heartbeat:
                yield b":\n\n"
                spoken = now
            time.sleep(timing.look)
    finally:
        if stays:
            open_streams.release()


def _say(known: EventId, name: str, state: dict[str, Any] | None) -> str:
    """Make the event of a task, and note it."""
    known.note(name, state)
    data = json.dumps(state if state is not None else TaskState(name=name).to_dict(public=True))
    return f"event: task\nid: {known}\ndata: {data}\n\n"
