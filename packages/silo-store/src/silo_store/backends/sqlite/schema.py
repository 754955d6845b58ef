"""The tables of the database file."""

from __future__ import annotations

import sqlite3
import uuid

from ...errors import StoreUnavailable

APPLICATION_ID = 0x53496C6F
"""Distinguishes a file of sessions from other SQLite databases."""
VERSION = 3
"""The version of the schema below."""

# ``noted`` is a use of the session, the last one or an earlier one. The sweep finds due sessions by it, and only the
# sweep updates it. So a write changes one page, that of the row, and no index.
_TABLES = """
CREATE TABLE sessions(
    id INTEGER PRIMARY KEY, sid TEXT NOT NULL UNIQUE, uid TEXT NOT NULL,
    created REAL NOT NULL, active REAL NOT NULL, noted REAL NOT NULL, revision INTEGER NOT NULL, state BLOB NOT NULL
);
CREATE TABLE apart(session INTEGER, name TEXT, version INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE (session, name));
CREATE TABLE attached(session INTEGER, name TEXT, version INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE (session, name));
CREATE INDEX sessions_noted ON sessions(noted);
CREATE INDEX sessions_uid ON sessions(uid);
CREATE TABLE tombstones(sid TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX tombstones_at ON tombstones(at);
CREATE TABLE rotated(sid TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE ended(uid TEXT PRIMARY KEY, sid TEXT NOT NULL, owner INTEGER NOT NULL);
CREATE INDEX ended_owner ON ended(owner);
CREATE TABLE holds(uid TEXT, owner INTEGER, PRIMARY KEY (uid, owner)) WITHOUT ROWID;
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
_TRIGGERS = (
    "CREATE TRIGGER sessions_begin AFTER INSERT ON sessions"
    " BEGIN UPDATE meta SET value = value + 1 WHERE key = 'count'; END",
    "CREATE TRIGGER sessions_end AFTER DELETE ON sessions"
    " BEGIN UPDATE meta SET value = value - 1 WHERE key = 'count'; DELETE FROM apart WHERE session = old.id;"
    " DELETE FROM attached WHERE session = old.id; END",
)


def exists(connection: sqlite3.Connection, path: str) -> bool:
    """Return whether the file at ``path`` has the tables.

    Raises:
        StoreUnavailable: It has those of another release.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        return False
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        raise StoreUnavailable(
            f"the session database {path} has schema {version}, but this release uses schema {VERSION}: use another"
            " file, or delete this one"
        )
    return True


def make(connection: sqlite3.Connection, path: str, now: float | None) -> None:
    """Create the tables in an empty file. The caller keeps other processes from doing so.

    Args:
        connection: A connection to the file, without a transaction.
        path: The file.
        now: The store's clock; None if it is unknown.

    Raises:
        StoreUnavailable: The file has other tables, or its file system does not allow a write-ahead log.
    """
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StoreUnavailable(f"{path} is a database of something else: give sessions their own file")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreUnavailable(f"the file system of {path} does not allow SQLite's write-ahead log")
    connection.execute("BEGIN IMMEDIATE")
    for statement in (*_TABLES.split(";"), *_TRIGGERS):
        connection.execute(statement)
    meta = {"epoch": uuid.uuid4().hex, "born": now, "count": 0}
    connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
