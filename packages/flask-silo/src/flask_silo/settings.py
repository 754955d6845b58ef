"""The settings of an application: their meanings, defaults, checks and sources."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from threading import TIMEOUT_MAX
from typing import Any, NamedTuple

PREFIX = "SILO_"
"""The beginning of a setting's name in an application's config and in the environment."""

ISSUED_LENGTH = 32
"""The number of characters of an id that ``silo_store.new_sid`` makes."""


class Rule(NamedTuple):
    """A condition that the value of a setting must meet."""

    allows: Callable[[Any], bool]
    """Returns whether a value meets the condition."""
    text: str
    """The end of the error: "ttl must ..."."""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, set)) else (value,) if isinstance(value, str) else value


POSITIVE = Rule(lambda value: _is_number(value) and value > 0, "be a positive number")
WAITED = Rule(lambda value: value <= TIMEOUT_MAX, f"be at most {TIMEOUT_MAX:.0f} seconds, as long as a thread can wait")
LIMIT = Rule(lambda value: value is None or (_is_whole(value) and value > 0), "be a positive whole number")
COUNT = Rule(lambda value: value is None or (_is_whole(value) and value >= 0), "be a whole number, not negative")
INTERVAL = Rule(
    lambda value: value is None or (_is_number(value) and value >= 0), "be a number, not negative and less than ttl"
)
ISSUABLE = Rule(
    lambda value: value <= ISSUED_LENGTH, f"be at most {ISSUED_LENGTH}, the length of the ids that are made"
)
SWITCH = Rule(lambda value: value in (False, True), "be True or False")
TEXT = Rule(lambda value: isinstance(value, str) and value != "", "be text, and not empty")
TEXTS = Rule(
    lambda value: isinstance(value := _as_tuple(value), tuple) and all(isinstance(each, str) for each in value),
    "be text, or a list of texts",
)
PATHS = Rule(lambda value: all(each.startswith("/") for each in _as_tuple(value)), "begin with a slash")


def _setting(default: Any, *rules: Rule, **options: Any) -> Any:
    return field(default=default, metadata={"rules": rules}, **options)


@dataclass(frozen=True)
class Settings:
    """The settings of one application.

    Each can be given to ``Silo``, or as ``SILO_<NAME>`` in the application's config or in the environment. ``Silo``
    wins over the config, and the config over the environment.
    """

    ttl: float = _setting(3600, POSITIVE)
    """Seconds that a session lives after its last request."""
    cleanup_interval: float = _setting(60, POSITIVE, WAITED)
    """Seconds between two sweeps."""
    expired_retain: float = _setting(7200, POSITIVE)
    """Seconds for which an expired id is answered with 410 where data is needed."""
    header: str = _setting("X-Session-ID", TEXT)
    """The header that carries the id, both ways."""
    query_param: str = _setting("_sid", TEXT)
    """The query parameter that carries the id where a header cannot be set, as in a download link."""
    min_sid_length: int = _setting(16, LIMIT, ISSUABLE)
    """Shorter ids are not taken from clients."""
    accept_client_ids: bool = _setting(False, SWITCH)
    """Whether clients may choose their ids: then any id of valid form gets a session, and every response carries an id.
    By default an id that the application has not issued gets no session."""
    data_endpoints: Iterable[str] = _setting((), TEXTS)
    """Endpoints that need a session's data, see ``Silo.add_data_endpoints``."""
    auto_cleanup: bool = _setting(True, SWITCH)
    """Whether a thread sweeps, from the first request on."""
    api_prefix: str | tuple[str, ...] = _setting("/api/", TEXTS, PATHS)
    """Requests below this path have a session."""
    store_url: str = _setting("memory://", TEXT, repr=False)
    """Where sessions are kept, see ``silo_store.open_backend``. The URL may hold a password."""
    lock_timeout: float = _setting(30.0, POSITIVE, WAITED)
    """Seconds that a writing request waits for the write lock of its session."""
    max_waiters: int | None = _setting(None, COUNT)
    """How many requests of one process may wait for the write lock of their session, or in ``SessionTask.result``, so
    that threads are left for other clients; None to choose it by the server's threads."""
    touch_interval: float | None = _setting(None, INTERVAL)
    """Seconds between two recorded uses of a session, see ``SessionStore``; None to choose it by ``ttl``."""
    max_state_bytes: int | None = _setting(None, LIMIT)
    """The largest encoded state of one session, in bytes; None for no limit. Live objects have no limit."""
    max_sessions: int | None = _setting(None, LIMIT)
    """How many sessions the store may hold, see ``SessionStore``; None for no limit."""
    task_endpoints: bool = _setting(True, SWITCH)
    """Whether ``tasks/<name>`` and ``tasks/events`` are served below each prefix, once there is a ``Silo.task``."""
    max_streams: int | None = _setting(None, COUNT)
    """How many event streams stay open in one process; None to choose it by the server's threads. Any further stream,
    and one that the server has no thread for, sends what is new and ends."""

    @classmethod
    def collect(cls, given: Mapping[str, Any], config: Mapping[str, Any]) -> Settings:
        """Return the settings from the arguments of ``Silo``, an application's config and the environment.

        The first of these sources that has a setting wins. An argument that is None, or an empty environment variable,
        counts as missing.

        Raises:
            ValueError: A setting has the wrong type or is out of its range, a name is empty, or a prefix has no slash.
                The message says where the setting comes from.
        """
        environment = from_environment(os.environ)
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for name in NAMES:
            key = PREFIX + name.upper()
            for value, source in (
                (given.get(name), name),
                (config.get(key), f"{key} in the application's config"),
                (environment.get(name), f"{key} in the environment"),
            ):
                if value is not None:
                    values[name], sources[name] = _normal(name, value), source
                    break
        settings = cls(**values)
        settings._check(sources)
        return settings

    def _check(self, sources: Mapping[str, str]) -> None:
        """Refuse a value that breaks a rule. ``sources`` says how a message names each setting."""
        for each in fields(self):
            value = getattr(self, each.name)
            for rule in each.metadata["rules"]:
                if not rule.allows(value):
                    raise ValueError(f"{sources.get(each.name, each.name)} must {rule.text}")
        if self.touch_interval is not None and self.touch_interval >= self.ttl:
            raise ValueError(f"{sources['touch_interval']} must {INTERVAL.text}")

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The paths of ``api_prefix``, as a tuple also if there is one."""
        prefixes: tuple[str, ...] = _as_tuple(self.api_prefix)
        return prefixes

    @property
    def store_options(self) -> dict[str, Any]:
        """The settings that are arguments of ``SessionStore`` too, by name."""
        return {name: getattr(self, name) for name in STORE_OPTIONS}


NAMES = tuple(each.name for each in fields(Settings))
"""The names of all settings."""

STORE_OPTIONS = (
    "ttl",
    "cleanup_interval",
    "expired_retain",
    "lock_timeout",
    "touch_interval",
    "max_state_bytes",
    "max_sessions",
)
"""The names of settings that are arguments of ``SessionStore`` too."""

PLAIN = frozenset(each.name for each in fields(Settings) if TEXT in each.metadata["rules"])
"""The names of settings whose environment variable is text, even if it looks like JSON."""


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Read settings from variables such as ``SILO_TTL=600``. A value that is not valid JSON is text."""
    found: dict[str, Any] = {}
    for name in NAMES:
        text = environ.get(PREFIX + name.upper(), "")
        if text:
            found[name] = _normal(name, text if name in PLAIN else _parse(text))
    return found


def _parse(text: str) -> Any:
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except ValueError:
        return text


def _normal(name: str, value: Any) -> Any:
    """Return the value of a setting in its normal form: lists become tuples."""
    if name == "data_endpoints" or (name == "api_prefix" and not isinstance(value, str)):
        return _as_tuple(value)
    return value
