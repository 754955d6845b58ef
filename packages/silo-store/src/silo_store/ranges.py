"""Checks the durations and limits that a store is given."""

from __future__ import annotations

from threading import TIMEOUT_MAX
from typing import Any


def check_seconds(name: str, value: Any, *, is_positive: bool = False, is_waited: bool = False) -> None:
    """Check a duration, which may be 0 and infinite.

    Args:
        name: The name of the option, for the message.
        value: The duration.
        is_positive: Whether it may not be 0.
        is_waited: Whether a thread waits for it, so that it may not be infinite.

    Raises:
        TypeError: The value is not a number.
        ValueError: It is out of this range, or NaN.
    """
    kind = "a positive number of seconds" if is_positive else "a number of seconds, 0 or more"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be {kind}, not {value!r}")
    if not value >= 0 or (is_positive and value == 0):
        raise ValueError(f"{name} must be {kind}, not {value!r}")
    if is_waited and value > TIMEOUT_MAX:
        raise ValueError(f"{name} must be at most {TIMEOUT_MAX:.0f} seconds, as long as a thread can wait: {value!r}")


def check_count(name: str, value: Any) -> None:
    """Check a limit. None means no limit.

    Raises:
        TypeError: The value is not a whole number.
        ValueError: It is negative.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, or None for no limit, not {value!r}")
    if value < 0:
        raise ValueError(f"{name} must be 0 or more, or None for no limit, not {value!r}")
