"""The file of `SQLiteBackend`: made, opened, pooled, noticed when it is replaced, and closed before a fork."""
# ruff: noqa: PTH108, PTH116  (pathlib takes as long again)

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic, sleep
from typing import NoReturn
from urllib.parse import quote

from ...errors import StoreUnavailable
from .locks import LOOK_EVERY, lock_file
from .mounts import file_system, is_network, mounts

logger = logging.getLogger("silo_store")

APPLICATION_ID = 0x53496C6F
"""Tells a file of sessions from other SQLite databases."""
VERSION = 2
"""The version of the schema below."""

# `noted` is a use of the session, the last one or an earlier one, and what the sweep finds due ones by. Only the sweep
# moves it on. So a write changes one page, that of the row, and no index.
_SCHEMA = """
CREATE TABLE sessions(
    id INTEGER PRIMARY KEY, sid TEXT NOT NULL UNIQUE, uid TEXT NOT NULL,
    created REAL NOT NULL, active REAL NOT NULL, noted REAL NOT NULL, revision INTEGER NOT NULL, state BLOB NOT NULL
);
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
_COUNTING = (
    "CREATE TRIGGER sessions_begin AFTER INSERT ON sessions"
    " BEGIN UPDATE meta SET value = value + 1 WHERE key = 'count'; END",
    "CREATE TRIGGER sessions_end AFTER DELETE ON sessions"
    " BEGIN UPDATE meta SET value = value - 1 WHERE key = 'count'; END",
)

_SETUP = 3 << 61  # the byte of the lock file that keeps two processes from making one database
_MOST_IDLE = 32  # connections
LARGE_LOG = 1 << 25
"""Bytes of the write-ahead log from which on a sweep empties it."""
_TRIM_WAIT, _TRIM_TRIES = 250, 20  # milliseconds, and how often
_FORK_WAIT = 1.0  # seconds for which a fork waits for other threads, beyond those that they may wait themselves


_text = partial(str, encoding="utf-8", errors="surrogateescape")  # the reader of a row reports damage


class Connection(sqlite3.Connection):
    """A connection to the file that was at the path when it was opened."""

    generation = 0


class Database:
    """Connections to one file.

    Args:
        path: the file. The folder must exist.
        timeout: seconds to wait for another process that writes.
        durable: let a commit reach the disk before it returns.
        adopt: called with a connection when another file lies at the path than before.

    Attributes:
        path: the file, without symbolic links.
        locks: the locks that go with it.
    """

    def __init__(self, path: str, timeout: float, durable: bool, adopt: Callable[[Connection], object]) -> None:
        self.path = os.path.realpath(path)
        self.timeout = timeout
        self.locks = lock_file(self.path)
        self._synchronous = "FULL" if durable else "NORMAL"
        self._adopt = adopt
        self._inode = self._device = -1
        self._look_at = 0.0
        self._generation = 0
        self._epoch: str | None = None
        self._seen: float | None = None
        self._warned = False
        self._stranded = False
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._gate = threading.Lock()
        self._forking = self._draining = False
        weakref.finalize(self, _close_idle, self._idle, self._all)
        _databases.add(self)

    # Taking a connection and giving it back

    def take(self, now: float | None = None) -> Connection:
        """Return a connection to the file that is at the path now, for this thread until it gives it back.

        Args:
            now: the store's clock, if the caller knows it.

        Raises:
            StoreUnavailable: the file cannot be opened.
        """
        if now is not None:
            self._seen = now
        if monotonic() < self._look_at or self._is_same():
            try:
                connection = self._idle.pop()
            except IndexError:
                pass
            else:
                if connection.generation == self._generation:
                    return connection
                self._discard(connection)
        return self._open()

    def _is_same(self) -> bool:
        """Say whether the file at the path is the one that was opened."""
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        same = found.st_ino == self._inode and found.st_dev == self._device
        self._look_at = monotonic() + LOOK_EVERY if same else 0.0
        return same

    def give(self, connection: Connection) -> None:
        """Give a connection back that is in no transaction."""
        if connection.generation == self._generation and len(self._idle) < _MOST_IDLE and not self._draining:
            self._idle.append(connection)
        else:
            self._discard(connection)

    def fail(self, connection: Connection, error: BaseException) -> NoReturn:
        """Close a connection, which rolls its transaction back, and raise the error, as `StoreUnavailable` if it may.

        Call it where the error is handled.
        """
        self._discard(connection)
        if not isinstance(error, sqlite3.Error):
            raise error
        if "locked" not in str(error):
            self._inode, self._look_at = -1, 0.0  # whatever it is, look at the file anew
        raise self._unavailable(error) from error

    @contextlib.contextmanager
    def reading(self, now: float | None = None) -> Iterator[Connection]:
        """Take a connection for a block that reads."""
        connection = self.take(now)
        try:
            yield connection
        except BaseException as error:  # noqa: BLE001 - it is raised again
            self.fail(connection, error)
        self.give(connection)

    @contextlib.contextmanager
    def writing(self, now: float | None = None) -> Iterator[Connection]:
        """Take a connection for a block that is one transaction: all of it is done, or nothing."""
        with self.reading(now) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def trim(self) -> None:
        """Empty the write-ahead log where it has grown large.

        SQLite begins it anew when nobody reads from it: under readers and writers without a pause, never. Here writers
        wait for the readers that there are, for a moment.
        """
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self.path + "-wal").st_size > LARGE_LOG:
                with self.reading() as connection:
                    connection.execute(f"PRAGMA busy_timeout = {_TRIM_WAIT}")
                    for _ in range(_TRIM_TRIES):
                        busy, frames, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                        if not busy or frames >= 0:  # done, or somebody reads for long: the next sweep tries again
                            break
                        sleep(0.002)  # another connection is at it
                    connection.execute(f"PRAGMA busy_timeout = {math.ceil(self.timeout * 1000)}")

    def close(self) -> None:
        """Close what is open. It is opened again when needed."""
        self._forget_file()
        self.locks.close()

    def _discard(self, connection: Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        self._all.discard(connection)  # after it: a fork waits for what is still being closed

    def _forget_file(self) -> None:
        self._generation += 1
        self._inode, self._look_at = -1, 0.0
        _close_idle(self._idle, self._all)

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return StoreUnavailable(f"the session database {self.path} cannot be used: {text}")

    # Opening

    def _open(self) -> Connection:
        if not self._gate.acquire(timeout=max(self.timeout, 1.0)):
            raise StoreUnavailable(f"the session database {self.path} could not be opened in time")
        try:
            if self._stranded:
                raise StoreUnavailable(
                    f"this process was forked while its parent used the session database {self.path}, and SQLite does"
                    " not survive that: let the store be used after the fork only"
                )
            return self._connect()
        except (OSError, sqlite3.Error) as error:
            raise self._unavailable(error) from error
        finally:
            self._gate.release()

    def _connect(self) -> Connection:
        while True:
            found = self._find_or_make()
            if (found.st_ino, found.st_dev) != (self._inode, self._device):
                self._forget_file()
            with self.locks.opening:
                connection = sqlite3.connect(
                    f"file:{quote(self.path)}?mode=rw",
                    uri=True,
                    timeout=self.timeout,
                    isolation_level=None,
                    check_same_thread=False,
                    factory=Connection,
                )
            self._all.add(connection)
            try:
                connection.generation = self._generation
                connection.text_factory = _text
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                if self._inode == -1:
                    self._prepare(connection)
                again = os.stat(self.path)
            except BaseException:
                self._discard(connection)
                raise
            if os.path.samestat(found, again):
                self._inode, self._device = found.st_ino, found.st_dev
                return connection
            self._discard(connection)

    def _find_or_make(self) -> os.stat_result:
        try:
            return os.stat(self.path)
        except FileNotFoundError:
            pass
        with self._setting_up(), self.locks.opening:
            # Nobody else is in here, in this process or another.
            # While a connection of this process is open, closing the file by other ways would free SQLite's locks.
            if not os.path.lexists(self.path):
                for leftover in ("-wal", "-shm"):  # of a file that was deleted, and still in use maybe
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.path + leftover)
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            return os.stat(self.path)

    @contextlib.contextmanager
    def _setting_up(self) -> Iterator[None]:
        """Keep other processes from making the file or its tables."""
        token = self.locks.wait(_SETUP, self.timeout)
        if token is None:
            raise StoreUnavailable(f"another process has been making the session database {self.path} for too long")
        try:
            yield
        finally:
            self.locks.give_back(token)

    def _prepare(self, connection: Connection) -> None:
        """Make the tables if there are none, and see whether it is the file that was there before."""
        if not self._is_made(connection):
            self._make(connection)
        meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        if self._epoch not in (None, meta["epoch"]):
            logger.warning("the session database %s is gone or was replaced: its sessions are lost", self.path)
            lost = meta.get("born") or self._seen
            if "lost" not in meta and lost is not None:
                connection.execute("INSERT OR IGNORE INTO meta VALUES ('lost', ?)", (lost,))
        if self._epoch is not None:
            self._adopt(connection)
        self._epoch = meta["epoch"]
        if not self._warned:
            self._warned = True
            kind = file_system(self.path, mounts())
            if is_network(kind):
                logger.warning(
                    "the session database %s is on a network file system (%s), on which SQLite's and the sessions'"
                    " locks do not work reliably",
                    self.path,
                    kind,
                )

    def _is_made(self, connection: Connection) -> bool:
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            return False
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            raise StoreUnavailable(
                f"the session database {self.path} has schema {version}, and this release knows schema {VERSION}"
            )
        return True

    def _make(self, connection: Connection) -> None:
        with self._setting_up():
            if self._is_made(connection):  # while we waited
                return
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreUnavailable(f"{self.path} is a database of something else: sessions need their own")
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StoreUnavailable(f"the file system of {self.path} does not allow SQLite's write-ahead log")
            connection.execute("BEGIN IMMEDIATE")
            for statement in (*_SCHEMA.split(";"), *_COUNTING):
                connection.execute(statement)
            meta = {"epoch": uuid.uuid4().hex, "born": self._seen, "count": 0}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")

    # Forking
    #
    # SQLite counts its locks on a file by process. In a forked child it would believe that it has those of the parent,
    # whether or not a connection is opened anew, and another process could then take away the log under its feet. So
    # no connection is open while this process forks.

    def before_fork(self) -> None:
        """Close all connections, letting operations of other threads end first, and keep new ones from being opened."""
        self._draining = True  # a busy thread would take what it has just given back, again and again
        if self._gate.acquire(timeout=self.timeout):
            self._forking = True
        deadline = monotonic() + self.timeout + _FORK_WAIT
        while True:
            _close_idle(self._idle, self._all)
            if not self._all or monotonic() > deadline:
                return
            sleep(0.0005)

    def after_fork_in_parent(self) -> None:
        """Let connections be opened again."""
        self._draining = False
        if self._forking:
            self._forking = False
            self._gate.release()

    def after_fork(self) -> None:
        """Begin with a free lock. A connection that is still open now must not even be closed here."""
        self._gate = threading.Lock()
        self._forking = self._draining = False
        self._stranded = self._stranded or bool(self._all)
        _inherited.extend(self._all)
        self._idle.clear()
        self._all.clear()


def _close_idle(idle: deque[Connection], known: set[Connection]) -> None:
    with contextlib.suppress(IndexError):
        while True:
            connection = idle.pop()
            with contextlib.suppress(sqlite3.Error):
                connection.close()
            known.discard(connection)


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_inherited: list[Connection] = []


def _before_fork() -> None:
    for database in list(_databases):
        database.before_fork()


def _after_fork_in_parent() -> None:
    for database in list(_databases):
        database.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for database in list(_databases):
        database.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
