"""The steps of a run, as its watchers see them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from silo_tasks._logs import cut
from silo_tasks.state import StepState

MAX_STEPS = 100
"""Steps that are kept: the newest."""


class Steps:
    """A tuple that is replaced at each change, so that a reader can keep it as it is.

    The methods are called under the lock of the run.
    """

    __slots__ = ("records",)

    def __init__(self) -> None:
        self.records: tuple[StepState, ...] = ()

    def plan(self, steps: Sequence[tuple[str, float]], depth: int) -> None:
        """Add steps to come, instead of those planned before at this depth."""
        kept = [step for step in self.records if step.status != "pending" or step.depth != depth]
        planned = [StepState(name, "pending", depth, weight, None, None) for name, weight in steps]
        self.records = (*kept, *planned)[-MAX_STEPS:]

    def begin(self, name: str, weight: float, depth: int, now: float) -> StepState:
        """Begin a step, planned or not."""
        for i, step in enumerate(self.records):
            if step.status == "pending" and step.depth == depth and step.name == name:
                begun = step._replace(status="running", started_at=now)
                self.records = (*self.records[:i], begun, *self.records[i + 1 :])
                return begun
        begun = StepState(name, "running", depth, weight, now, None)
        # Before what is still to come, so that the order is that of time.
        at = next((i for i, step in enumerate(self.records) if step.status == "pending"), len(self.records))
        self.records = (*self.records[:at], begun, *self.records[at:])[-MAX_STEPS:]
        return begun

    def end(self, begun: StepState, now: float, *, failed: bool) -> None:
        """End a step."""
        ended = begun._replace(status="failed" if failed else "done", finished_at=now)
        self.records = tuple(ended if step is begun else step for step in self.records)


def checked(name: str, weight: float) -> tuple[str, float]:
    """A step's name and weight.

    Raises:
        ValueError: The weight is not a positive, finite number.
    """
    weight = float(weight)
    if not (weight > 0 and math.isfinite(weight)):
        raise ValueError("a step's weight must be a positive, finite number")
    return cut(str(name)), weight
