"""The gate for session ids: what is no id stops here."""

from __future__ import annotations

import re
import secrets
from typing import TypeGuard

from .errors import InvalidSessionId

_is_sid = re.compile(r"[A-Za-z0-9_-]{1,128}").fullmatch


def is_sid(value: object) -> TypeGuard[str]:
    """Say whether ``value`` is a session id: 1 to 128 characters of ``A-Z a-z 0-9 _ -``.

    UUIDs, nanoids, hexadecimal and URL-safe base64 tokens are. Nothing that can be a path, a header line or a
    pattern is.
    """
    return isinstance(value, str) and _is_sid(value) is not None


def check_sid(value: object) -> str:
    """Return ``value`` if it is a session id.

    Raises:
        InvalidSessionId: it is not. The error does not repeat the text.
    """
    if not is_sid(value):
        raise InvalidSessionId
    return value


def new_sid() -> str:
    """Make a session id that nobody can guess: 128 random bits in 32 hexadecimal digits."""
    return secrets.token_hex(16)


def new_uid() -> str:
    """Make the name of one life of a session: 72 random bits, so that no two processes ever make the same."""
    return secrets.token_urlsafe(9)
