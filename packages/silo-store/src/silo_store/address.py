"""The parts of a backend's URL. No error repeats the URL, because it may contain a password."""

from __future__ import annotations

import re
from typing import NamedTuple

_parts = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_host = re.compile(r"(\[[0-9a-f:.%]+\]|[^][:]*)(?::([0-9]{1,5})?)?", re.IGNORECASE)


class Address(NamedTuple):
    """The parts of a URL as they are written, still percent-encoded."""

    scheme: str
    """In lower case; empty if the URL has no scheme."""
    user: str | None
    """User name and password; None if the authority has no ``@``."""
    host: str
    """An IPv6 address with its brackets."""
    port: int | None
    path: str
    query: str
    fragment: str | None
    sound: bool
    """Whether host and port are valid and no ``@`` follows them. False if a password has ``/``, ``?`` or ``#``
    instead of ``%2F``, ``%3F`` or ``%23``."""


def split(url: str) -> Address:
    """Return the parts of a URL. A URL that cannot be read gives parts that are not ``sound``, never an error."""
    found = _parts.fullmatch(url.strip())
    assert found is not None  # the pattern matches every text
    scheme, authority, path, query, fragment = found.groups()
    user, at, place = (authority or "").rpartition("@")
    host = _host.fullmatch(place)
    port = int(host[2]) if host is not None and host[2] else None
    sound = (
        host is not None
        and (port is None or port < 65536)
        and not re.search(r"[\0- \x7f\[\]]", user)
        and not any("@" in part for part in (query or "", fragment or ""))
        and not (authority and "@" in path)
    )
    return Address(
        (scheme or "").lower(), user if at else None, host[1] if host else "", port, path, query or "", fragment, sound
    )
