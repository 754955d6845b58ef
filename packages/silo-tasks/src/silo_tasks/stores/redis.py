"""A task store in Redis, for processes on any number of machines."""

from __future__ import annotations

import inspect
import json
import secrets
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, ReadOnlyError, RedisError
from redis.retry import Retry

from ..errors import RunnerUnavailable
from ..text import describe
from .address import check, client_of
from .base import RunChange, TaskStore
from .stored_run import LEASE, StoredRun

RETAIN = 86_400.0
"""Seconds for which a record is kept after the last report of its run."""

TIMEOUT = 5.0
"""Seconds to wait for an answer of the server, if the store has made the client."""

# Reconnect if the server has closed the connection. Do not repeat a command that has timed out.
IMPATIENT: dict[str, Any] = {
    "socket_timeout": TIMEOUT,
    "socket_connect_timeout": TIMEOUT,
    "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
}

MARK = 16
"""Length of the random mark at the beginning of a stored value. Each change writes a new mark."""

KEPT = 64
"""Number of tasks whose last seen value is remembered."""


_LOOK = """
local time = redis.call('TIME')
return {time[1], time[2], redis.call('GET', KEYS[1])}
"""

_CHANGE = f"""
if redis.call('GETRANGE', KEYS[1], 0, {MARK - 1}) ~= ARGV[1] then
    return false
end
if ARGV[2] == '' then
    redis.call('DEL', KEYS[1])
else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return redis.call('TIME')
"""


