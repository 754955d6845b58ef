"""The rate of a loop, and the time that is left."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .meter import Meter
from .scopes import Scope


def rate_of(scope: Scope, done: int, now: float) -> float:
    """Return the items per second of an open loop or count, of which ``done`` items are done."""
    items = scope.items
    if items is None:
        scope.items = items = Meter(scope.opened, 0)
    return items.rate(now, done)


def time_left(counted: Iterable[tuple[Scope, int]], now: float, rate: float | None = None) -> float | None:
    """Return the seconds until all open scopes are done; None if they cannot be estimated.

    The innermost open scope decides, by its own rate and total. Later items take as long as the current one, and later
    planned steps take as long in proportion to their weights. Steps without a plan, and work without a total, leave the
    rest unknown.

    Args:
        counted: The open scopes, innermost first, each with its items done.
        now: The time by the clock for durations.
        rate: The rate of the innermost scope; None if it is unknown.
    """
    child: Scope | None = None
    left: float | None = None
    least = 0.0
    for scope, done in counted:
        left = _left_in(scope, done, child, left, now, rate if child is None else None)
        if left is not None:
            # An outer scope ends no sooner than an inner one, whatever its own rate is.
            left = least = max(left, least)
        child = scope
    return left if left is not None and math.isfinite(left) else None


def _left_in(
    scope: Scope, done: int, child: Scope | None, inside: float | None, now: float, rate: float | None
) -> float | None:
    """Return the seconds left in a scope: ``inside`` are those left in its open child, ``rate`` is its own if known."""
    here = None if child is None or inside is None else _left_around(scope, done, child, inside, now)
    todo = (scope.total or 0) - done
    if scope.counts and todo > 0:
        if rate is None:
            rate = rate_of(scope, done, now)
        if here is not None and scope.items is not None and child is not None and child.born == done:
            rate = scope.items.rate_at(now + here, done + 1)
            return here + (todo - 1) / rate if rate > 0 else None
        # The child's end does not tell the item's end, or the child is a loop beside this one, not inside an item.
        return todo / rate if rate > 0 else None
    if scope.probe is not None:
        # A loop of unknown length, or past its total.
        return None
    return here if here is not None else _left_by_hand(scope, now)


def _left_around(scope: Scope, done: int, child: Scope, inside: float, now: float) -> float | None:
    """Return the seconds until a child and the steps planned after it are done."""
    later = scope.planned(done)
    if child.probe is not None:
        # A loop fills the rest of its scope, unless it runs between the steps of a plan.
        return None if later else inside
    if later is None or (later and not child.share):
        return None
    return inside + (max(0.0, now - child.opened) + inside) * (later / child.share) if later else inside


def _left_by_hand(scope: Scope, now: float) -> float | None:
    percent = 100 * scope.reported() if scope.percent else 0.0
    if not 0 < percent < 100:
        return None
    if scope.by_hand is None:
        scope.by_hand = Meter(scope.opened, 0.0)
    rate = scope.by_hand.rate(now, percent)
    return (100 - percent) / rate if rate > 0 else None
