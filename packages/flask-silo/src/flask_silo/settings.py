"""What can be set, where it comes from, and what it is otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

MADE_LENGTH = 32
"""Characters of an id that `silo_store.new_sid` makes."""


@dataclass(frozen=True)
class Settings:
    """The settings of one application. Each can be given to `Silo`, or as ``SILO_<NAME>`` in the application's config.

    What is given to `Silo` wins over the config.
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
    turn_timeout: float = 30.0
    """Seconds that a writing request waits for the one before it."""
    max_waiters: int | None = None
    """How many requests of one process may wait for another request that writes their session, or in
    `SessionTask.result`, so that threads are left for other clients; None to choose it by the server's threads."""
    slack: float | None = None
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
        """Merge the settings given to `Silo` (None where it was not) with an application's config.

        ``store_url`` comes from the environment variable ``SILO_STORE_URL`` where neither says anything: where sessions
        are is a matter of the place, and may hold a password.

        Raises:
            ValueError: a number is none or out of its range, a name is empty, or a prefix has no slash.
        """
        values = {}
        for each in fields(cls):
            value = given.get(each.name)
            if value is None:
                value = config.get(f"SILO_{each.name.upper()}")
            if value is not None:
                values[each.name] = value
        if "store_url" not in values and os.environ.get("SILO_STORE_URL"):
            values["store_url"] = os.environ["SILO_STORE_URL"]
        for name in ("api_prefix", "data_endpoints"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        if isinstance(values.get("data_endpoints"), str):
            values["data_endpoints"] = (values["data_endpoints"],)
        settings = cls(**values)
        for name in ("ttl", "cleanup_interval", "expired_retain", "turn_timeout", "min_sid_length"):
            number = getattr(settings, name)
            if not _is_number(number) or not number > 0:
                raise ValueError(f"{name} must be a positive number")
        slack = settings.slack
        if slack is not None and not (_is_number(slack) and 0 <= slack < settings.ttl):
            raise ValueError("slack must be a number, not negative and less than ttl")
        for name in ("max_state_bytes", "max_sessions"):
            limit = getattr(settings, name)
            if limit is not None and not (_is_number(limit) and isinstance(limit, int) and limit > 0):
                raise ValueError(f"{name} must be a positive whole number")
        for name in ("max_streams", "max_waiters"):
            most = getattr(settings, name)
            if most is not None and not (_is_number(most) and isinstance(most, int) and most >= 0):
                raise ValueError(f"{name} must be a whole number, not negative")
        if settings.min_sid_length > MADE_LENGTH:
            raise ValueError(f"min_sid_length must be at most {MADE_LENGTH}, the length of the ids that are made")
        for name in ("header", "query_param"):
            if not getattr(settings, name):
                raise ValueError(f"{name} must not be empty")
        prefixes = (settings.api_prefix,) if isinstance(settings.api_prefix, str) else settings.api_prefix
        if not all(prefix.startswith("/") for prefix in prefixes):
            raise ValueError("api_prefix must begin with a slash")
        return settings


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
