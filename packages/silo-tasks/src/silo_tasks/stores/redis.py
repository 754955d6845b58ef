"""A task store in Redis, for processes on any number of machines."""

from __future__ import annotations

import inspect
import json
import math
import secrets
from contextlib import suppress
from time import monotonic
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, ReadOnlyError, RedisError
from redis.retry import Retry

from ..checks import check_number
from ..errors import RunnerUnavailable
from ..text import describe
from .address import check, client_of
from .base import RunChange, TaskStore
from .stored_run import LEASE, StoredRun, TaskRecord

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

# A stored value is a mark, the claim and the run as JSON. The mark is random: each change writes a new one. The claim
# is a letter and a time in microseconds: "w" and until when the run may be claimed, "c" and when it was claimed, or "-"
# and zeros. So a worker can claim a run that it has not read.
MARK = 16
"""Length of the mark."""

HEAD = MARK + 17
"""Length of the mark and the claim."""

KEPT = 64
"""Number of tasks whose last seen value is remembered, as text: a caller may change the record made of it."""


_LOOK = """
local time = redis.call('TIME')
return {time[1], time[2], redis.call('GET', KEYS[1])}
"""

# Writes ARGV[3], if the value has ARGV[2] at ARGV[1], or if there is no value and ARGV[2] is empty. A client that got
# no answer may send the script again, and finds its own mark.
_CHANGE = f"""
if redis.call('GETRANGE', KEYS[1], ARGV[1], ARGV[1] + math.max(#ARGV[2], 1) - 1) ~= ARGV[2] then
    local mark = string.sub(ARGV[3], 1, {MARK})
    if mark == '' or redis.call('GETRANGE', KEYS[1], 0, {MARK - 1}) ~= mark then
        return false
    end
elseif ARGV[3] == '' then
    redis.call('DEL', KEYS[1])
else
    redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
return redis.call('TIME')
"""

