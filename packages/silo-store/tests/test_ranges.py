"""A duration or a limit that no store can keep is refused where it is given."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from threading import TIMEOUT_MAX
from typing import Any

import pytest
from silo_store import CleanupDaemon, SessionStore
from silo_store.testing import SID, Clock

DURATIONS = ("ttl", "cleanup_interval", "expired_retain", "lock_timeout")
LIMITS = ("max_state_bytes", "max_sessions")
TOO_LONG = [math.inf, 1e12]
"""Seconds that no thread can wait."""


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("ttl", [0, -1, -math.inf, math.nan], "a positive number of seconds"),
        ("cleanup_interval", [0, -1, math.nan], "a positive number of seconds"),
        ("cleanup_interval", TOO_LONG, f"at most {TIMEOUT_MAX:.0f} seconds"),
        ("expired_retain", [-1, -math.inf, math.nan], "a number of seconds, 0 or more"),
        ("lock_timeout", [-1, math.nan], "a number of seconds, 0 or more"),
        ("lock_timeout", TOO_LONG, f"at most {TIMEOUT_MAX:.0f} seconds"),
        ("touch_interval", [-1, math.nan], "a number of seconds, 0 or more"),
        ("touch_interval", [60, 61, math.inf], "less than ttl"),
        *((name, [-1], "0 or more, or None for no limit") for name in LIMITS),
    ],
)
def test_what_is_out_of_range_is_refused(name: str, wrong: list[Any], said: str) -> None:
    for value in wrong:
        with pytest.raises(ValueError, match=f"^{name} must be {said}"):
            SessionStore(**{"ttl": 60, name: value})


@pytest.mark.parametrize("name", [*DURATIONS, "touch_interval", *LIMITS])
def test_what_is_not_a_number_is_refused(name: str) -> None:
    wrong: list[Any] = ["60", [60], True, Decimal(60), 2.5 if name in LIMITS else 1j]
    for value in [*wrong, None] if name in DURATIONS else wrong:
        with pytest.raises(TypeError, match=f"^{name} must be a .*number.*, not {re.escape(repr(value))}$"):
            SessionStore(**{name: value})


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": math.inf, "expired_retain": math.inf},
        {"ttl": 0.001},
        {"expired_retain": 0, "lock_timeout": 0, "touch_interval": 0, "max_state_bytes": 0, "max_sessions": 0},
        {"touch_interval": None, "max_state_bytes": None, "max_sessions": None},
    ],
    ids=str,
)
def test_the_ends_of_the_ranges_are_accepted(options: dict[str, Any]) -> None:
    store = SessionStore(**options)
    assert {name: getattr(store, name) for name in options} == options


def test_a_session_may_live_and_its_end_be_remembered_for_ever(
    make_store: Callable[..., SessionStore], clock: Clock
) -> None:
    store = make_store(ttl=math.inf, expired_retain=math.inf)
    store.update(SID, "counter", lambda _: {"value": 7})
    clock.advance(1e9)
    assert store.cleanup() == []
    assert store.get(SID)["counter"] == {"value": 7}
    assert store.expire(SID)
    clock.advance(1e9)
    store.cleanup()
    assert store.is_expired(SID)
    assert store.lookup(SID).status == "expired"


def test_a_time_to_live_that_is_set_later_is_checked_too() -> None:
    store = SessionStore(ttl=60)
    with pytest.raises(ValueError, match="ttl must be a positive number"):
        store.ttl = 0
    assert store.ttl == 60


@pytest.mark.parametrize("interval", [0, -1, math.nan, *TOO_LONG], ids=str)
def test_the_interval_of_a_sweeping_thread_is_checked(interval: float) -> None:
    with pytest.raises(ValueError, match=r"^interval must be "):
        CleanupDaemon(SessionStore(), interval)
