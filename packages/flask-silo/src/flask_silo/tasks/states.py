"""The states of a client's tasks, read outside its requests."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from silo_store import Life, SessionExpired, SessionStore

from .runs import SessionRuns


class StateReader:
    """Reads the states of the tasks of one life of a session, without a lock and without renewing the session.

    Args:
        store: The store of the session.
        runs: The runs of the application.
        names: The names of all tasks of the application; read again with each look.
        life: The life of the session; None if there is none.
        public: Whether the states are in their public form, as clients get them.
    """

    def __init__(
        self, store: SessionStore, runs: SessionRuns, names: Collection[str], life: Life | None, *, public: bool
    ) -> None:
        self._store = store
        self._runs = runs
        self._names = names
        self._life = life
        self._public = public

    def names(self) -> list[str]:
        """Return the names of all tasks of the application."""
        return list(self._names)

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the state of each task that was started in this life, by name. Reads the store once.

        Raises:
            SessionExpired: The session has another id now. Clients that know only the old id must not see its tasks.
            StoreUnavailable: The store cannot be reached.
        """
        record = self._store.attached(*self._life) if self._life is not None else None
        if record is None:
            return {}
        if self._life is not None and record.sid != self._life.sid:
            raise SessionExpired(self._life.sid)
        states = {name: self._runs.latest(record, name).state for name in self.names()}
        return {name: state.to_dict(public=self._public) for name, state in states.items() if state is not None}