# Writes the mark ARGV[1], and that the run is claimed, if it may be and its JSON begins with ARGV[2].
_CLAIM = f"""
local text = redis.call('GET', KEYS[1]) or ''
local time = redis.call('TIME')
if string.sub(text, 1, {MARK}) ~= ARGV[1] then
    local now = string.format('%s%06d', time[1], time[2])
    local last = string.sub(text, {MARK + 2}, {HEAD})
    if string.sub(text, {MARK + 1}, {MARK + 1}) ~= 'w' or last < now
        or string.sub(text, {HEAD + 1}, {HEAD} + #ARGV[2]) ~= ARGV[2] then
        return false
    end
    redis.call('SETRANGE', KEYS[1], 0, ARGV[1] .. 'c' .. now)
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    text = ARGV[1] .. 'c' .. now .. string.sub(text, {HEAD + 1})
end
return {{time[1], time[2], text}}
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
        ValueError: ``retain`` or ``lease`` is not positive, ``retain`` is infinite, or redis-py cannot use the URL or
            an option of the client. The message does not repeat the URL, which may hold a password.
        TypeError: ``client`` is neither a synchronous client of redis-py nor a URL, or ``retain`` or ``lease`` is not a
            number.
    """

    def __init__(
        self,
        client: redis.Redis | str,
        *,
        prefix: str = "silo-tasks",
        retain: float = RETAIN,
        lease: float = LEASE,
    ) -> None:
        check_number("retain", retain, " of seconds")
        check_number("lease", lease, " of seconds")
        if not 0 < retain < math.inf:
            raise ValueError("retain must be positive, and not infinite")
        if not lease > 0:
            raise ValueError("lease must be positive")
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
        self._seen: dict[bytes, str] = {}
        self._ahead: float | None = None
        self._client: Any = client
        self._look = client.register_script(_LOOK)
        self._change = client.register_script(_CHANGE)
        self._claim = client.register_script(_CLAIM)

    def _check(self, client: redis.Redis) -> None:
        check(client)

    def look(self, owner: str, name: str) -> tuple[StoredRun | None, float]:
        """Return the stored run of a task, or None, and the time by the server's clock.

        Raises:
            RunnerUnavailable: The server did not answer in time, or answered with an error.
        """
        text = self._read(self._key(owner, name))
        return _unpacked(text), self._now()

    def change(self, owner: str, name: str, change: RunChange) -> bool:
        """Replace the stored run of a task by what ``change`` returns.

        Raises:
            RunnerUnavailable: The server did not answer in time, or answered with an error.
        """
        key = self._key(owner, name)
        # Usually the value seen last is still there. If it is not, the write changes nothing, and the value is read.
        guess = self._seen.get(key)
        while True:
            seen = self._read(key) if guess is None else guess
            new = change(_unpacked(seen), self._now())
            if not isinstance(new, bool):
                if self._write(key, new, seen[:MARK]):
                    return True
            elif guess is None:
                return new
            guess = None

    def begin(
        self, owner: str, name: str, token: str, record: TaskRecord, *, expect: str | None, wait: float | None = None
    ) -> bool:
        """Make a run the newest one, if the newest one still is ``expect``. Takes one round trip."""
        if self._ahead is None:
            # The server's time is not known yet.
            return super().begin(owner, name, token, record, expect=expect, wait=wait)
        stored = StoredRun(token, record, self._now(), wait)
        before, at = ("", 0) if expect is None else (_beginning(expect), HEAD)
        return self._write(self._key(owner, name), stored, before, at)

    def claim(self, owner: str, name: str, token: str) -> bool:
        """Take a run that waits for a worker, if it is the newest run and was not asked to stop. Takes one round trip.

        Returns:
            Whether the caller should execute the run. True only once.
        """
        key, mark = self._key(owner, name), secrets.token_hex(MARK // 2)
        found = self._run(self._claim, key, mark, _beginning(token), self._millis())
        if found is not None:
            self._take(key, *found)
        return found is not None

    def _read(self, key: bytes) -> str:
        return self._take(key, *self._run(self._look, key))

    def _take(self, key: bytes, seconds: str, micros: str, text: str | bytes | None) -> str:
        """Remember the server's time and the value that the server has returned."""
        self._note_time(seconds, micros)
        if isinstance(text, bytes):
            text = text.decode()
        return self._keep(key, text or "")

    def _write(self, key: bytes, stored: StoredRun | None, before: str, at: int = 0) -> bool:
        """Replace the value that has ``before`` at the position ``at``. Return whether that value was still there."""
        text, wait = "", 0.0
        if stored is not None:
            text, wait = secrets.token_hex(MARK // 2) + _packed(stored), stored.wait or 0.0
        time = self._run(self._change, key, at, before, text, self._millis(wait))
        if time is None:
            return False
        self._note_time(*time)
        self._keep(key, text)
        return True

    def _millis(self, wait: float = 0.0) -> int:
        """Return for how many milliseconds the server keeps a record."""
        return max(int((self.retain + wait) * 1000), 1)

    def _note_time(self, seconds: str, micros: str) -> None:
        self._ahead = int(seconds) + int(micros) / 1e6 - monotonic()

    def _now(self) -> float:
        """Return the time by the server's clock, which is ``_ahead`` of the monotonic clock of this process."""
        return monotonic() + (self._ahead or 0.0)

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

    def _keep(self, key: bytes, seen: str) -> str:
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


def _packed(stored: StoredRun) -> str:
    """Return the claim and the JSON of a stored value."""
    claim = "-" + "0" * 16
    if stored.wait is not None and stored.running and not stored.cancel:
        claim = f"w{min(int((stored.seen + stored.wait) * 1e6), 10**16 - 1):016}"
    return claim + json.dumps(stored.to_dict(), separators=(",", ":"))


def _unpacked(text: str) -> StoredRun | None:
    """Return the run of a stored value, each time a new one, which the caller may change. None if the text is empty."""
    if not text:
        return None
    stored = StoredRun.from_dict(json.loads(text[HEAD:]))
    return stored.claimed(int(text[MARK + 1 : HEAD]) / 1e6) if text[MARK] == "c" else stored


def _beginning(token: str) -> str:
    """Return how the JSON of a run begins."""
    return f'{{"token":{json.dumps(token)},'


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
