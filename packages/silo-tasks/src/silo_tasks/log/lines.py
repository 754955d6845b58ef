"""The bounded log of one run."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, cast

from ..progress.scopes import MAX_COUNT
from ..text import MAX_LINE, cut

SHORT = 200
"""Longest text, in characters, that is kept unformatted until it is read."""

OVERHEAD = 150
"""Bytes that a line takes in addition to its text."""

FULL_LINE = OVERHEAD + sys.getsizeof("") + MAX_LINE
"""Bytes that a line of ``MAX_LINE`` ASCII characters takes."""

MIN_BUDGET = 100_000
"""Bytes that the log of a run may take even if it keeps few lines."""


class LogLine(NamedTuple):
    """One line of a task's log."""

    seq: int
    """Sequence number, unique within the task. It rises by one with each line."""
    time: float
    """When the line was written, in seconds since the epoch by the task's clock."""
    level: str
    """``"info"`` unless the caller gave another."""
    text: str
    """The formatted text, cut to ``MAX_LINE`` characters and an ellipsis."""
    public: bool = True
    """Whether clients may read the line: the task wrote it, or captured it with ``public=True``."""


class Entry:
    """A line in the log, %-formatted when first read."""

    # One attribute holds either the text or (text, args), so that a reader never sees half of a change.
    __slots__ = ("_content", "level", "public", "seq", "time")

    def __init__(self, seq: int, time: float, level: str, text: str, args: tuple[object, ...], *, public: bool) -> None:
        self.seq: int = seq
        self.time: float = time
        self.level: str = level
        self.public: bool = public
        self._content: str | tuple[str, tuple[object, ...]]
        if not args:
            self._content = cut(text)
        elif len(text) <= SHORT and len(args) <= 10 and all(map(_small, args)):
            self._content = (text, args)
        else:
            # Formatted now: a live object could change before the line is read, and the log would keep it alive.
            self._content = _format(text, args)

    @property
    def text(self) -> str:
        """The formatted text."""
        content = self._content
        if isinstance(content, tuple):
            self._content = content = _format(*content)
        return content

    @property
    def size(self) -> int:
        """Bytes that the line takes now."""
        content = self._content
        if isinstance(content, tuple):
            return OVERHEAD + sys.getsizeof(content[0]) + sum(map(sys.getsizeof, content[1]))
        return OVERHEAD + sys.getsizeof(content)


def _small(arg: object) -> bool:
    kind = type(arg)
    if kind is str:
        return len(cast("str", arg)) <= SHORT
    if kind is int:
        return -MAX_COUNT <= cast("int", arg) <= MAX_COUNT
    return kind is float or kind is bool or arg is None


def _format(text: str, args: tuple[object, ...]) -> str:
    values: object = args
    # As in the logging module: a dict as the only argument is for %(name)s.
    if len(args) == 1 and isinstance(args[0], dict) and args[0]:
        values = args[0]
    try:
        return cut(text % values)
    except Exception:  # noqa: BLE001 - a log line that cannot be formatted must not end the task
        return cut(f"{text} (arguments do not fit)")


class LogView:
    """The log of a run at one moment. Reading it later gives the same lines.

    Attributes:
        entries, start, stop: The kept lines are ``entries[start:stop]``, oldest first.
        first_seq: Number of the first line of the run.
        last_seq: Number of its last line.
        private: Number of private lines, kept or not.
        dropped: Number of lines of the run that are no longer kept.
    """

    __slots__ = ("_newest", "dropped", "entries", "first_seq", "last_seq", "private", "start", "stop")

    def __init__(
        self, entries: Sequence[Entry | LogLine], start: int, stop: int, first_seq: int, last_seq: int, private: int
    ) -> None:
        self.entries: Sequence[Entry | LogLine] = entries
        self.start: int = start
        self.stop: int = stop
        self.first_seq: int = first_seq
        self.last_seq: int = last_seq
        self.private: int = private
        self.dropped: int = last_seq - first_seq + 1 - (stop - start)
        self._newest: tuple[int, list[str]] | None = None

    def all(self) -> Sequence[Entry | LogLine]:
        """Return the kept lines, oldest first."""
        return self.entries[self.start : self.stop]

    def newest(self, count: int) -> Sequence[Entry | LogLine]:
        """Return the newest ``count`` lines, oldest first."""
        return self.entries[max(self.start, self.stop - count) : self.stop] if count > 0 else []

    def since(self, seq: int) -> list[LogLine]:
        """Return the kept lines whose number is greater than ``seq``, oldest first."""
        # If numbers are missing, this many newest lines include some that are too old.
        return [line_of(each) for each in self.newest(self.last_seq - seq) if each.seq > seq]

    def newest_texts(self, count: int) -> list[str]:
        """Return the texts of the newest ``count`` lines, oldest first. They are built once for all readers."""
        if count <= 0:
            return []
        newest = self._newest
        if newest is None or newest[0] != count:
            self._newest = newest = count, [entry.text for entry in self.newest(count)]
        return newest[1].copy()

    def texts(self) -> list[str]:
        """Return the texts of the kept lines, oldest first."""
        return [entry.text for entry in self.all()]

    def private_positions(self) -> list[int]:
        """Return the positions of the private lines among the kept ones, counted from 0."""
        return [i for i, entry in enumerate(self.all()) if not entry.public]


