"""The progress of a run: a stack of scopes, each of which fills a share of the one below it.

The lowest scope is the whole run, from 0 to 100 percent. A step or a loop that opens inside a scope gets a span of the
rest of that scope. The progress of the run is the farthest point that any open scope has reached. Loops, steps and
counts never go back; a percent given by hand, by ``update(progress=)``, may be lower than the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, SupportsIndex, SupportsInt

from .meter import Meter

MAX_COUNT = 2**63 - 1
"""The largest count."""


class Probe:
    """Reads how many items of a loop are done, and can end the loop."""

    __slots__ = ()

    @property
    def done(self) -> int:
        """Items that the loop has finished."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the loop at its next item."""
        raise NotImplementedError


def as_count(value: SupportsInt | SupportsIndex) -> int | None:
    """Return a number of items that arithmetic and JSON can hold; None for infinity and NaN.

    Raises:
        TypeError: The value is not a number.
    """
    try:
        return max(-MAX_COUNT, min(MAX_COUNT, int(value)))
    except (OverflowError, ValueError):
        return None


def fraction(done: int, total: int) -> float:
    """Return the fraction of the total that is done, 0.0 to 1.0."""
    return 1.0 if done >= total else max(0, done) / total


class Scope:
    """A span of the progress of a run: the run itself, a step, or a loop.

    Args:
        parent: The scope around this one; None for the run.
        low: Percent of the run at which the scope begins.
        high: Percent of the run at which the scope ends.
        share: The fraction of the parent, or of the parent's current item, that the scope fills.
        probe: Counts the items of a loop; None for any other scope.
        opened: When the scope was opened, in seconds by the clock for durations.
    """

    __slots__ = (
        "_cell",
        "_spent",
        "born",
        "by_hand",
        "closed",
        "counts",
        "filled",
        "high",
        "items",
        "low",
        "n",
        "opened",
        "parent",
        "percent",
        "plan",
        "probe",
        "share",
        "total",
    )

    def __init__(
        self, parent: Scope | None, low: float, high: float, share: float, probe: Probe | None, opened: float
    ) -> None:
        self.parent: Scope | None = parent
        self.low: float = low
        self.high: float = high
        self.share: float = share
        self.probe: Probe | None = probe
        self.opened: float = opened
        self.closed: bool = False
        self.counts: bool = probe is not None
        self.n: int = 0
        self.total: int | None = None
        self.percent: float = 0.0
        self.plan: dict[int, tuple[str, float]] | None = None
        self.born: int = 0
        """Items of the parent that were done when this scope was opened."""
        self.items: Meter | None = None
        self.by_hand: Meter | None = None
        """The rates of the items and of the percent given by hand. Made when first needed."""
        self._spent = 0.0
        self.filled: float = 0.0
        self._cell = 0

    @property
    def done(self) -> int:
        """Items done, by the loop and by reports together, 0 to ``MAX_COUNT``."""
        probe = self.probe
        done = self.n if probe is None else self.n + probe.done
        return done if 0 <= done <= MAX_COUNT else max(0, min(MAX_COUNT, done))

    def _counted(self, done: int) -> float:
        return fraction(done, self.total) if self.total else 0.0

    def reported(self) -> float:
        """Return the fraction that was given by hand, 0.0 to 1.0."""
        # Converted here and not in update(), which may be called for every item.
        return float(min(self.percent, 100)) / 100

    def begin_child(self, spent: float) -> None:
        """Fix the point at which a child begins, so that no later percent by hand moves it."""
        if self.probe is None:
            self._spent = spent

    def cell(self) -> tuple[float, float, float]:
        """Return the span that a child may fill: its start, its width, and the fraction that is spent already.

        In a loop, this is the span of the current item; in any other scope, the whole span.
        """
        if self.probe is None:
            return self.low, self.high - self.low, max(self._spent, self.reported(), self._counted(self.done))
        if not self.total:
            return self.low, 0.0, 0.0
        done = self.done
        if done != self._cell:
            # The plan was for the previous item.
            self._cell, self._spent, self.filled, self.plan = done, 0.0, 0.0, None
        width = (self.high - self.low) / self.total
        low = self.low + fraction(done, self.total) * (self.high - self.low)
        return low, (width if done < self.total else 0.0), self._spent

    def planned(self, done: int) -> float | None:
        """Return the share of the planned steps that have not begun; None without a plan for the current item."""
        if self.plan is None or (self.probe is not None and done != self._cell):
            return None
        # Copied in one step: a report may open a planned step meanwhile.
        return sum([share for _, share in list(self.plan.values())])

    def spend(self, share: float, *, complete: bool) -> None:
        """Spend the share of a child that has ended. An incomplete one leaves a gap, which the next child closes."""
        _, _, spent = self.cell()
        self._spent = min(1.0, spent + share)
        if complete:
            self.filled = self._spent

    def value(self, done: int) -> float:
        """Return the percent of the whole run that this scope has reached and keeps, with ``done`` items."""
        total, width = self.total, self.high - self.low
        if self.probe is None:
            return self.low + width * max(self.filled, self._counted(done))
        if not total:
            return self.low
        if done >= total:
            return self.low + width
        low = self.low + done / total * width
        # ``filled`` is of the item that ``cell()`` saw last.
        return low + width / total * self.filled if done == self._cell else low

    def reached_by_hand(self) -> float:
        """Return the percent of the whole run that was given by hand for this scope; 0 for a loop."""
        return self.low + (self.high - self.low) * self.reported() if self.probe is None else 0.0


