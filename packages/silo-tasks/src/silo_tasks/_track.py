"""Loops whose progress costs next to nothing for each item.

No Python code runs for an item. Over a plain sequence the loop pulls from the sequence's own iterator: its position can
be read whenever somebody looks, and moving it to its end ends the loop at the next item.

Over anything else the loop pulls from `map(next, selector)`, where `selector` iterates over a list that holds the
iterator of the data again and again, all in C. There it is the selector that is read, and exhausted.

Both rest on what CPython's iterators tell of themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import length_hint
from typing import TYPE_CHECKING, Any, TypeVar, cast

from silo_tasks._progress import Probe, as_count
from silo_tasks.errors import Cancelled

if TYPE_CHECKING:
    from silo_tasks._run import Run

T = TypeVar("T")

SMALLEST, LARGEST = 64, 16384
"""Items of the first block, and of the largest: blocks grow, so that a short loop costs little."""

_PLAIN = (list, tuple, range, str, bytes)


class BlockProbe(Probe):
    """Reads and stops a loop through the selector of its current block.

    `next_block` and `stop` are called under the lock of the run, `done` by anybody at any time.
    """

    __slots__ = ("_again", "_block", "_frozen")

    def __init__(self) -> None:
        # One tuple, so that a reader never sees the end of one block with the selector of another.
        self._block: tuple[int, Any] = (0, iter(()))
        self._again: list[Any] = []
        self._frozen: int | None = None

    def next_block(self, data: Iterator[T]) -> Iterator[Iterator[T]]:
        """Begin the next block and return its selector."""
        size = len(self._again)
        if size < LARGEST:
            size = size * 4 or SMALLEST
            self._again = [data] * size
        selector: Any = iter(self._again)
        if self._frozen is not None:
            selector.__setstate__(size)
        self._block = (self._block[0] + size, selector)
        return cast("Iterator[Iterator[T]]", selector)

    @property
    def done(self) -> int:
        """Items handed out, less the one whose turn it is."""
        end, selector = self._block
        handed_out = end - length_hint(selector)
        # stop() notes where the loop stood before it moves the selector, so this look comes second.
        frozen = self._frozen
        return max(0, handed_out - 1) if frozen is None else frozen

    @property
    def stopped(self) -> bool:
        """Whether the loop was told to end."""
        return self._frozen is not None

    def stop(self) -> None:
        """Exhaust the selector, which `map` asks before the data: no item is taken and lost."""
        if self._frozen is None:
            self._frozen = self.done
            self._block[1].__setstate__(LARGEST)


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


def _ran_out(selector: Any) -> bool:
    # An iterator that has raised StopIteration has let go of its list; one at its end still holds them.
    return len(selector.__reduce__()) < 3


def _blocks(run: Run, data: Iterator[T], total: int | None) -> Iterator[Iterator[T]]:
    probe = BlockProbe()
    scope = run.open_loop(probe, total)
    complete = False
    try:
        while True:
            run.check()
            with run.lock:
                selector = probe.next_block(data)
            yield map(next, selector)
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
    if type(iterable) in _PLAIN and size is not None:
        # Only the types themselves: the iterator of a subclass may be anything. A range can be too long for len().
        return chain.from_iterable(_sequence(run, SequenceProbe(cast("Sequence[T]", iterable), data), data, total))
    return chain.from_iterable(_blocks(run, data, total))
