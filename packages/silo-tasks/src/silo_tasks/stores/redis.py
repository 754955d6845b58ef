"""A task store in Redis, for processes on any number of machines."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from silo_tasks.errors import RunnerUnavailable
from silo_tasks.slot import LEASE, Change, Slot, SlotStore

RETAIN = 86_400.0
"""Seconds for which a record is kept after the last news of its run."""

TIMEOUT = 5.0
"""Seconds that the server may take for one answer, where the store has a connection of its own."""

# What is stored begins with a mark that is new with each change.
MARK = 16

_LOOK = """
local time = redis.call('TIME')
return {time[1], time[2], redis.call('GET', KEYS[1])}
"""

_CHANGE = f"""
if redis.call('GETRANGE', KEYS[1], 0, {MARK - 1}) ~= ARGV[1] then
    return 0
end
if ARGV[2] == '' then
    redis.call('DEL', KEYS[1])
else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
"""


class RedisTaskStore(SlotStore):
    """Keeps each task's record in one key, and reads it with the server's clock. See `TaskStore` for the rules.

    Redis 5 or newer, or Valkey. Constructing it connects to nothing.

    Args:
        client: A client of redis-py, or the URL for one, such as "redis://localhost:6379/0". One that is made of a URL
            waits up to `TIMEOUT` seconds for an answer.
        prefix: What the keys begin with.
        retain: Seconds after the last news of a run, or after the longest that it may wait for a worker, for which its
            record is kept.
        lease: Seconds after which a run that nothing was heard of reads as lost.

    Raises:
        ValueError: `retain` is not positive, or the URL is none.
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
            client = redis.Redis.from_url(
                client, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 1)
            )
        self.prefix = prefix
        self.retain = retain
        self.lease = lease
        self._look: Any = client.register_script(_LOOK)
        self._change: Any = client.register_script(_CHANGE)

    def look(self, owner: str, name: str) -> tuple[Slot | None, float]:
        """Return what is stored of a task, and the time by the server's clock.

        Raises:
            RunnerUnavailable: There was no answer in time, or it was an error.
        """
        with _reached():
            _, slot, now = self._stored(self._key(owner, name))
        return slot, now

    def change(self, owner: str, name: str, change: Change) -> bool:
        """Store what `change` makes of what is stored.

        Raises:
            RunnerUnavailable: There was no answer in time, or it was an error.
        """
        key, mine = self._key(owner, name), None
        while True:
            with _reached():
                mark, slot, now = self._stored(key)
            if mark and mark == mine:
                # It was stored, and only the answer got lost on its way.
                return True
            new = change(slot, now)
            if isinstance(new, bool):
                return new
            mine, text, seconds = secrets.token_hex(MARK // 2), "", self.retain
            if new is not None:
                text = mine + json.dumps(new.to_dict(), separators=(",", ":"))
                seconds += new.wait or 0.0
            with _reached():
                if self._change(keys=[key], args=[mark, text, max(int(seconds * 1000), 1)]):
                    return True

    def _stored(self, key: bytes) -> tuple[str, Slot | None, float]:
        """The mark, the slot and the time."""
        seconds, micros, text = self._look(keys=[key])
        now = int(seconds) + int(micros) / 1e6
        if text is None:
            return "", None, now
        if isinstance(text, bytes):
            text = text.decode()
        return text[:MARK], Slot(**json.loads(text[MARK:])), now

    def _key(self, owner: str, name: str) -> bytes:
        # With its length, so that no two pairs have the same key.
        return f"{self.prefix}:{len(owner)}:{owner}:{name}".encode("utf-8", "surrogatepass")


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise RunnerUnavailable(f"the task store in Redis cannot be reached: {type(error).__name__}") from error