class Progress:
    """The scopes of one run.

    Args:
        lock: Lock of the run. Reentrant, because the garbage collector may close a loop while the lock is held.
    """

    __slots__ = ("_final", "_shown", "base", "lock", "reached", "shared", "top")

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self.lock: AbstractContextManager[object] = lock
        self.base: Scope = Scope(None, 0.0, 100.0, 1.0, None, 0.0)
        """The innermost step, or the run."""
        self.top: Scope = self.base
        """The innermost scope of any kind."""
        self.shared: Any = None
        """What a reader keeps for the next one. Set under the lock, and reset before a report changes anything but the
        count of a scope or a percent by hand. So if a reader without the lock finds it unchanged at its end, all that
        it has read is of one moment."""
        self.reached: float = 0.0
        """The percent that loops, steps and counts have reached."""
        self._shown: Scope | None = None
        self._final: float | None = None

    def open_loop(self, probe: Probe, total: int | None, now: float) -> Scope:
        """Open a loop, which fills the rest of its scope. Inside a plan, only steps have a share."""
        with self.lock:
            _, _, spent = self.top.cell()
            scope = self._open(0.0 if self.top.plan is not None else 1.0 - spent, probe, now)
            scope.total = total if total is None else max(0, total)
            return scope

    def open_step(self, name: str, weight: float, now: float) -> Scope:
        """Open a step, which fills its share of the plan; without a plan, ``weight / (weight + 1)`` of the rest."""
        with self.lock:
            _, _, spent = self.top.cell()
            plan = self.top.plan
            if plan is None:
                share = (1.0 - spent) * weight / (weight + 1.0)
            else:
                key = next((key for key, (planned, _) in plan.items() if planned == name), None)
                share = 0.0 if key is None else plan.pop(key)[1]
            self.base = scope = self._open(share, None, now)
            self._shown = None
            return scope

    def _open(self, share: float, probe: Probe | None, now: float) -> Scope:
        self.shared = None
        low, width, spent = self.top.cell()
        self.top.begin_child(spent)
        begin = low + width * spent
        # A percent by hand for the parent may be lower from now on, but the progress of the child stays above this.
        self._note(begin)
        scope = Scope(self.top, begin, min(100.0, begin + width * share), share, probe, now)
        scope.born = self.top.done
        self.top = scope
        return scope

    def plan(self, steps: Sequence[tuple[str, float]]) -> None:
        """Divide the rest of the innermost scope among planned steps, by their weights."""
        with self.lock:
            self.shared = None
            _, _, spent = self.top.cell()
            whole = sum(weight for _, weight in steps)
            self.top.plan = {i: (name, (1.0 - spent) * weight / whole) for i, (name, weight) in enumerate(steps)}

    def close(self, scope: Scope, *, complete: bool) -> None:
        """Close a scope and all scopes inside. A complete one has filled its span."""
        with self.lock:
            self.shared = None
            value = scope.high if complete else 0.0
            inner: Scope | None = self.top
            while inner is not None and inner is not scope.parent:
                value = max(value, inner.value(inner.done), inner.reached_by_hand())
                inner = inner.parent
            # Keep the counts. Drop the probe, whose iterators hold the data.
            scope.n, scope.probe, scope.closed = scope.done, None, True
            if scope.counts and self._final is None:
                self._shown = scope
            above: Scope | None = self.top
            while above is not None and above is not scope:
                above = above.parent
            if above is None or scope.parent is None:
                # A scope around this one was closed before.
                return
            self._note(value)
            self.top = scope.parent
            self.top.spend(scope.share, complete=complete)
            base = self.top
            while base.probe is not None and base.parent is not None:
                base = base.parent
            self.base = base

    def count(self, n: int | None, total: int | None, *, add: bool = False) -> None:
        """Set or add to the counts of the innermost scope."""
        with self.lock:
            scope = self.top
            total = scope.total if total is None else max(0, total)
            if not scope.counts or total != scope.total:
                self.shared = None
                scope.counts, scope.total = True, total
            if n is not None:
                seen = 0 if scope.probe is None else scope.probe.done
                scope.n = scope.n + n if add else n - seen

    def end(self, *, done: bool) -> None:
        """Freeze the numbers at the end of the run, at 100 percent if ``done``.

        Called under the lock of the run.
        """
        shown = self.counted()
        if shown is not None and not shown.closed:
            # The loop of this scope may still go on.
            n, total = shown.done, shown.total
            shown = Scope(None, shown.low, shown.high, shown.share, None, shown.opened)
            shown.n, shown.total, shown.counts, shown.closed = n, total, True, True
        self.shared = None
        final = 100.0
        if not done:
            scopes = self.scopes()
            by_hand = max(scope.reached_by_hand() for scope in scopes)
            final = self.percent([(scope, scope.done) for scope in scopes], by_hand)
        self._shown, self._final = shown, final

    def counted(self) -> Scope | None:
        """Return the scope whose counts are shown: the innermost that counts, or the last one that did."""
        if self._final is not None:
            return self._shown
        inner: Scope | None = self.top
        while inner is not None and not inner.counts and inner is not self.base:
            inner = inner.parent
        return inner if inner is not None and inner.counts else self._shown

    def scopes(self) -> list[Scope]:
        """Return the open scopes, innermost first."""
        scopes = [self.top]
        while (parent := scopes[-1].parent) is not None:
            scopes.append(parent)
        return scopes

    def percent(self, counted: Iterable[tuple[Scope, int]], by_hand: float, seen: Any = None) -> float:
        """Return the percent of the whole run, 0.0 to 100.0. Only a percent given by hand goes back.

        Args:
            counted: The open scopes, each with its items done.
            by_hand: The farthest percent that was given by hand for one of them.
            seen: ``shared``, as the reader has found it; None for a caller that has the lock and no ``shared``.
        """
        if self._final is not None:
            return self._final
        # With loops in several threads, an outer loop may move while the innermost stands still.
        reached = 0.0
        for scope, done in counted:
            if (scope.counts or scope.filled) and (value := scope.value(done)) > reached:
                reached = value
        # A report may have changed a total since the items were counted: then this percent was never reached.
        if reached > self.reached and (seen is None or self.shared is seen):
            self._note(reached)
        percent = self.reached
        return percent if percent >= by_hand else min(by_hand, 100.0)

    def depth(self) -> int:
        """Return how many steps are open."""
        with self.lock:
            depth, scope = 0, self.base
            while scope.parent is not None:
                depth += scope.probe is None
                scope = scope.parent
            return depth

    def _note(self, value: float) -> None:
        value = min(value, 100.0)
        # By readers without the lock, too: the interpreter switches no threads between these two lines.
        if value > self.reached:
            self.reached = value
