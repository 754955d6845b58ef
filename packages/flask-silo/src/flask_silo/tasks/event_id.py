"""The id of an event, which says what a client knows of its tasks."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

PREFIX = "1."
"""The beginning of each id: the version of its form."""

NAME_LENGTH, STATE_LENGTH = 4, 8
"""The number of characters that the digest of a task's name, and that of its state, take in an id."""

VALID_ID = re.compile(rf"{re.escape(PREFIX)}([A-Za-z0-9_-]{{{NAME_LENGTH + STATE_LENGTH}}})*")


class EventId:
    """The id of an event, which holds a digest of every task as the client knows it.

    The client sends it back when it reconnects, so that any process can continue its stream.

    Args:
        text: The id that the client has sent. An invalid id counts as empty.
        names: The names of all tasks. Digests of other tasks are left out.
    """

    def __init__(self, text: str = "", names: Iterable[str] = ()) -> None:
        digests, size = text[len(PREFIX) :] if VALID_ID.fullmatch(text) else "", NAME_LENGTH + STATE_LENGTH
        pairs = (digests[at : at + size] for at in range(0, len(digests), size))
        sent = {pair[:NAME_LENGTH]: pair[NAME_LENGTH:] for pair in pairs}
        keys = [_digest_of_name(name) for name in names]
        self._known = {key: sent[key] for key in keys if key in sent}

    def __str__(self) -> str:
        return PREFIX + "".join(name + state for name, state in self._known.items())

    def get(self, name: str) -> str | None:
        """Return the digest of the state that the client knows of a task; None if it knows none."""
        return self._known.get(_digest_of_name(name))

    def note(self, name: str, digest: str | None) -> None:
        """Note that the client knows the state with this digest; None for a task without a state."""
        if digest is None:
            self._known.pop(_digest_of_name(name), None)
        else:
            self._known[_digest_of_name(name)] = digest


@lru_cache(maxsize=1024)
def _digest_of_name(name: str) -> str:
    return _digest(NAME_LENGTH, name)


def digest_of_state(steady: dict[str, Any]) -> str:
    """Return the digest of a state, without the fields that change all the time."""
    return _digest(STATE_LENGTH, json.dumps(steady))


def _digest(length: int, text: str) -> str:
    return urlsafe_b64encode(blake2b(text.encode("utf-8", "replace"), digest_size=length * 3 // 4).digest()).decode()
