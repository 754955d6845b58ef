"""Lives that are due or have ended, in the file."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Iterator

from ...backend import Claim, Life, Moment
from ...ids import is_sid
from ...redact import short
from ..packing import is_head
from .file import Connection, Database
from .holds import Holds
from .locks import byte_of

logger = logging.getLogger("silo_store")

BATCH = 256
"""Sessions in one transaction of a sweep, and in one page of due sessions."""

_DUE = (
    "SELECT noted, id, sid, uid, active, created FROM sessions WHERE noted <= ? AND (noted, id) > (?, ?)"
    " ORDER BY noted, id LIMIT ?"
)
_UNCLAIMED = "SELECT sid, uid FROM ended WHERE owner = 0 ORDER BY rowid LIMIT ?"


class Expiry:
    """Ends lives that are due, and gives each ended life to one process. ``Backend`` says what each method does.

    Args:
        database: The file.
        holds: The holds, with the number of this process among those that run callbacks.
    """

    def __init__(self, database: Database, holds: Holds) -> None:
        self._database = database
        self._locks = database.locks
        self._holds = holds
        self._skipped: set[str] = set()  # damaged records that a sweep has logged

    def due(self, at: Moment) -> Iterator[list[Life]]:
        latest = at.now - at.ttl + 1e-6  # the subtraction rounds; each record is looked at again
        noted, last = -math.inf, 0
        while True:
            with self._database.reading(at.now) as connection:
                rows = connection.execute(_DUE, (latest, noted, last, BATCH)).fetchall()
            whole = [row for row in rows if is_sid(row[2]) and is_head(*row[3:])]
            if len(whole) < len(rows):
                self._skip({str(row[2]) for row in rows} - {row[2] for row in whole})
            used = [(row[1],) for row in whole if row[4] > row[0] and at.now - row[4] <= at.ttl]
            if used:
                with self._database.writing(at.now) as connection:
                    connection.executemany("UPDATE sessions SET noted = active WHERE id = ?", used)
            lives = [Life(row[2], row[3]) for row in whole if at.now - row[4] > at.ttl]
            if lives:
                yield lives
            if len(rows) < BATCH:
                return
            noted, last = rows[-1][0], rows[-1][1]

    def _skip(self, damaged: set[str]) -> None:
        """Log each damaged record once."""
        for sid in damaged - self._skipped:
            self._skipped.add(sid)
            logger.warning(
                "the record of session %s in %s is damaged: sweeps skip it until it is reset or destroyed",
                short(sid),
                self._database.path,
            )

    def expire(self, lives: Iterable[Life], at: Moment, claim: Claim | None = None) -> list[Life]:
        kept: list[Life] = []
        rest = iter(dict.fromkeys(lives))
        self._holds.delete_unheld()
        while batch := list(itertools.islice(rest, BATCH)):
            with self._database.writing(at.now) as connection:
                kept += self._expire(connection, batch, at, claim)
        return kept

    def _expire(self, connection: Connection, lives: list[Life], at: Moment, claim: Claim | None) -> list[Life]:
        kept: list[Life] = []
        due: list[Life] = []
        for life in lives:
            found = connection.execute("SELECT active FROM sessions WHERE sid = ? AND uid = ?", life).fetchone()
            if found is not None:
                (due if type(found[0]) is float and at.now - found[0] > at.ttl else kept).append(life)
        bytes_of = {life: byte_of(life.sid) for life in due}
        claimed = self._locks.taken(bytes_of.values(), claim.token if claim is not None else None)
        held = self._holds.held_of(connection, due)
        busy = [life for life in due if bytes_of[life] in claimed or life.uid in held]
        over = [life for life in due if not (bytes_of[life] in claimed or life.uid in held)]
        connection.executemany(
            "UPDATE sessions SET active = ?, noted = ? WHERE sid = ?", [(at.now, at.now, life.sid) for life in busy]
        )
        connection.executemany("DELETE FROM sessions WHERE sid = ?", [(life.sid,) for life in over])
        connection.executemany("INSERT OR REPLACE INTO tombstones VALUES (?, ?)", [(life.sid, at.now) for life in over])
        connection.executemany("INSERT OR REPLACE INTO ended VALUES (?, ?, 0)", [(uid, sid) for sid, uid in over])
        return kept + busy

    def ended(self) -> list[Life]:
        with self._database.reading() as connection:
            owners = _owners(connection)
        dead = owners - {0, self._holds.owner}
        dead -= self._locks.taken(dead)
        if not dead and 0 not in owners:
            return []
        own = self._holds.own()
        with self._database.writing() as connection:
            connection.executemany("UPDATE ended SET owner = 0 WHERE owner = ?", [(owner,) for owner in dead])
            rows = connection.execute(_UNCLAIMED, (BATCH,)).fetchall()
            connection.executemany("UPDATE ended SET owner = ? WHERE uid = ?", [(own, uid) for _, uid in rows])
        return [Life(*row) for row in rows]

    def settle(self, lives: Iterable[Life]) -> None:
        uids = [(life.uid,) for life in lives]
        if uids:
            with self._database.writing() as connection:
                connection.executemany("DELETE FROM ended WHERE uid = ?", uids)


def _owners(connection: Connection) -> set[int]:
    """Return the owners of ended lives, 0 for unclaimed lives. Looks at the index once for each owner."""
    owners: set[int] = set()
    owner = -1
    while True:
        owner = connection.execute("SELECT min(owner) FROM ended WHERE owner > ?", (owner,)).fetchone()[0]
        if owner is None:
            return owners
        owners.add(owner)
