"""The options of a backend's URL. No error repeats a value, because it may be part of a password."""

from __future__ import annotations

import re

from ..address import Address

_name = re.compile(r"[A-Za-z_]{1,40}")


def options(address: Address) -> dict[str, str]:
    """Return the options that follow the ``?``.

    Raises:
        ValueError: An option is given twice.
    """
    if not address.query:
        return {}
    from urllib.parse import parse_qsl  # few URLs have options

    found: dict[str, str] = {}
    for name, value in parse_qsl(address.query, keep_blank_values=True):
        if name in found:
            raise ValueError(f"a {address.scheme}:// URL takes each option once, but has {shown(name)} twice")
        found[name] = value
    return found


def known(address: Address, *names: str) -> dict[str, str]:
    """Return the options that follow the ``?``, all of which must be among ``names``.

    Raises:
        ValueError: An option is not among them, or is given twice.
    """
    found = options(address)
    for name in found:
        if name not in names:
            raise ValueError(f"a {address.scheme}:// URL takes the options {', '.join(names)}, not {shown(name)}")
    return found


def seconds(name: str, value: str) -> float:
    """Read an option that is a number of seconds.

    Raises:
        ValueError: The value is not a number.
    """
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{name} must be a number of seconds") from None


def shown(name: str) -> str:
    """Return the name of an option for an error message, unless it may be part of a password."""
    return repr(name) if _name.fullmatch(name) else "a name that no option can have"
