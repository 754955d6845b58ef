"""Send commands to the server: one round trip each, and one kind of error."""

from __future__ import annotations

import hashlib
import select
from _socket import socket
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from time import monotonic
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, NoScriptError, ReadOnlyError, RedisError
from redis.retry import Retry

from ...errors import StoreUnavailable
from ...fork import reset_after_fork
from .location import connection_of, place_of

IDLE = 60.0
"""Seconds after which an unused connection is closed. Each connection that is given back closes at most one."""
REFUSAL = "SILO"
"""Begins the answer of a script that does not do what it was asked to do. The reason follows."""
_new_poll = getattr(select, "poll", None)  # not on Windows
_LENGTHS = [b"\r\n$%d\r\n" % length for length in range(256)]
"""The prefix of an argument, by its number of bytes. Formatting it for each one makes encoding 1.4 times as slow."""


class Script:
    """A Lua script and the name under which the server remembers it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest: str = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Demoted(StoreUnavailable):
    """The server has become a replica, and has not executed the command.

    A new connection may lead to the server that has replaced it, so the command is sent there once more.
    """


class Connections:
    """A pool of redis-py's connections. The connection that was given back last is used first.

    ``redis.Redis`` is not used. With its pool and metrics (redis-py 8.1) a read on the same host takes 2.0 times and a
    request 1.4 times the CPU time.

    Args:
        url: A URL of redis-py.
        timeout: Seconds to wait for one answer.

    Attributes:
        place: Names the server's database, without passwords.

    Raises:
        ValueError: The URL cannot be read, or an option is unknown or has an invalid value.
    """

    def __init__(self, url: str, timeout: float) -> None:
        own: dict[str, Any] = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "encoding": "utf-8",
            "decode_responses": False,
        }
        self._make: Any
        self._make, self._settings = connection_of(url, own)
        self.place: str = place_of(self._settings)
        self.timeout = timeout
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin without connections: the parent still uses its own."""
        self._idle: deque[tuple[float, Any]] = deque()  # each with the time since which it is idle

    def command(self, *words: Any) -> Any:
        """Send one command and return the answer.

        Raises:
            StoreUnavailable: The server did not answer in time, or answered with an error.
        """
        return self.several(words)[0]

    def run(self, script: Script, keys: tuple[str, ...], *arguments: Any) -> Any:
        """Run a script on the server and return what it returns.

        Raises:
            StoreUnavailable: The server did not answer in time, or answered with an error.
        """
        return self.run_and((), script, keys, *arguments)[0]

    def run_and(
        self, commands: tuple[tuple[Any, ...], ...], script: Script, keys: tuple[str, ...], *arguments: Any
    ) -> list[Any]:
        """Run a script and then commands, in one round trip, and return all answers like ``several``."""
        rest = (len(keys), *keys, *arguments)
        try:
            return self.several((b"EVALSHA", script.digest, *rest), *commands)
        except NoScriptError:  # the server was restarted or flushed: EVAL stores the script again
            return self.several((b"EVAL", script.text, *rest), *commands)

    def several(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands in one round trip and return the answers, in their order.

        Commands of other clients may be executed between them. If the first answer is an error, it is raised. An error
        in another answer is in the list.

        Raises:
            StoreUnavailable: The server did not answer in time, or answered to the first command with an error.
        """
        try:
            return self._ask(commands)
        except Demoted:
            return self._ask(commands)

    def _ask(self, commands: Collection[tuple[Any, ...]]) -> list[Any]:
        connection = None
        try:
            connection = self._take()
            answers = self._exchange(connection, commands)
        except (RedisError, OSError, ValueError) as error:  # ValueError: the answer is not in Redis's protocol
            if connection is not None:
                connection.disconnect()
            failure = self._failure(error)
            if isinstance(error, redis.ResponseError):
                raise failure from None  # the server's text may contain a session's id
            raise failure from error
        except BaseException:  # a signal or a greenlet's timeout: the answer may still arrive
            if connection is not None:
                connection.disconnect()
            raise
        first = answers[0]
        if not isinstance(first, redis.ResponseError):
            self._give(connection)
            return answers
        if _is_demoted(first):
            connection.disconnect()
        else:
            self._give(connection)
        if isinstance(first, NoScriptError):
            raise first
        raise self._failure(first) from None

    def _exchange(self, connection: Any, commands: Collection[tuple[Any, ...]]) -> list[Any]:
        connection.send_packed_command([b"".join(map(_packed, commands))])
        answers: list[Any] = []
        for _ in commands:
            try:
                answers.append(connection.read_response(disable_decoding=True))
            except redis.ResponseError as error:
                answers.append(error)
        return answers

    def _failure(self, error: Exception) -> StoreUnavailable:
        """Return what callers get instead of an error of redis-py. After a demotion, close the idle connections."""
        said = _said(error)
        if said.startswith(REFUSAL):
            return StoreUnavailable(said[len(REFUSAL) + 1 :])
        text = f"sessions in Redis cannot be reached: {said}"
        if not _is_demoted(error):
            return StoreUnavailable(text)
        self.close()
        return Demoted(text)

    def _give(self, connection: Any) -> None:
        """Keep a connection for the next command, and close one that has been idle for too long."""
        now = monotonic()
        self._idle.append((now, connection))
        with suppress(IndexError):  # another thread may take it first
            if now - self._idle[0][0] > IDLE:
                since, oldest = self._idle.popleft()
                if now - since > IDLE:
                    oldest.disconnect()
                else:
                    self._idle.appendleft((since, oldest))

    def _take(self) -> Any:
        while True:
            try:
                _, connection = self._idle.pop()
            except IndexError:
                break
            try:
                if _is_quiet(connection):
                    return connection
            except (RedisError, OSError):  # the server has closed it in the meantime
                pass
            connection.disconnect()
        connection = self._make(**self._settings)
        connection.connect()
        return connection

    def close(self) -> None:
        """Close all idle connections."""
        with suppress(IndexError):
            while True:
                self._idle.pop()[1].disconnect()


def _is_quiet(connection: Any) -> bool:
    """Return whether an idle connection is open, with nothing to read.

    A plain socket is polled, which takes a fraction of the time of redis-py's own check: that reads from the socket.
    With TLS, and where another library has replaced sockets, redis-py checks.
    """
    sock = connection._sock
    if _new_poll is None or type(sock).recv is not socket.recv:
        return not connection.can_read(0)
    poll = _new_poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)


def _packed(words: Collection[Any]) -> bytes:
    """Encode a command for the server. redis-py's own encoding takes 3 times as long."""
    parts = [b"*%d" % len(words)]
    for word in words:
        text = word if type(word) is bytes else word.encode() if type(word) is str else str(word).encode()
        length = len(text)
        parts += (_LENGTHS[length] if length < 256 else b"\r\n$%d\r\n" % length, text)
    parts.append(b"\r\n")
    return b"".join(parts)


def _is_demoted(error: Exception) -> bool:
    """Return whether the error says that the server has become a replica.

    When it refuses a script, Redis 6.2 has READONLY inside a longer text. A client that waits gets UNBLOCKED.
    redis-py 5.0 has no class for MASTERDOWN.
    """
    if isinstance(error, (ReadOnlyError, MasterDownError)):
        return True
    text = str(error)
    return isinstance(error, redis.ResponseError) and (
        "READONLY" in text or text.startswith(("MASTERDOWN", "UNBLOCKED"))
    )


def _said(error: Exception) -> str:
    text = str(error).split("\n", 1)[0].split(", with args", 1)[0]  # keys follow
    if "unauthenticated" in text:  # Redis calls a long command before the password a breach of protocol
        return "Authentication required."
    return text[:200] or type(error).__name__
