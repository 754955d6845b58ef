"""What can be set, where it comes from, and what it is otherwise."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

MADE_LENGTH = 32
"""Characters of an id that `silo_store.new_sid` makes."""


@dataclass(frozen=True)
class Settings:
    """The settings of one application.

    Each can be given to `Silo`, or as ``SILO_<NAME>`` in the application's config or in the environment. What is given
    to `Silo` wins over the config, and the config over the environment.
    """

    ttl: float = 3600
    """Seconds that a session lives after its last request."""
    cleanup_interval: float = 60
    """Seconds between two sweeps."""
    expired_retain: float = 7200
    """Seconds for which an expired id is answered with 410 where data is needed."""
    header: str = "X-Session-ID"
    """The header that carries the id, both ways."""
    query_param: str = "_sid"
    """The query parameter that carries it where a header cannot be set, as in a download link."""
    min_sid_length: int = 16
    """Shorter ids are not taken from clients."""
    accept_client_ids: bool = False
    """Whether clients may choose their ids: then any id of valid form gets a session, and every response carries an id.
    By default an id that the application has not issued gets no session."""
    data_endpoints: Iterable[str] = field(default=())
    """What needs a session's data, see `Silo.add_data_endpoints`."""
    auto_cleanup: bool = True
    """Whether a thread sweeps, from the first request on."""
    api_prefix: str | tuple[str, ...] = "/api/"
    """Requests below this path have a session."""
    store_url: str = field(default="memory://", repr=False)
    """Where sessions are kept, see `silo_store.open_backend`. There may be a password in it."""
    lock_timeout: float = 30.0
    """Seconds that a writing request waits for the one before it."""
    max_waiters: int | None = None
    """How many requests of one process may wait for another request that writes their session, or in
    `SessionTask.result`, so that threads are left for other clients; None to choose it by the server's threads."""
    touch_interval: float | None = None
    """Seconds after a noted use for which another is not noted, see `SessionStore`; None to choose it by ``ttl``."""
    max_state_bytes: int | None = None
    """What the state of one session may take where the store keeps bytes; no limit by default."""
    max_sessions: int | None = None
    """How many sessions there may be where they are kept, see `SessionStore`; no limit by default."""
    task_endpoints: bool = True
    """Whether ``tasks/<name>`` and ``tasks/events`` are served below each prefix, once there is a `Silo.task`."""
    max_streams: int | None = None
    """How many event streams stay open in one process; None to choose it by the server's threads. Those that are more
    than that, or more than the server has threads for, say what is new and end."""

    @classmethod
    def collect(cls, given: Mapping[str, Any], config: Mapping[str, Any]) -> Settings:
        """Merge the settings given to `Silo` (None where it was not), an application's config and the environment.

        The first of them that says something wins. An empty variable of the environment says nothing.

        Raises:
            ValueError: a setting has the wrong type or is out of its range, a name is empty, or a prefix has no slash.
                The message says where the setting comes from.
        """
        environment = from_environment(os.environ)
        values: dict[str, Any] = {}
        said: dict[str, str] = {}
        for name in NAMES:
            key = PREFIX + name.upper()
            for value, place in (
                (given.get(name), name),
                (config.get(key), f"{key} in the application's config"),
                (environment.get(name), f"{key} in the environment"),
            ):
                if value is not None:
                    values[name], said[name] = _several(name, value), place
                    break
        settings = cls(**values)
        settings._check(said)
        return settings

    def _check(self, said: Mapping[str, str]) -> None:
        """Refuse what no setting can be. ``said`` has the name that each setting has in a message."""

        def need(name: str, right: bool, what: str) -> None:
            if not right:
                raise ValueError(f"{said.get(name, name)} must {what}")

        for name in ("ttl", "cleanup_interval", "expired_retain", "lock_timeout", "min_sid_length"):
            number = getattr(self, name)
            need(name, _is_number(number) and number > 0, "be a positive number")
        touch_interval = self.touch_interval
        right = touch_interval is None or (_is_number(touch_interval) and 0 <= touch_interval < self.ttl)
        need("touch_interval", right, "be a number, not negative and less than ttl")
        for name in ("max_state_bytes", "max_sessions"):
            limit = getattr(self, name)
            need(name, limit is None or (_is_whole(limit) and limit > 0), "be a positive whole number")
        for name in ("max_streams", "max_waiters"):
            most = getattr(self, name)
            need(name, most is None or (_is_whole(most) and most >= 0), "be a whole number, not negative")
        longest = f"be at most {MADE_LENGTH}, the length of the ids that are made"
        need("min_sid_length", self.min_sid_length <= MADE_LENGTH, longest)
        for name in ("accept_client_ids", "auto_cleanup", "task_endpoints"):
            need(name, getattr(self, name) in (False, True), "be True or False")
        for name in ("header", "query_param", "store_url"):
            text = getattr(self, name)
            need(name, isinstance(text, str) and text != "", "be text, and not empty")
        for name, texts in (("api_prefix", self.prefixes), ("data_endpoints", self.data_endpoints)):
            need(
                name,
                isinstance(texts, tuple) and all(isinstance(each, str) for each in texts),
                "be text, or a list of texts",
            )
        need("api_prefix", all(prefix.startswith("/") for prefix in self.prefixes), "begin with a slash")

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Each `api_prefix`."""
        return self.api_prefix if isinstance(self.api_prefix, tuple) else (self.api_prefix,)


NAMES = tuple(each.name for each in fields(Settings))
"""The names of all settings."""
PREFIX = "SILO_"
"""What the names begin with in an application's config and in the environment."""
TEXTS = frozenset({"header", "query_param", "store_url"})
"""Settings that are taken from the environment as they stand, also where they look like JSON."""


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Read settings from variables such as ``SILO_TTL=600``: JSON where it is that, otherwise text."""
    found: dict[str, Any] = {}
    for name in NAMES:
        text = environ.get(PREFIX + name.upper(), "")
        if text:
            found[name] = _several(name, text if name in TEXTS else _read(text))
    return found


def _read(text: str) -> Any:
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except ValueError:
        return text


def _several(name: str, value: Any) -> Any:
    """Return a setting that may have several values as a tuple, where it has."""
    if name == "data_endpoints" and isinstance(value, str):
        return (value,)
    return tuple(value) if name in ("api_prefix", "data_endpoints") and isinstance(value, (list, set)) else value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
