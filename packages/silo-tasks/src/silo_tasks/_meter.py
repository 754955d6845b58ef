"""How fast a number grows."""

from __future__ import annotations

import math
from collections import deque

from silo_tasks._progress import Scope

SAMPLES = 10
"""Changes the rate is taken over."""
SPACING = 0.5
"""Seconds between two samples at least."""


class Meter:
    """Rate of a growing number, from what was seen whenever somebody looked.

    A sample is kept only when the number has changed, and the rate reaches from the oldest sample to now. So a loop
    of one item a minute is measured over minutes, a fast one over seconds, and a stalled one gets slower with every
    look, because time passes and the number does not.
    """

    __slots__ = ("_samples",)

    def __init__(self, now: float, value: float) -> None:
        self._samples: deque[tuple[float, float]] = deque([(now, value)], maxlen=SAMPLES)

    def rate(self, now: float, value: float) -> float:
        """Units for each second at the moment `now`, 0.0 when nothing has moved."""
        samples = self._samples
        then, last = samples[-1]
        first_at, first = samples[0]
        if value != last and now - then >= SPACING:
            samples.append((now, value))
        span = now - first_at
        return (value - first) / span if span > 0 and value > first else 0.0


class Pace:
    """The rate and the time left of one run."""

    __slots__ = ("_items", "_percent", "_scope")

    def __init__(self) -> None:
        self._scope: Scope | None = None
        self._items: Meter | None = None
        self._percent: Meter | None = None

    def rate(self, now: float, scope: Scope, n: int) -> float:
        """Items for each second of a loop or count that is open."""
        if self._items is None or self._scope is not scope:
            self._scope, self._items = scope, Meter(scope.opened, 0)
        return self._items.rate(now, n)

    def eta(self, now: float, began: float, percent: float) -> float | None:
        """Seconds until 100 percent at the present pace, None while nothing has moved."""
        if self._percent is None:
            self._percent = Meter(began, 0.0)
        rate = self._percent.rate(now, percent)
        eta = (100.0 - percent) / rate if rate > 0 else math.inf
        return eta if math.isfinite(eta) else None
