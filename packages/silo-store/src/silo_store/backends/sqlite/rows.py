"""A session's rows, and the record in them. A row may be damaged, as other programs can write to the file."""

from __future__ import annotations

from collections.abc import Mapping
from sqlite3 import Connection

from ...backend import Life
from ...errors import RecordDamaged, SessionConflict, SessionExpired
from ...record import Apart, Blob, Change, Record
from ..packing import PackedRecord, is_head, pack, whole_of

LOAD = "SELECT uid, created, active, revision, state FROM sessions WHERE sid = ?"
_WRITE = (
    "UPDATE sessions SET active = max(active, ?), revision = revision + 1, state = ?"
    " WHERE sid = ? AND uid = ? AND revision = ? AND created = ? AND typeof(active) = 'real'"
)
_CREATE = (
    "INSERT OR IGNORE INTO sessions(sid, uid, created, active, noted, revision, state) SELECT ?, ?, ?, ?, ?, 1, ?"
    " WHERE coalesce((SELECT value FROM meta WHERE key = 'count') < ?, 1)"
)
_SET_APART = "INSERT OR REPLACE INTO apart SELECT id, ?, ?, ? FROM sessions WHERE sid = ?"
_DELETE_APART = "DELETE FROM apart WHERE session = (SELECT id FROM sessions WHERE sid = ?) AND name = ?"
_READ = (
    "SELECT uid, created, active, revision, state, name, version, data"
    " FROM sessions LEFT JOIN apart ON session = sessions.id WHERE sid = ?"
)
_FETCH = (
    "SELECT uid, created, active, revision, CASE WHEN version IS NULL THEN state END, version, data"
    " FROM sessions LEFT JOIN apart ON session = sessions.id AND name = ? WHERE sid = ? AND uid = ?"
)
_SIZES = (
    "SELECT name, version, length(data) FROM apart JOIN sessions ON session = sessions.id"
    " WHERE sid = ? AND typeof(data) = 'blob'"
)
_ATTACHED = (
    "SELECT uid, created, active, name, version, data"
    " FROM sessions LEFT JOIN attached ON session = sessions.id WHERE sid = ?"
)
_ATTACHED_VERSION = (
    "SELECT id, version FROM sessions LEFT JOIN attached ON session = sessions.id AND name = ?"
    " WHERE sid = ? AND uid = ?"
)
_RENEW = "UPDATE sessions SET active = ? WHERE id = ? AND active < ?"

Head = tuple[str, float, float]
"""The uid, the times of creation and last use."""
Row = tuple[str, float, float, int, bytes]
"""A head, the revision, the packed namespaces."""


def head_of(sid: str, head: Head) -> Record:
    """Return the record of a head, without namespaces.

    Raises:
        RecordDamaged: The head is not valid.
    """
    if not is_head(*head):
        raise RecordDamaged(sid)
    return Record(sid, *head)


def record_of(sid: str, row: Row) -> PackedRecord:
    """Return the record in a row.

    Raises:
        RecordDamaged: The row is not a valid record.
    """
    uid, created, active, revision, state = row
    if not is_head(uid, created, active):
        raise RecordDamaged(sid)
    if type(revision) is not int or type(state) is not bytes:
        raise RecordDamaged(sid, uid)
    return PackedRecord(sid, uid, created, active, revision, state)


def uid_of(sid: str, row: Row) -> str:
    """Return the uid of a row; empty if the row is damaged and its uid cannot be read."""
    try:
        return record_of(sid, row).uid
    except RecordDamaged as error:
        return error.uid


def is_damaged(connection: Connection, sid: str, row: Row) -> bool:
    """Return whether a row is not a valid record, or a namespace that is kept apart is missing or another one."""
    try:
        record = record_of(sid, row)
    except RecordDamaged:
        return True
    if record.is_whole:
        return False
    stored = {name: Apart(version, size) for name, version, size in connection.execute(_SIZES, (sid,))}
    return any(isinstance(value, Apart) and stored.get(name) != value for name, value in record.items())


def create(connection: Connection, record: Record, limit: int | None) -> Row | None:
    """Insert a new record in the open transaction, unless there are ``limit`` records. Return the row that is there."""
    sid, packed = record.sid, pack(record)
    new = (sid, record.uid, record.created, record.active, record.active, packed.data, limit)
    if connection.execute(_CREATE, new).rowcount == 0:
        row: Row | None = connection.execute(LOAD, (sid,)).fetchone()
        return row
    _set_apart(connection, sid, {name: Blob(record[name].version, data) for name, data in packed.apart.items()})
    connection.execute("DELETE FROM tombstones WHERE sid = ?", (sid,))
    return (record.uid, record.created, record.active, 1, packed.data)


