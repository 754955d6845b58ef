"""The steps of a run."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..text import cut

MAX_STEPS = 100
"""Number of steps that are kept: first the open steps, then the planned ones, then those that ended last."""


class StepState(NamedTuple):
    """One step of a run."""

    name: str
    status: str
    """``"pending"``, ``"running"``, ``"done"`` or ``"failed"``."""
    depth: int
    """0 for a step of the run, 1 for a step inside that, and so on."""
    weight: float
    """Weight against the other steps around it."""
    started_at: float | None
    """When the step began, in seconds by the task's clock; None before that."""
    finished_at: float | None
    """When the step ended, in seconds by the task's clock; None before that."""


class Steps:
    """The steps of one run, each followed by the steps inside it.

    The methods are called under the lock of the run.

    Attributes:
        records: The steps. The tuple is replaced at each change, so a reader may keep it.
    """

    # Set on the class, not by ``__init__()``: most runs have no steps.
    records: tuple[StepState, ...] = ()

    def plan(self, steps: Sequence[tuple[str, float]], depth: int) -> None:
        """Replace the planned steps at this depth."""
        self.records = tuple(step for step in self.records if step.status != "pending" or step.depth != depth)
        planned = [StepState(name, "pending", depth, weight, None, None) for name, weight in steps]
        self._insert(self._inside(depth).stop, *planned)

    def begin(self, name: str, weight: float, depth: int, now: float) -> StepState:
        """Begin a step, which may be planned, and return it."""
        inside = self._inside(depth)
        to_come = [i for i in inside if self.records[i].status == "pending" and self.records[i].depth == depth]
        for i in to_come:
            if self.records[i].name == name:
                begun = self.records[i]._replace(status="running", started_at=now)
                self.records = (*self.records[:i], begun, *self.records[i + 1 :])
                return begun
        begun = StepState(name, "running", depth, weight, now, None)
        # Before the planned steps, so that steps stay in order of time.
        self._insert(to_come[0] if to_come else inside.stop, begun)
        return begun

    def _inside(self, depth: int) -> range:
        """Return the positions of the steps inside the open step that surrounds this depth."""
        records = self.records
        around = [i for i, step in enumerate(records) if step.depth == depth - 1 and step.status == "running"]
        start = around[-1] + 1 if around else 0
        return range(start, next((i for i in range(start, len(records)) if records[i].depth < depth), len(records)))

    def _insert(self, at: int, *steps: StepState) -> None:
        records = (*self.records[:at], *steps, *self.records[at:])
        if len(records) > MAX_STEPS:
            # The steps that ended first are dropped first, then the last planned ones.
            ended = [i for i, step in enumerate(records) if step.finished_at is not None]
            others = [i for i, step in enumerate(records) if step.finished_at is None]
            others.sort(key=lambda i: (records[i].status == "running", -i))
            left_out = set([*ended, *others][: len(records) - MAX_STEPS])
            records = tuple(step for i, step in enumerate(records) if i not in left_out)
        self.records = records

    def end(self, begun: StepState, now: float, *, failed: bool) -> None:
        """End a step."""
        ended = begun._replace(status="failed" if failed else "done", finished_at=now)
        self.records = tuple(ended if step is begun else step for step in self.records)


def closed(steps: Iterable[StepState], now: float | None, *, failed: bool) -> tuple[StepState, ...]:
    """Return the steps of a run that has ended. Open steps end with the run."""
    status = "failed" if failed else "done"
    return tuple(step._replace(status=status, finished_at=now) if step.status == "running" else step for step in steps)


def is_step(*parts: object) -> bool:
    """Return whether these are a name and a weight. All steps of a plan in one list, for example, are not."""
    return len(parts) == 2 and hasattr(parts[1], "__float__")


def checked(name: str, weight: float) -> tuple[str, float]:
    """Return the name of a step, cut to the length of a line, and its weight as a float.

    Raises:
        ValueError: The weight is not a positive, finite number.
    """
    weight = float(weight)
    if not 0 < weight < float("inf"):
        raise ValueError("a step's weight must be a positive, finite number")
    return cut(str(name)), weight
