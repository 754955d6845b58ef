"""The gate for session ids from outside, and new ids."""

from __future__ import annotations

import os
import re
import string
from base64 import urlsafe_b64encode
from typing import TypeGuard

from .errors import InvalidSessionId

ID_CHARACTERS = string.ascii_letters + string.digits + "_-"
"""The characters of session ids."""

_is_sid = re.compile(r"[A-Za-z0-9_-]{1,128}").fullmatch


def is_sid(value: object) -> TypeGuard[str]:
    """Return whether ``value`` is a session id: 1 to 128 characters of ``A-Z a-z 0-9 _ -``.

    UUIDs, nanoids, hexadecimal tokens and URL-safe base64 tokens are session ids. Text that could be a path, a header
    line or a pattern is not.
    """
    return isinstance(value, str) and _is_sid(value) is not None


def check_sid(value: object) -> str:
    """Return ``value`` if it is a session id.

    Raises:
        InvalidSessionId: ``value`` is not a session id. The error does not repeat it.
    """
    if not is_sid(value):
        raise InvalidSessionId
    return value


def new_sid() -> str:
    """Return a new session id that cannot be guessed: 128 random bits in 32 hexadecimal digits."""
    return os.urandom(16).hex()  # as the module ``secrets`` does, whose import takes milliseconds


def new_uid() -> str:
    """Return a name for one life of a session: 72 random bits, so that no two processes make the same one."""
    return urlsafe_b64encode(os.urandom(9)).decode()
