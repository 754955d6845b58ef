"""Makes a client of redis-py from a URL, and checks URLs and clients.

The errors of redis-py repeat a URL that it cannot parse. It refuses some invalid values only when it connects, and
ignores others.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import redis
from redis.exceptions import RedisError

_USER = r"(?:[^\0- \x7f/?#\[\]]*@)"
_PLACE = r"(?:\[[0-9A-Fa-f:.%]+\]|[^\0- \x7f/?#@\[\]:]*)(?::[0-9]{0,5})?(?:/[0-9]*/?)?"
_URL = re.compile(rf"(?:rediss?://{_USER}?{_PLACE}|unix://(?:{_USER}/[^?#@]+|/[^?#]+))(?:\?([^#@]*))?")

_NUMBER, _FLAG, _SECONDS = "[0-9]{1,9}", "(?i:1|t|true|y|yes|0|f|false|n|no)", r"[0-9]{1,9}(\.[0-9]*)?"
_OPTIONS = {
    "ssl_cert_reqs": ("none|optional|required", "none, optional or required"),
    "ssl_check_hostname": (_FLAG, "true or false"),
    "ssl_min_version": ("77[12]", "771 (TLS 1.2) or 772 (TLS 1.3)"),
    "socket_keepalive": (_FLAG, "true or false"),
    "socket_timeout": (_SECONDS, "a number of seconds"),
    "socket_connect_timeout": (_SECONDS, "a number of seconds"),
    "db": (_NUMBER, "a whole number"),
    "max_connections": (_NUMBER, "a whole number"),
    "health_check_interval": (_NUMBER, "a whole number of seconds"),
}
_UNREADABLE = (
    "the URL of the task store in Redis cannot be read. Its scheme is redis, rediss for TLS, or unix, as in "
    "redis://user:password@host:6379/0. In user name and password, every character but letters, digits and - . _ ~ is "
    "written percent-encoded: / as %2F, ? as %3F, # as %23, @ as %40"
)


def without_options(url: str) -> str:
    """Return a URL without its options, which follow the "?".

    Raises:
        ValueError: The URL cannot be parsed. The message does not repeat it, because it may hold a password.
    """
    url = url.strip()
    if _URL.fullmatch(url) is None:
        raise ValueError(_UNREADABLE)
    return url.partition("?")[0]


def client_of(url: str, **own: Any) -> redis.Redis:
    """Make a client from a URL. Opens no connection.

    Args:
        url: The URL.
        own: Settings of the client. Options in the URL take precedence.

    Raises:
        ValueError: The URL cannot be parsed, or one of its options is unknown or has an invalid value. The message
            repeats no value.
    """
    without_options(url)
    for name, value in parse_qsl(url.strip().partition("?")[2], keep_blank_values=True):
        pattern, words = _OPTIONS.get(name, ("(?s:.*)", ""))
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"{name} in the URL of the task store in Redis must be {words}")
    try:
        return redis.Redis.from_url(url.strip(), **own)
    except ValueError:
        raise ValueError(_UNREADABLE) from None


def check(client: Any) -> None:
    """Check that a client can make connections, without connecting.

    Raises:
        ValueError: The client would refuse one of its own options at its first command.
    """
    pool = getattr(client, "connection_pool", None)
    if pool is None:  # a client of a cluster
        return
    word = pool.connection_kwargs.get("ssl_cert_reqs")
    pattern, words = _OPTIONS["ssl_cert_reqs"]
    if isinstance(word, str) and re.fullmatch(pattern, word) is None:
        raise ValueError(f"ssl_cert_reqs of the client of Redis must be {words}")
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        names = [name for name in pool.connection_kwargs if repr(name) in str(error)]
        said = f"does not know its option {names[0]!r}" if names else "refuses one of its options"
        raise ValueError(f"the client of Redis cannot make a connection: redis-py {said}") from None
    except (ValueError, RedisError):
        raise ValueError("the client of Redis cannot make a connection: redis-py refuses one of its options") from None