class RedisTaskStore(TaskStore):
    """Keeps the newest run of each task in one key, with times by the server's clock.

    The store needs Redis 5 or newer, or Valkey. Constructing it opens no connection.

    Args:
        client: A client of redis-py, or the URL for one, such as "redis://localhost:6379/0". A client that is made
            from a URL waits up to ``TIMEOUT`` seconds for an answer.
        prefix: Prefix of every key.
        retain: Seconds for which a record is kept after the last report of its run, or after the time that the run may
            wait for a worker.
        lease: Seconds without a report after which a run reads as lost.

    Raises:
        ValueError: ``retain`` is not positive, or redis-py cannot use the URL or an option of the client. The message
            does not repeat the URL, which may hold a password.
        TypeError: ``client`` is neither a synchronous client of redis-py nor a URL.
    """

    def __init__(
        self,
        client: redis.Redis | str,
        *,
        prefix: str = "silo-tasks",
        retain: float = RETAIN,
        lease: float = LEASE,
    ) -> None:
        if not retain > 0:
            raise ValueError("retain must be positive")
        if isinstance(client, str):
            client = client_of(client, **IMPATIENT)
        if not hasattr(client, "evalsha") or inspect.iscoroutinefunction(getattr(client, "execute_command", None)):
            raise TypeError(
                f"client must be a synchronous client of redis-py, or a URL, not a {type(client).__name__} of "
                f"{type(client).__module__}"
            )
        self._check(client)
        self.prefix = prefix
        self.retain = retain
        self.lease = lease
        self._seen: dict[bytes, _Seen] = {}
        self._client: Any = client
        self._look = client.register_script(_LOOK)
        self._change = client.register_script(_CHANGE)

    def _check(self, client: redis.Redis) -> None:
        check(client)

    def look(self, owner: str, name: str) -> tuple[StoredRun | None, float]:
        """Return the stored run of a task, or None, and the time by the server's clock.

        Raises:
            RunnerUnavailable: The server did not answer in time, or answered with an error.
        """
        seen = self._read(self._key(owner, name))
        return seen.stored, seen.now()

    def change(self, owner: str, name: str, change: RunChange) -> bool:
        """Replace the stored run of a task by what ``change`` returns.

        Raises:
            RunnerUnavailable: The server did not answer in time, or answered with an error.
        """
        key, mine = self._key(owner, name), None
        # Usually the value seen last is still there. If it is not, the write changes nothing, and the value is read.
        guess = self._seen.get(key)
        while True:
            seen = guess or self._read(key)
            if seen.mark and seen.mark == mine:
                # The value was written, and only the answer was lost.
                return True
            new = change(seen.stored, seen.now())
            if not isinstance(new, bool):
                mine = secrets.token_hex(MARK // 2)
                if self._write(key, seen.mark, mine, new):
                    return True
            elif guess is None:
                return new
            guess = None

    def _read(self, key: bytes) -> _Seen:
        seconds, micros, text = self._run(self._look, key)
        if isinstance(text, bytes):
            text = text.decode()
        mark, stored = (text[:MARK], StoredRun.from_dict(json.loads(text[MARK:]))) if text else ("", None)
        return self._keep(key, _Seen(mark, stored, _ahead(seconds, micros)))

    def _write(self, key: bytes, before: str, mark: str, stored: StoredRun | None) -> bool:
        """Replace the value that has the mark ``before``. Return whether that value was still there."""
        text, seconds = "", self.retain
        if stored is not None:
            text = mark + json.dumps(stored.to_dict(), separators=(",", ":"))
            seconds += stored.wait or 0.0
        time = self._run(self._change, key, before, text, max(int(seconds * 1000), 1))
        if time is None:
            return False
        self._keep(key, _Seen(mark if stored is not None else "", stored, _ahead(*time)))
        return True

    def _run(self, script: Any, key: bytes, *args: str | int) -> Any:
        again = True
        while True:
            try:
                return script([key], args, client=self._client)
            except RedisError as error:
                # A server that has become a replica has changed nothing, and another one may have taken over already.
                if leave_replica(self._client, error) and again:
                    again = False
                    continue
                raise RunnerUnavailable("the task store in Redis", describe(error)) from error

    def _keep(self, key: bytes, seen: _Seen) -> _Seen:
        self._seen.pop(key, None)
        self._seen[key] = seen
        if len(self._seen) > KEPT:
            # Another thread may have removed the entry.
            with suppress(StopIteration, RuntimeError):
                self._seen.pop(next(iter(self._seen)), None)
        return seen

    def _key(self, owner: str, name: str) -> bytes:
        # With the length of the owner, so that no two pairs have the same key.
        return f"{self.prefix}:{len(owner)}:{owner}:{name}".encode("utf-8", "surrogatepass")


class _Seen(NamedTuple):
    """The stored value of a task when it was last read or changed."""

    mark: str
    stored: StoredRun | None
    ahead: float
    """Seconds by which the server's clock is ahead of the monotonic clock of this process."""

    def now(self) -> float:
        """Return the time by the server's clock."""
        return monotonic() + self.ahead


def _ahead(seconds: str, micros: str) -> float:
    return int(seconds) + int(micros) / 1e6 - monotonic()


def leave_replica(client: redis.Redis, error: BaseException) -> bool:
    """Close a client's connections if the error says that its server has become a replica.

    Such a server keeps its connections and refuses every write. A new connection to the same address leads to the
    server that has taken over. Connections that other threads use stay open: those threads get the same error.

    Returns:
        Whether the server has become a replica.
    """
    if not is_demoted(error):
        return False
    pool: Any = client.connection_pool
    own: Any = client.connection  # with ``single_connection_client``
    if own is not None:
        own.disconnect()
    try:
        pool.disconnect(inuse_connections=False)
    except TypeError:  # an older redis-py, and its ``BlockingConnectionPool``
        pool.disconnect()
    return True


def is_demoted(error: BaseException) -> bool:
    """Return whether an error is the answer of a server that has become a replica."""
    # If a script is refused, Redis before 7 has the word within a longer text. redis-py 5.0 has no MasterDownError.
    said = isinstance(error, redis.ResponseError) and ("READONLY" in str(error) or "MASTERDOWN" in str(error))
    return said or isinstance(error, (ReadOnlyError, MasterDownError))
