"""How fast a number grows."""

from __future__ import annotations

from collections import deque

SAMPLES = 10
"""Changes that a rate is taken over."""

SPACING = 0.5
"""Seconds between two samples, at least."""


class Meter:
    """The rate of a growing number, from samples that are taken whenever a reader asks.

    A sample is kept only when the number has changed, and the rate reaches from the oldest sample to now. So a loop
    of one item a minute is measured over minutes, a fast one over seconds, and the rate of a stalled one falls with
    each read, because time passes and the number does not.
    """

    __slots__ = ("_samples",)

    def __init__(self, now: float, value: float) -> None:
        self._samples: deque[tuple[float, float]] = deque([(now, value)], maxlen=SAMPLES)

    def rate(self, now: float, value: float) -> float:
        """Return units for each second at the moment ``now``; 0.0 if nothing has moved."""
        then, last = self._samples[-1]
        # Before it is measured, so that two reads at one moment get the same rate.
        if value != last and now - then >= SPACING:
            self._samples.append((now, value))
        return self.rate_at(now, value)

    def rate_at(self, then: float, value: float) -> float:
        """Return the rate at a later moment, when the number will be ``value``."""
        first_at, first = self._samples[0]
        span = then - first_at
        return (value - first) / span if span > 0 and value > first else 0.0
