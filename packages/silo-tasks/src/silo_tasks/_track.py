"""Loops whose progress costs next to nothing for each item.

No Python code runs for an item. Over a plain sequence the loop pulls from the sequence's own iterator: its position can
be read whenever somebody looks, and moving it to its end ends the loop at the next item.

Over anything else the loop pulls from `map(second, selector, data)`, where `selector` iterates over a block of bytes
and `second(selected, item)` returns the item, all in C. There it is the selector that is read, and exhausted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import length_hint
from typing import TYPE_CHECKING, Any, TypeVar, cast

from silo_tasks._progress import Probe, as_count
from silo_tasks.errors import Cancelled

if TYPE_CHECKING:
    from silo_tasks._run import Run

T = TypeVar("T")

BLOCK = 1 << 16
_ONES = bytes([1]) * BLOCK

# dict.get(key, default) of an empty dict returns its second argument: the cheapest such function written in C.
_EMPTY: dict[int, Any] = {}
_second = cast("Callable[[int, Any], Any]", _EMPTY.get)

_PLAIN = (list, tuple, range, str, bytes)

_READABLE = hasattr(iter(_ONES), "__setstate__") and length_hint(iter(_ONES)) == BLOCK


class BlockProbe(Probe):
    """Reads and stops a loop through the selector of its current block.

    `next_block` and `stop` are called under the lock of the run, `done` by anybody at any time.
    """

    __slots__ = ("_block", "_frozen", "_next")

    def __init__(self) -> None:
        # One tuple, so that a reader never sees the start of one block with the selector of another.
        self._block: tuple[int, Any] = (0, None)
        self._next = 0
        self._frozen: int | None = None

    def next_block(self) -> Iterator[int]:
        """Begin the next block and return its selector."""
        selector: Any = iter(_ONES)
        if self._frozen is not None:
            selector.__setstate__(BLOCK)
        self._block = (self._next, selector)
        self._next += BLOCK
        return cast("Iterator[int]", selector)

    @property
    def done(self) -> int:
        """Items handed out, less the one whose turn it is."""
        start, selector = self._block
        handed_out = 0 if selector is None else BLOCK - length_hint(selector)
        # stop() notes where the loop stood before it moves the selector, so this look comes second.
        frozen = self._frozen
        return start + max(0, handed_out - 1) if frozen is None else frozen

    @property
    def stopped(self) -> bool:
        """Whether the loop was told to end."""
        return self._frozen is not None

    def stop(self) -> None:
        """Exhaust the selector, which `map` asks before the data: no item is taken and lost."""
        if self._frozen is None:
            self._frozen = self.done
            if self._block[1] is not None:
                self._block[1].__setstate__(BLOCK)


class SequenceProbe(Probe):
    """Reads and stops a loop through the iterator of a plain sequence."""

    __slots__ = ("_frozen", "_iterator", "_sequence", "ended")

    def __init__(self, sequence: Sequence[Any], iterator: Any) -> None:
        self._sequence = sequence
        self._iterator = iterator
        self._frozen: int | None = None
        self.ended = False

    @property
    def done(self) -> int:
        """Items handed out, less the one whose turn it is."""
        handed_out = len(self._sequence) - length_hint(self._iterator)
        # stop() notes where the loop stood before it moves the iterator, so this look comes second.
        frozen = self._frozen
        return (handed_out if self.ended else max(0, handed_out - 1)) if frozen is None else frozen

    @property
    def stopped(self) -> bool:
        """Whether the loop was told to end."""
        return self._frozen is not None

    def stop(self) -> None:
        """Move the iterator past its end, for good: a list that grows later does not bring it back."""
        if self._frozen is None:
            self._frozen = self.done
            iterator, over = self._iterator, object()
            iterator.__setstate__(len(self._sequence))
            while next(iterator, over) is not over:
                iterator.__setstate__(len(self._sequence))


class CountProbe(Probe):
    """Counts in Python, where iterators cannot be read from outside."""

    __slots__ = ("_done",)

    def __init__(self) -> None:
        self._done = 0

    def count(self) -> None:
        """One more item is done."""
        self._done += 1

    @property
    def done(self) -> int:
        """Items done."""
        return self._done

    def stop(self) -> None:
        """Nothing to do: the loop looks at its run before each item."""


def _ran_out(selector: Any) -> bool:
    # An iterator that has raised StopIteration has let go of its bytes; one at its end still holds them.
    return len(selector.__reduce__()) < 3


def _blocks(run: Run, data: Iterator[T], total: int | None) -> Iterator[Iterator[T]]:
    probe = BlockProbe()
    scope = run.open_loop(probe, total)
    complete = False
    try:
        while True:
            run.check()
            with run.lock:
                selector = probe.next_block()
            yield map(_second, selector, data)
            if not _ran_out(selector):
                complete = True
                return
            if probe.stopped:
                raise Cancelled
    finally:
        run.close_loop(probe, scope, complete=complete)


def _sequence(run: Run, probe: SequenceProbe, data: Iterator[T], total: int | None) -> Iterator[Iterator[T]]:
    scope = run.open_loop(probe, total)
    complete = False
    try:
        run.check()
        yield data
        if probe.stopped:
            raise Cancelled
        probe.ended = complete = True
    finally:
        run.close_loop(probe, scope, complete=complete)


def _counted(run: Run, data: Iterator[T], total: int | None) -> Iterator[T]:
    probe = CountProbe()
    scope = run.open_loop(probe, total)
    complete = False
    try:
        run.check()
        for item in data:
            yield item
            probe.count()
            run.check()
        complete = True
    finally:
        run.close_loop(probe, scope, complete=complete)


def size_of(iterable: Iterable[object]) -> int | None:
    """How many items are to come, when the iterable knows."""
    try:
        hint = length_hint(iterable, -1)
    except Exception:  # noqa: BLE001 - a length is a courtesy; whatever is wrong with it, the loop goes on
        return None
    return hint if hint >= 0 else None


def track_in(run: Run, iterable: Iterable[T], total: int | None) -> Iterator[T]:
    """Iterate over `iterable` as a loop of `run`."""
    size = size_of(iterable)
    if total is not None:
        total = as_count(total)
    if total is None:
        total = size
    data = iter(iterable)
    if not _READABLE:
        return _counted(run, data, total)
    if type(iterable) in _PLAIN and size is not None:
        # Only the types themselves: the iterator of a subclass may be anything. A range can be too long for len().
        return chain.from_iterable(_sequence(run, SequenceProbe(cast("Sequence[T]", iterable), data), data, total))
    return chain.from_iterable(_blocks(run, data, total))
