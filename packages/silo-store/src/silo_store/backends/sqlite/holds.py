"""The lives that processes hold."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections import Counter
from collections.abc import Iterator

from ...backend import Life
from ...errors import StoreUnavailable
from ...fork import reset_after_fork
from .file import Connection, Database

_OWNERS = 1 << 62  # offset in the lock file: the bytes below stand for sessions, those from here on for owners


class Holds:
    """The holds of this process, and those of others. Here, an owner is the number of a process.

    The database says which process holds which life, and the lock file which of these processes live.

    Attributes:
        owner: This process's number, which also stands for it among those that run callbacks; 0 until it needs one.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._locks = database.locks
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin without holds: those belong to the parent."""
        self._lock = threading.Lock()
        self._rows = threading.Lock()  # for the rows; held while waiting for the file
        self._counts: Counter[str] = Counter()
        self._unheld: set[str] = set()
        self.owner: int = 0
        self._token = ""

    def own(self) -> int:
        """Return this process's number. The first call takes one."""
        with self._lock:
            return self._own()

    def _own(self) -> int:
        """Return the number. The caller holds ``_lock``."""
        while not self.owner:
            number = _OWNERS | secrets.randbits(61)
            token = self._locks.take(number)
            if token is not None:
                self.owner, self._token = number, token
        return self.owner

    def add(self, uid: str) -> None:
        """Hold a life once more."""
        with self._changing():
            with self._lock:
                own = self._own()
                counted = self._counts[uid] > 0
            if not counted:
                try:
                    self._do("INSERT OR IGNORE INTO holds VALUES (?, ?)", (uid, own))
                except BaseException:  # the row may be there nevertheless
                    self._unheld.add(uid)
                    raise
            with self._lock:
                self._counts[uid] += 1
                self._unheld.discard(uid)

    def remove(self, uid: str) -> None:
        """Hold a life once less."""
        with self._lock:
            self._counts[uid] -= 1
            if self._counts[uid] > 0:
                return
            del self._counts[uid]
            self._unheld.add(uid)
        with contextlib.suppress(StoreUnavailable):  # then the next sweep does it
            self.delete_unheld()

    def delete_unheld(self) -> None:
        """Delete the rows of lives that this process no longer holds."""
        if not self._unheld:
            return
        with self._changing():
            for uid in list(self._unheld):
                self._do("DELETE FROM holds WHERE uid = ? AND owner = ?", (uid, self.owner))
                self._unheld.discard(uid)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Let one thread at a time change the rows. A thread waits for others no longer than for the file."""
        if not self._rows.acquire(timeout=max(self._database.timeout, 1.0)):
            raise StoreUnavailable(f"other threads have waited for {self._database.path} for too long")
        try:
            yield
        finally:
            self._rows.release()

    def _do(self, statement: str, values: tuple[str, int]) -> None:
        with self._database.reading() as connection:
            connection.execute(statement, values)

    def has(self, uid: str) -> bool:
        """Return whether a living process holds the life."""
        if uid in self._counts:
            return True
        with self._database.reading() as connection:
            owners = {owner for (owner,) in connection.execute("SELECT owner FROM holds WHERE uid = ?", (uid,))}
        owners.discard(self.owner)
        return bool(owners) and bool(self._locks.taken(owners))

    def held_of(self, connection: Connection, lives: list[Life]) -> set[str]:
        """Return the uids that a living process holds, and delete the holds of dead processes."""
        held = {life.uid for life in lives if life.uid in self._counts}
        if connection.execute("SELECT 1 FROM holds LIMIT 1").fetchone() is None:
            return held
        rows = [
            (life.uid, owner)
            for life in lives
            for (owner,) in connection.execute("SELECT owner FROM holds WHERE uid = ?", (life.uid,))
            if owner != self.owner
        ]
        living = self._locks.taken({owner for _, owner in rows})
        dead = {owner for _, owner in rows} - living
        connection.executemany("DELETE FROM holds WHERE owner = ?", [(owner,) for owner in dead])
        return held | {uid for uid, owner in rows if owner in living}

    def adopt(self, connection: Connection) -> None:
        """Insert the holds of this process into a new file."""
        connection.executemany(
            "INSERT OR IGNORE INTO holds VALUES (?, ?)", [(uid, self.owner) for uid in [*self._counts]]
        )

    def close(self) -> None:
        """Give up all holds and the number."""
        with self._lock:
            token, self.owner, self._token = self._token, 0, ""
            self._counts.clear()
            self._unheld.clear()
        self._locks.give_back(token)
