"""Measures how fast a number grows."""

from __future__ import annotations

from collections import deque

SAMPLES = 10
"""Number of samples from which a rate is computed."""

SPACING = 0.5
"""Least seconds between two samples."""


class Meter:
    """The rate of a growing number, from samples that are taken whenever a reader asks.

    A sample is kept only if the number has changed, and the rate is that from the oldest sample to now. So a loop of
    one item a minute is measured over minutes and a fast one over seconds, and the rate of a stalled loop falls with
    each read.
    """

    __slots__ = ("_samples",)

    def __init__(self, now: float, value: float) -> None:
        self._samples: deque[tuple[float, float]] = deque([(now, value)], maxlen=SAMPLES)

    def rate(self, now: float, value: float) -> float:
        """Return the units per second at the time ``now``; 0.0 if the number has not grown."""
        then, last = self._samples[-1]
        # Before the rate is computed, so that two reads at one moment get the same rate.
        if value != last and now - then >= SPACING:
            self._samples.append((now, value))
        return self.rate_at(now, value)

    def rate_at(self, then: float, value: float) -> float:
        """Return the rate at a later time, when the number will be ``value``."""
        first_at, first = self._samples[0]
        span = then - first_at
        return (value - first) / span if span > 0 and value > first else 0.0