def write(
    connection: Connection, life: Life, changes: Mapping[str, Change], now: float, base: Record | None
) -> PackedRecord:
    """Write changes over the base if the row has not changed since, otherwise over the current row.

    Raises:
        SessionConflict: A namespace has another version than the change expects. There is no open transaction.
        SessionExpired: The life has ended. There is no open transaction.
    """
    sid, uid = life
    if isinstance(base, PackedRecord) and base.uid == uid and base.fits(changes):
        written = _write_over(connection, sid, changes, now, base)
        if written is not None:
            return written
    while True:
        row: Row | None = connection.execute(LOAD, (sid,)).fetchone()
        if row is None or row[0] != uid:
            raise SessionExpired(sid)
        current = record_of(sid, row)
        if not current.fits(changes):
            raise SessionConflict(sid)
        written = _write_over(connection, sid, changes, now, current)
        if written is not None:
            return written


def _write_over(
    connection: Connection, sid: str, changes: Mapping[str, Change], now: float, base: PackedRecord
) -> PackedRecord | None:
    """Write changes if the row is unchanged since it was read. Return the new record; None if it has changed."""
    new, apart, no_longer_apart = base.with_changes(changes)
    new.sid, new.active = sid, max(new.active, now)
    values = (now, new.packed, sid, new.uid, base.revision, new.created)
    if not (apart or no_longer_apart):
        return new if connection.execute(_WRITE, values).rowcount else None
    connection.execute("BEGIN IMMEDIATE")
    done = connection.execute(_WRITE, values).rowcount
    if done:
        _set_apart(connection, sid, {name: Blob(changes[name].version + 1, data) for name, data in apart.items()})
        connection.executemany(_DELETE_APART, [(sid, name) for name in no_longer_apart])
    connection.execute("COMMIT")
    return new if done else None


def _set_apart(connection: Connection, sid: str, blobs: Mapping[str, Blob]) -> None:
    connection.executemany(_SET_APART, [(name, *blob, sid) for name, blob in blobs.items()])


def fetch(connection: Connection, life: Life, name: str) -> Blob | None:
    """Return a namespace; None if it is not stored.

    Raises:
        RecordDamaged: The namespace is not as it was written.
        SessionExpired: The life has ended.
    """
    row = connection.execute(_FETCH, (name, *life)).fetchone()
    if row is None:
        raise SessionExpired(life.sid)
    *whole, version, data = row
    if version is not None:
        return _blob(life, version, data)
    found: Blob | Apart | None = record_of(life.sid, tuple(whole)).get(name)
    if isinstance(found, Apart):
        raise RecordDamaged(*life)
    return found


def _blob(life: Life, version: object, data: object) -> Blob:
    if type(version) is not int or type(data) is not bytes:
        raise RecordDamaged(*life)
    return Blob(version, data)


def read(connection: Connection, sid: str) -> Record | None:
    """Return a record with all of its data; None if the id has no record."""
    found = connection.execute(_READ, (sid,)).fetchall()
    if not found:
        return None
    packed = record_of(sid, found[0][:5])
    life = Life(sid, packed.uid)
    return whole_of(packed, {name: _blob(life, version, data) for *_, name, version, data in found if name is not None})


def attached(connection: Connection, sid: str) -> Record | None:
    """Return the head of a record, with what is attached to the session; None if the id has no record."""
    rows = connection.execute(_ATTACHED, (sid,)).fetchall()
    if not rows:
        return None
    record = head_of(sid, rows[0][:3])
    life = Life(sid, record.uid)
    record.update({name: _blob(life, version, data) for *_, name, version, data in rows if name is not None})
    return record


def attach(connection: Connection, life: Life, name: str, change: Change, renew: tuple[float, float]) -> None:
    """Attach data in the open transaction, and renew the record.

    Args:
        connection: The connection.
        life: The life of the session.
        name: What the data is attached as.
        change: The data.
        renew: The present time, and another one: the present time is recorded if the last recorded use is before it.

    Raises:
        SessionConflict: What is attached has another version than the change expects.
        SessionExpired: The life has ended.
    """
    row = connection.execute(_ATTACHED_VERSION, (name, *life)).fetchone()
    if row is None:
        raise SessionExpired(life.sid)
    number, version = row
    if change.version != (version or 0):
        raise SessionConflict(life.sid)
    connection.execute("INSERT OR REPLACE INTO attached VALUES (?, ?, ?, ?)", (number, name, *_next(change)))
    now, before = renew
    connection.execute(_RENEW, (now, number, before))


def _next(change: Change) -> Blob:
    return Blob(change.version + 1, change.data)
