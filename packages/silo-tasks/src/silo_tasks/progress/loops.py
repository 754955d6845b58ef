"""Loops whose progress costs almost nothing per item.

No Python code runs for an item. Over a plain sequence, the loop takes its items from the iterator of the sequence. The
iterator's position can be read at any time, and moving it to the end ends the loop at the next item.

Over anything else, the loop takes its items from ``map(next, selector)``, all in C. ``selector`` iterates over a list
that holds the iterator of the data many times. The selector's position gives the count, and exhausting the selector
ends the loop.

Both rely on ``__length_hint__``, ``__setstate__`` and ``__reduce__`` of CPython's iterators.

Several threads may share a loop, as they may share the iterator of a list. Two of them may ask for the next block at
the same time, so ``_Source`` must not be a generator: the interpreter would crash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import length_hint
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ..errors import Cancelled
from .scopes import Probe, Scope, as_count

if TYPE_CHECKING:
    from ..run.run import Run

T = TypeVar("T")

SMALLEST, LARGEST = 64, 16384
"""Items of the first block and of the largest. Blocks grow, so that a short loop costs little."""

_PLAIN = (list, tuple, range, str, bytes)


class Tracker(Probe, Generic[T]):
    """A probe that also provides the iterators from which its loop takes items.

    ``following()`` and ``stop()`` are called under the lock of the run, ``done`` by any thread at any time.
    """

    __slots__ = ()

    def following(self) -> Iterator[T] | None:
        """Return the next iterator with items; None at the end of the data.

        Raises:
            Cancelled: The loop was asked to stop.
        """
        raise NotImplementedError


class BlockProbe(Tracker[T]):
    """Reads and stops a loop through the selector of its current block."""

    __slots__ = ("_again", "_block", "_data", "_frozen", "_items", "_threads")

    def __init__(self, data: Iterator[T]) -> None:
        # One tuple, so that a reader never sees the end of one block with the selector of another.
        self._block: tuple[int, Any] = (0, iter(()))
        self._data = data
        self._again: list[Any] = []
        self._items: Iterator[T] | None = None
        self._threads: set[int] = set()
        self._frozen: int | None = None

    def following(self) -> Iterator[T] | None:
        """Return the next block, or the current one to a thread that does not have it yet."""
        thread = get_ident()
        if self._items is not None and not _ran_out(self._block[1]):
            if thread in self._threads:
                return None
            self._threads.add(thread)
            return self._items
        if self._items is not None and self.stopped:
            raise Cancelled
        self._threads = {thread}
        self._items = items = map(next, self._next_block())
        return items

    def _next_block(self) -> Iterator[Iterator[T]]:
        size = len(self._again)
        if size < LARGEST:
            size = size * 4 or SMALLEST
            self._again = [self._data] * size
        selector: Any = iter(self._again)
        if self._frozen is not None:
            selector.__setstate__(size)
        self._block = (self._block[0] + size, selector)
        return cast("Iterator[Iterator[T]]", selector)

    @property
    def done(self) -> int:
        """Items handed out, without the current one."""
        end, selector = self._block
        handed_out = end - length_hint(selector)
        # Read after the selector: stop() sets it before it moves the selector.
        frozen = self._frozen
        if frozen is not None:
            return frozen
        return handed_out - 1 if handed_out > 0 else 0

    @property
    def stopped(self) -> bool:
        """Whether the loop was asked to stop."""
        return self._frozen is not None

    def stop(self) -> None:
        """Exhaust the selector. ``map`` asks it before the data, so no item is taken and lost."""
        if self._frozen is None:
            self._frozen = self.done
            self._block[1].__setstate__(LARGEST)


class SequenceProbe(Tracker[T]):
    """Reads and stops a loop through the iterator of a plain sequence."""

    __slots__ = ("_begun", "_ended", "_frozen", "_iterator", "_sequence")

    def __init__(self, sequence: Sequence[T], iterator: Any) -> None:
        self._sequence = sequence
        self._iterator = iterator
        self._frozen: int | None = None
        self._begun = self._ended = False

    def following(self) -> Iterator[T] | None:
        """Return the iterator while it has items."""
        if self._begun and self.stopped:
            raise Cancelled
        if self._begun and not length_hint(self._iterator):
            self._ended = True
            return None
        self._begun = True
        return cast("Iterator[T]", self._iterator)

    @property
    def done(self) -> int:
        """Items handed out, without the current one."""
        handed_out = len(self._sequence) - length_hint(self._iterator)
        # Read after the iterator: stop() sets it before it moves the iterator.
        frozen = self._frozen
        if frozen is not None:
            return frozen
        return handed_out - 1 if handed_out > 0 and not self._ended else handed_out

    @property
    def stopped(self) -> bool:
        """Whether the loop was asked to stop."""
        return self._frozen is not None

    def stop(self) -> None:
        """Exhaust the iterator, so that it stays at its end even if the list grows later."""
        if self._frozen is None:
            self._frozen = self.done
            iterator, over = self._iterator, object()
            iterator.__setstate__(len(self._sequence))
            while next(iterator, over) is not over:
                iterator.__setstate__(len(self._sequence))


def _ran_out(selector: Any) -> bool:
    # An iterator that has raised StopIteration no longer holds its list; one at its end still does.
    return len(selector.__reduce__()) < 3


class _Source(Generic[T]):
    """Yields iterators for ``chain``, and closes the loop at its end or when it is garbage collected."""

    __slots__ = ("_over", "_probe", "_run", "_scope", "_total")

    def __init__(self, run: Run, probe: Tracker[T], total: int | None) -> None:
        self._run = run
        self._probe = probe
        self._total = total
        self._scope: Scope | None = None
        self._over = False

    def __iter__(self) -> Iterator[Iterator[T]]:
        return self

    def __next__(self) -> Iterator[T]:
        run, items = self._run, None
        now = run.settings.mono()
        with run.lock:
            try:
                if self._scope is None:
                    run.stop.add(self._probe)
                    self._scope = run.progress.open_loop(self._probe, self._total, now)
                    run.stop.check()
                if not self._over:
                    items = self._probe.following()
            except Cancelled:
                self._close(complete=False)
                raise
            if items is None:
                self._close(complete=True)
                raise StopIteration
        return items

    def __del__(self) -> None:
        self._close(complete=False)

    def _close(self, *, complete: bool) -> None:
        run = self._run
        with run.lock:
            if self._scope is not None and not self._over:
                self._over = True
                run.stop.remove(self._probe)
                run.progress.close(self._scope, complete=complete)


def size_of(iterable: Iterable[object]) -> int | None:
    """Return how many items are left; None if the iterable has no length."""
    try:
        hint = length_hint(iterable, -1)
    except Exception:  # noqa: BLE001 - the loop goes on without a length
        return None
    return hint if hint >= 0 else None


def track_in(run: Run, iterable: Iterable[T], total: int | None) -> Iterator[T]:
    """Return an iterator over ``iterable`` that reports to ``run`` as a loop."""
    size = size_of(iterable)
    if total is not None:
        total = as_count(total)
    if total is None:
        total = size
    data = iter(iterable)
    if type(iterable) in _PLAIN and size is not None:
        # Not their subclasses, whose iterators may be of any kind. A range can be too long for len().
        return chain.from_iterable(_Source(run, SequenceProbe(cast("Sequence[T]", iterable), data), total))
    return chain.from_iterable(_Source(run, BlockProbe(data), total))