def line_of(entry: Entry | LogLine) -> LogLine:
    """Return a line as an immutable value."""
    return LogLine(entry.seq, entry.time, entry.level, entry.text, entry.public)


def view_of(record: Mapping[str, Any]) -> LogView:
    """Return the log that a stored record holds, as ``record["log"]`` and ``record["first_seq"]``.

    A line that does not say whether clients may read it is private.
    """
    # Without what a newer release has added.
    lines = [LogLine._make((*line, False)[:5]) for line in record.get("log", ())]
    first, last = record.get("first_seq", 1), record.get("last_seq", 0)
    return LogView(lines, 0, len(lines), first, last, record.get("private_count", 0))


class LogRing:
    """Keeps the newest ``size`` lines that fit a budget: the bytes of ``size`` ASCII lines of ``MAX_LINE`` characters.

    Lines are only appended to a list. Once the list holds twice the size or the budget, a new list with the newest
    lines replaces it. So a view consists of the list and two numbers: it is taken in constant time, and does not change
    later. At the end of a run, ``trim()`` drops all lines beyond the size and the budget.

    Args:
        size: Number of lines that are kept; 0 keeps none.
        lock: Lock of the run. Reentrant, because a garbage collection while it is held may run code that logs.
        last_seq: Sequence number of the last line before this log.

    Attributes:
        first_seq: Number of the first line of the run.
        last_seq: Number of the last line of the run.
        lock: As given.
        private: Number of private lines, kept or not.
    """

    __slots__ = ("_budget", "_entries", "_size", "_taken", "_view", "first_seq", "last_seq", "lock", "private")

    def __init__(self, size: int, lock: AbstractContextManager[object], last_seq: int = 0) -> None:
        self._size = size
        self._budget = size * FULL_LINE if size > 50 else max(size * FULL_LINE, MIN_BUDGET)
        self._taken = 0
        self._entries: list[Entry] = []
        self._view: LogView | None = None
        self.lock: AbstractContextManager[object] = lock
        self.private: int = 0
        self.first_seq: int = last_seq + 1
        self.last_seq: int = last_seq

    def append(self, time: float, level: str, text: str, args: tuple[object, ...] = (), *, public: bool = True) -> None:
        """Add a line. The arguments are formatted outside the lock."""
        entry = Entry(0, time, level, text, args, public=public)
        with self.lock:
            entry.seq = self.last_seq + 1
            self._keep(entry)
            # Last: a reader without the lock compares it with the last entry.
            self.last_seq = entry.seq

    def follow(self, view: LogView) -> None:
        """Add the new lines of the log that another process reported for the same run."""
        with self.lock:
            for line in view.since(self.last_seq):
                self._keep(Entry(line.seq, line.time, line.level, line.text, (), public=line.public))
            self.private = max(self.private, view.private)
            # Last, as in append().
            self.last_seq = max(self.last_seq, view.last_seq)

    def _keep(self, entry: Entry) -> None:
        self.private += not entry.public
        if not self._size:
            return
        if len(self._entries) >= 2 * self._size or self._taken > 2 * self._budget:
            # With the new line, so that no reader without the lock sees one line less.
            self._keep_newest(self._size - 1, entry)
        else:
            self._entries.append(entry)
        self._taken += entry.size

    def trim(self) -> None:
        """Drop the lines beyond the size and the budget, and format the others, so that none grows from now on."""
        if not self._entries:
            return
        with self.lock:
            for entry in self._entries[max(0, len(self._entries) - self._size) :]:
                entry.text  # noqa: B018 - to format it
            self._keep_newest(self._size)

    def _keep_newest(self, count: int, *added: Entry) -> None:
        """Keep up to ``count`` of the newest lines that fit the budget, the newest one in any case, and those added."""
        entries, taken = self._entries, 0
        start = stop = len(entries)
        while start and stop - start < count:
            size = entries[start - 1].size
            if taken + size > self._budget and start < stop:
                break
            start, taken = start - 1, taken + size
        self._entries, self._taken = [*entries[start:], *added], taken
        self._view = None

    def view(self) -> LogView:
        """Return the log at this moment: the same view until a line is added.

        Takes no lock unless a thread is adding a line, or no line or a private one is kept.
        """
        entries, view, last = self._entries, self._view, self.last_seq
        stop = len(entries)
        if view is not None and view.entries is entries and view.stop == stop and view.last_seq == last:
            return view
        if stop and not self.private and entries[stop - 1].seq == last:
            self._view = view = LogView(entries, max(0, stop - self._size), stop, self.first_seq, last, 0)
            if self._entries is not entries:
                # They were replaced meanwhile, and must not be kept alive.
                self._view = None
            return view
        with self.lock:
            entries = self._entries
            stop = len(entries)
            start = max(0, stop - self._size)
            self._view = view = LogView(entries, start, stop, self.first_seq, self.last_seq, self.private)
            return view
