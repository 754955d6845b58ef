"""The states of a client's tasks, read outside its requests, and the events that send them to clients."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from flask import Flask
from silo_store import Life, SessionStore
from silo_tasks import TaskState

from .event_id import EventId, digest_of_state
from .runs import SessionRuns

STEADY: dict[str, Any] = {"elapsed": None, "rate": None, "eta": None}
"""Replaces those fields of a state that change all the time. A change of only these is not sent."""


class Snapshot:
    """The states of a session's tasks at one moment, as events for any number of clients.

    Clients that know the same get the same events, which are encoded once.

    Args:
        sid: The id of the session at that moment; None if it has ended.
        names: The names of all tasks of the application.
        states: The states of the tasks that were started, by name.
        before: An earlier look at the same session. What it knows of a state that has not changed is used again.

    Attributes:
        sid: As given.
        runs: Whether a task is queued or running.
        id: The id of an event after which a client knows all of the states.
    """

    def __init__(
        self, sid: str | None, names: list[str], states: Mapping[str, dict[str, Any]], before: Snapshot | None = None
    ) -> None:
        self.sid = sid
        self.runs: bool = any(state["running"] for state in states.values())
        self._names = names
        self._states = states
        self._steady = {name: {**state, **STEADY} for name, state in states.items()}
        self._digests: dict[str, str]
        self.id: str
        if before is not None and self._steady == before._steady and names == before._names:
            self._digests, self.id = before._digests, before.id
        else:
            self._digests = {name: digest_of_state(steady) for name, steady in self._steady.items()}
            known = EventId()
            for name in names:
                known.note(name, self._digests.get(name))
            self.id = str(known)
        self._data: dict[str, str] = {}
        self._events: dict[str, bytes] = {}

    def shows(self, sid: str | None) -> bool:
        """Return whether clients of this session id may see the states: not if the session has another id now."""
        return self.sid is None or self.sid == sid

    def events(self, known: str) -> bytes:
        """Return an event for each state that a client does not know; empty if it knows all.

        If the client knows a state of a task that no longer has one, as after a reset of the session, the event has
        an idle state.

        Args:
            known: The id of the last event that the client got.
        """
        events = self._events.get(known)
        if events is None:
            events = self._events[known] = "".join(self._each_event(EventId(known, self._names))).encode()
        return events

    def _each_event(self, known: EventId) -> list[str]:
        events = []
        for name in self._names:
            digest = self._digests.get(name)
            if known.get(name) != digest:
                known.note(name, digest)
                events.append(f"event: task\nid: {known}\ndata: {self._encoded(name)}\n\n")
        return events

    def _encoded(self, name: str) -> str:
        data = self._data.get(name)
        if data is None:
            state = self._states.get(name)
            data = json.dumps(state if state is not None else TaskState(name=name).to_dict(public=True))
            self._data[name] = data
        return data


class StateReader:
    """Reads the states of the tasks of sessions, without a lock and without renewing a session.

    Args:
        app: The application. Its clients get the public form of a state, unless it is in debug mode.
        store: The store of its sessions.
        runs: The runs of its sessions' tasks.
        names: The names of all its tasks; read again with each look.
    """

    def __init__(self, app: Flask, store: SessionStore, runs: SessionRuns, names: Collection[str]) -> None:
        self._app = app
        self._store = store
        self._runs = runs
        self._names = names

    def look(self, life: Life | None, before: Snapshot | None = None) -> Snapshot:
        """Look at the tasks that were started in a life of a session. Reads the store once.

        Args:
            life: The life; None if there is no session.
            before: An earlier look at the same life.

        Raises:
            StoreUnavailable: The store cannot be reached.
        """
        names = list(self._names)
        record = self._store.attached(*life) if life is not None else None
        if record is None:
            return Snapshot(None, names, {}, before)
        found = ((name, self._runs.latest(record, name).state) for name in names)
        public = not self._app.debug
        states = {name: state.to_dict(public=public) for name, state in found if state is not None}
        return Snapshot(record.sid, names, states, before)
