"""A client of event streams, like a browser's EventSource, that also shows the raw blocks."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator
from typing import Any

from flask_silo_helpers import HEADER

WAIT = 30.0


class Blocks:
    """The blocks of a stream, one by one.

    Attributes:
        retry: Milliseconds after which the client should reconnect.
        last: The id of the last event.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self.retry = 0
        self.last = ""

    def __iter__(self) -> Iterator[dict[str, str]]:
        block: dict[str, str] = {}
        for line in self._lines:
            if line == b"\n":
                self.retry = int(block.get("retry", self.retry))
                self.last = block.get("id", self.last)
                yield block
                block = {}
            else:
                assert line.endswith(b"\n")
                name, _, value = line.decode().rstrip("\n").partition(":")
                assert name not in block
                block[name] = value.removeprefix(" ")
        assert not block, "the stream ended within a block"

    def states(self) -> Iterator[dict[str, Any]]:
        """Yield the states of tasks from the events, until the stream ends."""
        for block in self:
            if "data" in block:
                assert block["event"] == "task"
                yield json.loads(block["data"])

    def until(self, **wanted: Any) -> dict[str, Any]:
        """Read events until a state has these values, and return the state."""
        for state in self.states():
            if all(state[name] == value for name, value in wanted.items()):
                return state
        raise AssertionError(f"the stream ended without {wanted}")

    def rest(self) -> list[dict[str, Any]]:
        """Return the states from the events until the stream ends."""
        return list(self.states())


class Stream(Blocks):
    """A connection to the stream of a server on this machine; its first block has come once the object is there."""

    def __init__(self, port: int, sid: str, last: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
        self._connection.request(
            "GET", f"/api/tasks/events?_sid={sid}", headers={"Last-Event-ID": last} if last else {}
        )
        self.answer = self._connection.getresponse()
        super().__init__(iter(self.answer.readline, b""))
        if self.answer.status == 200:
            next(iter(self))

    @property
    def stays(self) -> bool:
        """Return whether the stream stays open for further events."""
        assert self.retry in (1000, 2000)
        return self.retry == 1000

    def close(self) -> None:
        """Close the connection."""
        self.answer.close()
        self._connection.close()


def ask(port: int, method: str, path: str, sid: str) -> Any:
    """Send an ordinary request, and return what the answer says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        connection.request(method, path, headers={HEADER: sid})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return json.loads(answer.read())
    finally:
        connection.close()
