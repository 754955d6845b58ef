"""Asks which keys live, so that a question that fails removes nothing."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Set

from .backend import Living

logger = logging.getLogger("silo_files")

# Keys in one question.
_ASKED = 1000


def ask(living: Living, keys: list[str]) -> Collection[str]:
    """Return the keys that live, and those about which ``living`` gives no valid answer. Never raises its errors.

    Args:
        living: Called with at most 1,000 keys at a time.
        keys: Any number of keys.
    """
    found: set[str] = set()
    for first in range(0, len(keys), _ASKED):
        found.update(_answer(living, keys[first : first + _ASKED]))
    return found


def _answer(living: Living, keys: list[str]) -> Collection[str]:
    try:
        answer = living(keys.copy())
        # A text is a collection too, but not of keys. Keys of another type would match none and remove all.
        if isinstance(answer, Collection) and not isinstance(answer, str) and isinstance(next(iter(answer), ""), str):
            known = answer if isinstance(answer, Set | Mapping) else frozenset(answer)
            return [key for key in keys if key in known]
    except Exception:
        logger.exception("living failed, so %d areas stay", len(keys))
    else:
        logger.error(
            "living returned a %s, not a collection of keys, so %d areas stay", type(answer).__name__, len(keys)
        )
    return keys
