"""Checks of the file of ``SQLiteBackend``, for operators."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from pathlib import Path

from ...backend import Finding
from ...errors import StoreUnavailable
from ...ids import is_sid
from ...redact import short
from .file import Connection, Database
from .mounts import file_system, is_network, mounts
from .rows import is_damaged

SMALL = 32 << 20
"""Bytes up to which the whole file is checked."""
LOOKED_AT = 20_000
"""Most records that are checked for damage: a second of work."""
LITTLE = 64 << 20
"""Bytes of free space below which there is a warning."""

_ROWS = "SELECT sid, uid, created, active, revision, state FROM sessions LIMIT ?"


def check_file(database: Database) -> list[Finding]:
    """Check whether the file can be read and written, and whether its place is suitable. Create it if it is missing."""
    findings = [_place(database.path), _space(database.path)]
    try:
        with database.reading() as connection:
            findings += _content(connection, database.path)
        with database.writing():
            pass
        database.locks.taken([0])
    except StoreUnavailable as error:
        return [Finding("error", "file", str(error)), *findings]
    return [Finding("ok", "file", f"{database.path} can be read and written"), *_rights(database.path), *findings]


def _content(connection: Connection, path: str) -> list[Finding]:
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    kept = "a power failure undoes no commit" if synchronous >= 2 else "a power failure may undo the last commits"
    findings = [
        Finding("ok", "journal", f"write-ahead log; {kept}")
        if mode == "wal"
        else Finding("error", "journal", f"the journal mode is {mode} instead of wal: readers and writers wait"),
        Finding("ok", "sqlite", f"SQLite {sqlite3.sqlite_version}"),
    ]
    size = Path(path).stat().st_size
    if size > SMALL:
        findings.append(Finding("ok", "integrity", f"not checked: the file has {size:,} bytes"))
    else:
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        findings.append(
            Finding("ok" if result == "ok" else "error", "integrity", f"SQLite's quick_check says: {result}")
        )
    return [*findings, _records(connection)]


def _records(connection: Connection) -> Finding:
    count, damaged = 0, []
    try:
        for sid, *row in connection.execute(_ROWS, (LOOKED_AT,)):
            count += 1
            if not is_sid(sid) or is_damaged(connection, sid, tuple(row)):
                damaged.append(short(str(sid)))
    except sqlite3.DatabaseError as error:
        return Finding("error", "records", f"SQLite cannot read the records: {error}")
    if not damaged:
        return Finding("ok", "records", f"{count:,} checked, none damaged")
    some = ", ".join(sorted(damaged)[:3])
    return Finding(
        "error", "records", f"{len(damaged):,} of {count:,} records are damaged ({some}): reset or destroy the sessions"
    )


def _rights(path: str) -> list[Finding]:
    if sys.platform != "win32" and (mode := os.stat(path).st_mode) & 0o007:  # noqa: PTH116
        return [
            Finding("warning", "rights", f"every user may open {path} (mode {mode & 0o777:o}): sessions are secret")
        ]
    return []


def _place(path: str) -> Finding:
    kind = file_system(path, mounts())
    if is_network(kind):
        return Finding(
            "warning",
            "file system",
            f"{path} is on a network file system ({kind}), on which locks are not reliable: use a local disk",
        )
    return Finding("ok", "file system", f"{kind or 'of unknown kind'}")


def _space(path: str) -> Finding:
    try:
        free = shutil.disk_usage(Path(path).parent).free
    except OSError as error:
        return Finding("error", "space", f"the folder of {path}: {error.strerror}")
    return Finding("warning" if free < LITTLE else "ok", "space", f"{free >> 20:,} MiB are free")
