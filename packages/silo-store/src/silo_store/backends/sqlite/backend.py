"""``SQLiteBackend``, the methods of the interface."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from ...address import split
from ...backend import ROTATED_RETAIN, Claim, Finding, Life, Look, Moment
from ...errors import (
    LockLost,
    LockTimeout,
    SiloError,
    StoreUnavailable,
    TooManySessions,
)
from ...ids import is_sid
from ...record import Blob, Change, Record
from ..options import known, seconds
from ..packing import is_head
from . import rows
from .expiry import BATCH, Expiry
from .file import Connection, Database
from .health import check_file
from .holds import Holds
from .locks import byte_of
from .place import prepare
from .rows import LOAD, Row, head_of, record_of, uid_of

ASKED = 500
"""Lives asked for in one statement: older releases of SQLite allow 999 values."""

_RENEWAL_WAIT = 200  # milliseconds for which a reader waits to record a use

_HEAD = "SELECT uid, created, active FROM sessions WHERE sid = ?"
_RENEW = "UPDATE sessions SET active = ? WHERE sid = ? AND uid = ? AND active < ?"
_ACTIVE = "SELECT active FROM sessions WHERE sid = ? AND uid = ?"
_RENAME = "UPDATE OR IGNORE sessions SET sid = ? WHERE sid = ? AND uid = ?"
_LIVING = "SELECT uid FROM sessions WHERE uid IN ({})"
_PRUNE = "DELETE FROM tombstones WHERE sid IN (SELECT sid FROM tombstones WHERE at < ? ORDER BY at LIMIT ?)"
_EXPIRED_AT = (
    "SELECT coalesce((SELECT at FROM tombstones WHERE sid = ?), (SELECT value FROM meta WHERE key = 'lost'"
    " AND NOT EXISTS (SELECT 1 FROM sessions WHERE sid = ?)))"
)

_TRACE = (
    "SELECT 'expired', at FROM tombstones WHERE sid = ? UNION ALL SELECT 'rotated', at FROM rotated WHERE sid = ?"
    " UNION ALL SELECT key, value FROM meta WHERE key = 'lost' LIMIT 1"
)


class SQLiteBackend:
    """Keeps sessions in one SQLite file. See ``Backend`` for what each method does.

    Beside the file are its write-ahead log (``-wal``, ``-shm``) and the file ``-locks``, on whose bytes the processes
    hold locks: one for each session that is being written, one for each process that holds sessions or runs callbacks.
    The system frees them when a process ends, however it ends. These files need a local disk: locks on network file
    systems are not reliable.

    Args:
        path: The file. It is created with the first session, readable for its owner only. Its folder must exist.
        timeout: Seconds to wait for other processes' transactions before ``StoreUnavailable``.
        durable: Flush each commit to the disk. Otherwise a power failure may undo the last commits; the end of a
            process never does.
    """

    live = False
    shared = True

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 5.0, durable: bool = False) -> None:
        name = os.fspath(path)
        if not name or name == ":memory:" or "\0" in name:
            raise ValueError("sessions in SQLite need a file: processes share them")
        if not 0 <= timeout < math.inf:
            raise ValueError("timeout must be a number of seconds, 0 or more")
        self._database = Database(name, timeout, durable, self._adopt)
        self.origin: str | None = f"sqlite:{os.path.normcase(self.path)}"
        self._locks = self._database.locks
        self._holds = Holds(self._database)
        self._expiry = Expiry(self._database, self._holds)
        self._busy_timeout = f"PRAGMA busy_timeout = {math.ceil(timeout * 1000)}"

    @classmethod
    def from_url(cls, url: str) -> SQLiteBackend:
        """Make the backend of ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.

        ``?timeout=2.5`` and ``&durable=1`` may follow; characters like ``?`` and ``#`` in the path are written as
        ``%3F`` and ``%23``.

        A missing folder is created, for its owner alone, if its parent exists.

        Raises:
            ValueError: The URL has another form, or an invalid option.
            StoreUnavailable: No session can be kept there. The message says why, and what to do.
        """
        parts = split(url)
        netloc = parts.user is not None or parts.host or parts.port is not None or not parts.sound
        if parts.scheme != "sqlite" or netloc or not parts.path.startswith("/") or parts.fragment:
            raise ValueError("the URL of sessions in SQLite is sqlite:///relative.db or sqlite:////absolute.db")
        given = known(parts, "timeout", "durable")
        durable = given.get("durable", "0")
        if durable not in ("0", "1"):
            raise ValueError("durable must be 0 or 1")
        timeout = seconds("timeout", given.get("timeout", "5"))
        backend = cls(unquote(parts.path[1:]), timeout=timeout, durable=durable == "1")
        prepare(backend.path)
        return backend

    @property
    def path(self) -> str:
        """The path of the file, without symbolic links."""
        return self._database.path

    def _adopt(self, connection: Connection) -> None:
        self._holds.adopt(connection)

    # Reading

    def load(self, sid: str, at: Moment) -> Record | None:
        row = self._load(LOAD, sid, at)
        return record_of(sid, row) if row is not None else None

    def load_head(self, sid: str, at: Moment) -> Record | None:
        head = self._load(_HEAD, sid, at)
        return head_of(sid, head) if head is not None else None

    def look(self, sid: str, at: Moment) -> Look:
        record = self.load(sid, at)
        if record is not None:
            return Look(record)
        trace = self._ask(_TRACE, (sid, sid))
        if trace is not None:
            return Look(None, *trace)
        return Look(self.load(sid, at))  # it may have begun just now

    def peek(self, sid: str) -> Record | None:
        row = self._ask(LOAD, (sid,))
        return record_of(sid, row) if row is not None else None

    def peek_head(self, sid: str) -> Record | None:
        head = self._ask(_HEAD, (sid,))
        return head_of(sid, head) if head is not None else None

    def read(self, sid: str) -> Record | None:
        with self._database.reading() as connection:
            return rows.read(connection, sid)

    def fetch(self, life: Life, name: str) -> Blob | None:
        with self._database.reading() as connection:
            return rows.fetch(connection, life, name)

    def attached(self, sid: str, at: Moment | None = None) -> Record | None:
        with self._database.reading() as connection:
            record = rows.attached(connection, sid)
        if record is not None and at is not None and at.touch_interval < at.now - record.active <= at.ttl:
            head = self.load_head(sid, at)
            if head is not None and head.uid == record.uid:
                record.active = head.active
        return record

    def _load(self, statement: str, sid: str, at: Moment) -> Any:
        """Read a row that begins with its head, and renew it."""
        now = at.now
        connection = self._database.take(now)
        try:
            row: Any = connection.execute(statement, (sid,)).fetchone()
        except BaseException as error:  # noqa: BLE001 - it is raised again
            self._database.fail(connection, error)
        is_used = row is not None and type(row[2]) is float and at.touch_interval < now - row[2] <= at.ttl
        if is_used and is_head(*row[:3]):
            return self._renew(connection, sid, row, now)
        self._database.give(connection)
        return row

    def _renew(self, connection: Connection, sid: str, row: tuple[Any, ...], now: float) -> Any:
        """Record a use, and give the connection back. A database that cannot be written still gives the row."""
        try:
            connection.execute(f"PRAGMA busy_timeout = {_RENEWAL_WAIT}")
            connection.execute(_RENEW, (now, sid, row[0], now))
            connection.execute(self._busy_timeout)
        except BaseException as error:  # noqa: BLE001 - it is raised again, unless it is an error of SQLite
            with contextlib.suppress(StoreUnavailable):
                self._database.fail(connection, error)
            return row
        self._database.give(connection)
        return (*row[:2], now, *row[3:])

    # Writing

    def claim(self, sid: str, at: Moment, timeout: float) -> tuple[Claim, Record | None]:
        token = self._locks.wait(byte_of(sid), timeout)
        if token is None:
            raise LockTimeout(sid)
        try:
            record = self.load(sid, at)
        except BaseException:
            self._locks.give_back(token)
            raise
        return Claim(sid, token), record

    def release(self, claim: Claim) -> None:
        self._locks.give_back(claim.token)

    def create(
        self,
        record: Record,
        at: Moment,
        claim: Claim | None = None,
        *,
        last: bool = False,
        limit: int | None = None,
    ) -> Record:
        sid = record.sid
        self._check(claim, sid)
        with self._database.writing(at.now) as connection:
            row = rows.create(connection, record, limit)
        if row is None and limit is not None:
            raise TooManySessions(limit)
        if row is not None and row[0] != record.uid:
            return record_of(sid, row)
        if last and claim is not None:
            self.release(claim)
        return record

    def write(
        self,
        life: Life,
        changes: Mapping[str, Change],
        at: Moment,
        claim: Claim | None = None,
        *,
        last: bool = False,
        base: Record | None = None,
    ) -> Record:
        self._check(claim, life.sid)
        connection = self._database.take(at.now)
        try:
            written = rows.write(connection, life, changes, at.now, base)
        except SiloError:
            self._database.give(connection)
            raise
        except BaseException as error:  # noqa: BLE001 - it is raised again
            self._database.fail(connection, error)
        self._database.give(connection)
        if last and claim is not None:
            self.release(claim)
        return written

    def attach(self, life: Life, name: str, change: Change, at: Moment) -> None:
        with self._database.writing(at.now) as connection:
            rows.attach(connection, life, name, change, (at.now, at.now - at.touch_interval))

    def _check(self, claim: Claim | None, sid: str) -> None:
        """Raise ``LockLost`` in a forked child, or if another process has the lock in a lock file that was replaced."""
        if claim is not None and not self._locks.has(claim.token):
            raise LockLost(sid)

    def put(self, session: Record, now: float) -> None:
        raise NotImplementedError("put() is for backends of live objects")

    # Lives

    def touch(self, life: Life, at: Moment) -> bool:
        row = self._ask(_ACTIVE, life)
        if row is None:
            return False
        if type(row[0]) is float and at.now - row[0] <= at.touch_interval:
            return True
        return self._do("UPDATE sessions SET active = max(active, ?) WHERE sid = ? AND uid = ?", (at.now, *life)) > 0

    def remove(self, life: Life) -> bool:
        with self._database.writing() as connection:
            if life.uid:
                removed = connection.execute("DELETE FROM sessions WHERE sid = ? AND uid = ?", life).rowcount > 0
            else:
                row: Row | None = connection.execute(LOAD, (life.sid,)).fetchone()
                removed = row is not None and not uid_of(life.sid, row)
                if removed:
                    connection.execute("DELETE FROM sessions WHERE sid = ?", (life.sid,))
            if removed:  # the holder may be dead, and no later sweep looks at this life
                connection.execute("DELETE FROM holds WHERE uid = ?", (life.uid,))
        return removed

    def rename(self, life: Life, sid: str, at: Moment) -> bool:
        with self._database.writing(at.now) as connection:
            renamed = connection.execute(_RENAME, (sid, *life)).rowcount > 0
            if renamed:
                connection.execute("INSERT OR REPLACE INTO rotated VALUES (?, ?)", (life.sid, at.now))
        return renamed

    def find(self, uid: str) -> str | None:
        row = self._ask("SELECT sid FROM sessions WHERE uid = ?", (uid,))
        return row[0] if row is not None else None

    def living(self, uids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        with self._database.reading() as connection:
            for first in range(0, len(uids), ASKED):
                asked = uids[first : first + ASKED]
                found.update(uid for (uid,) in connection.execute(_LIVING.format(", ".join("?" * len(asked))), asked))
        return found

    def _do(self, statement: str, values: tuple[Any, ...], now: float | None = None) -> int:
        """Change rows in one transaction, and return their number."""
        with self._database.reading(now) as connection:
            return connection.execute(statement, values).rowcount

    def _ask(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        """Return one row, or None."""
        connection = self._database.take()
        try:
            row = connection.execute(statement, values).fetchone()
        except BaseException as error:  # noqa: BLE001 - it is raised again
            self._database.fail(connection, error)
        self._database.give(connection)
        return row

    # Expiry

    def due(self, at: Moment) -> Iterator[list[Life]]:
        return self._expiry.due(at)

    def expire(self, lives: Iterable[Life], at: Moment, claim: Claim | None = None) -> list[Life]:
        return self._expiry.expire(lives, at, claim)

    def ended(self) -> list[Life]:
        return self._expiry.ended()

    def settle(self, lives: Iterable[Life]) -> None:
        self._expiry.settle(lives)

    def expired_at(self, sid: str) -> float | None:
        at: float | None = self._ask(_EXPIRED_AT, (sid, sid))[0]
        return at

    def prune(self, before: float) -> None:
        self._database.trim()
        while self._ask("SELECT 1 FROM tombstones WHERE at < ? LIMIT 1", (before,)):
            self._do(_PRUNE, (before, BATCH))
        if self._ask("SELECT 1 FROM meta WHERE key = 'lost' AND value < ?", (before,)):
            self._do("DELETE FROM meta WHERE key = 'lost' AND value < ?", (before,))
        if self._ask("SELECT 1 FROM rotated WHERE at < ? LIMIT 1", (before - ROTATED_RETAIN,)):
            self._do("DELETE FROM rotated WHERE at < ?", (before - ROTATED_RETAIN,))

    def hold(self, uid: str) -> None:
        self._holds.add(uid)

    def unhold(self, uid: str) -> None:
        self._holds.remove(uid)

    def held(self, uid: str) -> bool:
        return self._holds.has(uid)

    # Looking in

    def count(self) -> int:
        return int(self._ask("SELECT value FROM meta WHERE key = 'count'")[0])

    def expired_count(self) -> int:
        return int(self._ask("SELECT count(*) FROM tombstones")[0])

    def sids(self) -> list[str]:
        with self._database.reading() as connection:
            return [sid for (sid,) in connection.execute("SELECT sid FROM sessions") if is_sid(sid)]

    def check(self, now: float) -> list[Finding]:  # noqa: ARG002 - the file has no clock
        return check_file(self._database)

    def close(self) -> None:
        self._holds.close()
        self._database.close()
