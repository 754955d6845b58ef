"""Read and check the URL of a server before redis-py gets it.

redis-py's errors repeat parts of a URL that it cannot read, and it ignores other parts. It reports values that it does
not know only at the first command.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import redis
from redis.exceptions import RedisError

from ...address import Address, split
from ..options import options, shown

_YES = ("1", "t", "true", "y", "yes")
_NO = ("0", "f", "false", "n", "no")
_FLAG = {**dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)}
_WORDS: dict[str, tuple[Mapping[str, Any], str]] = {
    "ssl_cert_reqs": ({word: word for word in ("none", "optional", "required")}, "none, optional or required"),
    "ssl_check_hostname": (_FLAG, "true or false"),
    "ssl_validate_ocsp": (_FLAG, "true or false"),
    "ssl_validate_ocsp_stapled": (_FLAG, "true or false"),
    "ssl_min_version": ({"771": 771, "772": 772}, "771 (TLS 1.2) or 772 (TLS 1.3)"),
    "socket_keepalive": (_FLAG, "true or false"),
}
"""For each option: its valid values with their meaning, and their description in an error message."""
_NUMBERS = ("db", "socket_read_size", "health_check_interval", "max_connections")

UNREADABLE = (
    "the URL of sessions in Redis cannot be read. It is redis://user:password@host:6379/0, rediss:// for TLS, or "
    "unix:///path?db=0. In user name and password, every character but letters, digits and - . _ ~ is written "
    "percent-encoded: / as %2F, ? as %3F, # as %23, @ as %40"
)


def read(url: str) -> Address:
    """Return the parts of a server's URL.

    Raises:
        ValueError: The URL cannot be read, or a part of it may be half of a password. The message repeats no part.
    """
    address = split(url)
    unix = address.scheme == "unix"
    place = bool(address.path.strip("/")) and not address.host if unix else re.fullmatch(r"(/\d*/?)?", address.path)
    if address.scheme not in ("redis", "rediss", "unix") or not address.sound or not place or address.fragment:
        raise ValueError(UNREADABLE)
    return address


def connection_of(url: str, own: Mapping[str, Any]) -> tuple[type[Any], dict[str, Any]]:
    """Return redis-py's class of connections to a server, and its arguments. Opens no connection.

    Args:
        url: A URL of redis-py.
        own: Settings of this package, which the URL cannot change.

    Raises:
        ValueError: The URL cannot be read, or an option is unknown or has an invalid value.
    """
    address = read(url)
    given = {name: value for name, value in options(address).items() if name not in own}
    settings = {name: _setting(address.scheme, name, value) for name, value in given.items()}
    base = url.strip().partition("?")[0].partition("#")[0]
    try:
        pool = redis.ConnectionPool.from_url(base, **settings, **own)
        connection_class, made_with = pool.connection_class, {**pool.connection_kwargs}
        if "db" in settings:  # the option wins over the path
            made_with["db"] = settings["db"]
        connection_class(**made_with)
    except TypeError as error:
        names = [shown(name) for name in given if repr(name) in str(error)]
        said = f"an option that redis-py does not know: {names[0]}" if names else "an option that redis-py refuses"
        raise ValueError(f"the URL of sessions in Redis has {said}") from None
    except (ValueError, RedisError):
        raise ValueError(UNREADABLE) from None
    return connection_class, made_with


def place_of(settings: Mapping[str, Any]) -> str:
    """Return a name of the database that connections with these arguments use, without user and password.

    Each way to write the address has the same name, but not each name of a host.
    """
    db = int(settings.get("db") or 0)
    if "path" in settings:
        return f"unix:{settings['path']} {db}"
    host, port = settings.get("host") or "localhost", settings.get("port") or 6379
    return f"redis:{str(host).lower()}:{port} {db}"


def _setting(scheme: str, name: str, value: str) -> Any:
    if name.startswith("ssl_") and scheme != "rediss":
        raise ValueError(f"{shown(name)} is an option of rediss:// URLs, but the URL of sessions is {scheme}://")
    if name in _NUMBERS:
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise ValueError(f"{name} in the URL of sessions in Redis must be a whole number")
        return int(value)
    if name in _WORDS:
        meaning, words = _WORDS[name]
        if value.lower() not in meaning:
            raise ValueError(f"{name} in the URL of sessions in Redis must be {words}")
        return meaning[value.lower()]
    return value
