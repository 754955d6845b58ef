"""The database file of ``SQLiteBackend``: creating and opening it, a pool of connections, and forks."""
# ruff: noqa: PTH108, PTH116  (pathlib doubles the time)

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from operator import methodcaller
from time import monotonic, sleep
from typing import NoReturn
from urllib.parse import quote

from ...errors import SiloError, StoreUnavailable
from . import schema
from .locks import LOOK_EVERY, LockFile, lock_file
from .mounts import file_system, is_network, mounts

logger = logging.getLogger("silo_store")

_SETUP = 3 << 61  # the byte of the lock file that keeps two processes from creating one database
_MOST_IDLE = 32  # connections
LARGE_LOG = 1 << 25
"""Bytes of the write-ahead log above which a sweep empties it."""
_TRIM_WAIT, _TRIM_TRIES = 250, 20  # milliseconds, and how often
_FORK_WAIT = 1.0  # seconds for which a fork waits for other threads, beyond their own timeout


_text = methodcaller("decode", "utf-8", "surrogateescape")  # the code that reads a row reports damage


class Connection(sqlite3.Connection):
    """A connection to the file that was at the path when the connection was opened."""

    generation = 0


class Database:
    """Connections to one file.

    Args:
        path: The file. The folder must exist.
        timeout: Seconds to wait for another process that writes.
        durable: Flush each commit to the disk before it returns.
        adopt: Called with a connection when the file at the path was replaced.

    Attributes:
        path: The file, without symbolic links.
        locks: The locks that belong to the file.
    """

    def __init__(self, path: str, timeout: float, durable: bool, adopt: Callable[[Connection], object]) -> None:
        self.path: str = os.path.realpath(path)
        self.timeout = timeout
        self.locks: LockFile = lock_file(self.path)
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
            now: The store's clock, if the caller knows it.

        Raises:
            StoreUnavailable: The file cannot be opened.
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
        """Return whether the file at the path is the one that was opened."""
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        same = found.st_ino == self._inode and found.st_dev == self._device
        self._look_at = monotonic() + LOOK_EVERY if same else 0.0
        return same

    def give(self, connection: Connection) -> None:
        """Give back a connection that has no open transaction."""
        if connection.generation == self._generation and len(self._idle) < _MOST_IDLE and not self._draining:
            self._idle.append(connection)
        else:
            self._discard(connection)

    def fail(self, connection: Connection, error: BaseException) -> NoReturn:
        """Close a connection, which rolls its transaction back, and raise the error; SQLite's as ``StoreUnavailable``.

        Call it in the ``except`` block of the error.
        """
        self._discard(connection)
        if not isinstance(error, sqlite3.Error):
            raise error
        if "locked" not in str(error):
            self._inode, self._look_at = -1, 0.0  # the file may have been replaced: look again
        raise self._unavailable(error) from error

    @contextlib.contextmanager
    def reading(self, now: float | None = None) -> Iterator[Connection]:
        """Take a connection for a block that reads. If it raises a ``SiloError``, no transaction is open."""
        connection = self.take(now)
        try:
            yield connection
        except SiloError:
            self.give(connection)
            raise
        except BaseException as error:  # noqa: BLE001 - it is raised again
            self.fail(connection, error)
        self.give(connection)

    @contextlib.contextmanager
    def writing(self, now: float | None = None) -> Iterator[Connection]:
        """Take a connection for a block that is one transaction. If the block raises, nothing is written."""
        with self.reading(now) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except SiloError:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def trim(self) -> None:
        """Empty the write-ahead log if it has grown large.

        SQLite restarts the log when no connection reads from it. With readers and writers that never pause, this never
        happens. Here writers wait a moment until the present readers are done.
        """
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self.path + "-wal").st_size > LARGE_LOG:
                with self.reading() as connection:
                    connection.execute(f"PRAGMA busy_timeout = {_TRIM_WAIT}")
                    for _ in range(_TRIM_TRIES):
                        busy, frames, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                        if not busy or frames >= 0:  # done, or a reader takes long: the next sweep tries again
                            break
                        sleep(0.002)  # another connection is emptying it
                    connection.execute(f"PRAGMA busy_timeout = {math.ceil(self.timeout * 1000)}")

    def close(self) -> None:
        """Close idle connections and the lock file. They are opened again when needed."""
        self._forget_file()
        self.locks.close()

    def _discard(self, connection: Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        self._all.discard(connection)  # after close(): a fork waits for connections that are still being closed

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
                    f"this process was forked while its parent used the session database {self.path}, which SQLite does"
                    " not support: use the store only after the fork"
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
            # No other thread or process is in this block.
            # While this process has a connection open, os.close() on the same file would free SQLite's locks.
            if not os.path.lexists(self.path):
                for leftover in ("-wal", "-shm"):  # of a file that was deleted and may still be in use
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.path + leftover)
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            return os.stat(self.path)

    @contextlib.contextmanager
    def _setting_up(self) -> Iterator[None]:
        """Keep other processes from creating the file or its tables."""
        token = self.locks.wait(_SETUP, self.timeout)
        if token is None:
            raise StoreUnavailable(f"another process has been creating the session database {self.path} for too long")
        try:
            yield
        finally:
            self.locks.give_back(token)

    def _prepare(self, connection: Connection) -> None:
        """Create the tables if there are none, and check whether the file was replaced."""
        if not schema.exists(connection, self.path):
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
                    "the session database %s is on a network file system (%s), on which locks are not reliable: use a"
                    " local disk",
                    self.path,
                    kind,
                )

    def _make(self, connection: Connection) -> None:
        with self._setting_up():
            if not schema.exists(connection, self.path):  # no other process has made it in the meantime
                schema.make(connection, self.path, self._seen)

    # Forking
    #
    # SQLite counts its locks on a file by process. In a forked child it would assume that it has the parent's locks,
    # even for a new connection, and another process could then remove the log while the child uses it. So no connection
    # is open while this process forks.

    def before_fork(self) -> None:
        """Close all connections after the operations of other threads, and keep new ones from being opened."""
        self._draining = True  # otherwise a busy thread would take the same connection again and again
        if self._gate.acquire(timeout=self.timeout):
            self._forking = True
        deadline = monotonic() + self.timeout + _FORK_WAIT
        while True:
            _close_idle(self._idle, self._all)
            if not self._all or monotonic() > deadline:
                return
            sleep(0.0005)

    def after_fork_in_parent(self) -> None:
        """Allow opening connections again."""
        self._draining = False
        if self._forking:
            self._forking = False
            self._gate.release()

    def after_fork(self) -> None:
        """Begin with a free lock. A connection that is still open must not be used here, not even closed."""
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
