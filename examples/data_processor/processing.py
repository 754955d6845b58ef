"""The work of the demo: check a CSV file and summarise it by groups. Independent of HTTP and sessions.

The file is read row by row, several times; only the groups are kept in memory. A row with more or fewer cells than
there are columns is left out and counted, and so is a cell that is not a number. Numbers keep all their digits.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from decimal import Context, Decimal, Inexact
from pathlib import Path
from typing import Any, BinaryIO

from decoding import BLOCK, texts
from forms import MAX_LINE, BadCsv, rows
from marks import MISSING, Marks, is_ambiguous, is_marked, is_number
from reading import MAX_LABEL, Table
from silo_tasks import current_task, step, track

logger = logging.getLogger("data_processor")
logger.setLevel(logging.INFO)  # The client of the task sees these lines.

LOGGED = 5
SHOWN = 50
MAX_PLAIN = 30
# A formula begins at the start of a cell, or after a character that separates cells in another locale.
# https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = re.compile(r"(?:^|(?<=[;\t]))(?=[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")
MEASURES = ("count", "sum", "mean", "min", "max")
# Sums are exact: ``Marks.number()`` accepts no number that needs more digits than these.
EXACT = Context(prec=1000, traps=[Inexact])
MEAN = Context(prec=15)
# The largest integer that JavaScript reads exactly. The page gets larger ones as text.
MAX_SAFE_INTEGER = 2**53 - 1

Opener = Callable[[], BinaryIO]
Number = int | float | str


class Recoded:
    """A file-like object with a text in UTF-8, as DuckDB reads it."""

    def __init__(self, blocks: Iterable[str]) -> None:
        self._blocks = (block.encode() for block in blocks if block)

    def read(self, _size: int = -1) -> bytes:
        """Return the next block, of any size; empty at the end."""
        return next(self._blocks, b"")


Keep = Callable[[Recoded], Path]


@dataclass
class Group:
    """The running totals of the rows with the same value in the chosen column."""

    rows: int = 0
    numbers: int = 0
    total: Decimal = Decimal(0)
    low: Decimal = Decimal("Infinity")
    high: Decimal = Decimal("-Infinity")

    def add(self, number: Decimal) -> None:
        """Add a number to the totals."""
        self.numbers += 1
        self.total = EXACT.add(self.total, number)
        self.low = min(self.low, number)
        self.high = max(self.high, number)

    def measure(self, how: str) -> Decimal | None:
        """Return the group's result; None if the group has no numbers."""
        if how == "count":
            return Decimal(self.rows)
        if not self.numbers:
            return None
        if how == "mean":
            return MEAN.divide(self.total, self.numbers).normalize(MEAN)
        return {"sum": self.total, "min": self.low, "max": self.high}[how]


@dataclass(frozen=True)
class Job:
    """What to do with a file.

    Attributes:
        by: Position of the column to group by.
        value: Position of the column to measure; None to count rows only.
        how: One of ``MEASURES``.
        max_groups: Number of groups at which the work fails.
    """

    by: int
    value: int | None
    how: str
    max_groups: int


@dataclass
class Checked:
    """The result of checking every row.

    Attributes:
        rows: Number of rows that can be used.
        skipped: Number of rows with another number of cells.
        numbers: Number of cells that are numbers.
        missing: Number of cells without a value.
        odd: Number of other cells that are not numbers.
        ambiguous: Number of cells that may be read in two ways.
    """

    rows: int = 0
    skipped: int = 0
    numbers: int = 0
    missing: int = 0
    odd: int = 0
    ambiguous: int = 0


def run(open_file: Opener, size: int, table: Table, job: Job, keep: Keep) -> tuple[dict[str, Any], bytes]:
    """Do the job, as steps of the running task if there is one.

    Args:
        open_file: Opens the uploaded file.
        size: Its size in bytes.
        table: How to read it.
        job: What to do with it.
        keep: Stores the file's text in UTF-8. Returns its path.

    Returns:
        A summary, and the result as CSV.

    Raises:
        BadCsv: The file cannot be processed.
    """
    task = current_task()
    if task:
        task.plan(("Read", 1), ("Validate", 2), ("Aggregate", 3), ("Write", 1))
    with step("Read"):
        path, lines = recode(open_file, size, table, keep)
        logger.info("The file has about %d lines", lines)
    with step("Validate"):
        if task:
            task.update(message="Row {n} of about {total}")
        checked = validate(path, table, job, lines)
    with step("Aggregate"):
        if task:
            task.update(message="Row {n} of {total}")
        groups = aggregate(path, table, job, checked.rows)
    with step("Write"):
        names = [table.columns[job.by], "rows"]
        if job.value is not None:
            names.append(f"{job.how} of {table.columns[job.value]}")
        ranking = ranked(groups, job.how)
        result = write(names, (row[: len(names)] for row in ranking), len(ranking))
    shown = [(label, count, as_json(measure)) for label, count, measure in ranking[:SHOWN]]
    return asdict(checked) | {"names": names, "how": job.how, "groups": len(ranking), "shown": shown}, result


def recode(open_file: Opener, size: int, table: Table, keep: Keep) -> tuple[Path, int]:
    """Decode the whole file. Return the path of its text and the number of its lines.

    Line lengths are checked here, because DuckDB silently skips a line longer than its buffer, 32 times the limit.
    """
    lines, begun = 1, 0  # length of the current line in the previous blocks

    def blocks() -> Iterator[str]:
        nonlocal lines, begun
        for text in track(texts(file, table.encoding), total=math.ceil(size / BLOCK)):
            if "\0" in text:
                line = lines + text.count("\n", 0, text.index("\0"))
                raise BadCsv(f"There is a NUL byte in line {line}. This is not a text file.")
            begun += len(text.partition("\n")[0])
            if begun > MAX_LINE:
                raise BadCsv(f"Line {lines} has more than {MAX_LINE} bytes. Perhaps a quotation mark is not closed.")
            if "\n" in text:
                begun = len(text) - text.rindex("\n") - 1
            lines += text.count("\n")
            yield text

    with open_file() as file:
        path = keep(Recoded(blocks()))
    return path, lines


def validate(path: Path, table: Table, job: Job, lines: int) -> Checked:
    """Check every row."""
    checked, undecided = Checked(), table.chosen.decimal is None and table.chosen.thousands is None
    column = job.by if job.value is None else job.value
    reader, marks = rows(path, table.form, [column]), table.column_marks[column]
    for (cell,) in track(reader, total=lines):
        checked.rows += 1
        if job.value is None:
            continue
        if marks.number(cell) is not None:
            checked.numbers += 1
            if undecided and is_ambiguous(cell):
                checked.ambiguous += 1
            elif undecided:
                undecided = not is_marked(cell)
        elif cell.strip().lower() in MISSING:
            checked.missing += 1
        else:
            checked.odd += 1
            if checked.odd <= LOGGED:
                logger.warning("Row %d of the data: %r is not a number", checked.rows, cell[:40])
    checked.skipped = len(reader.misfits)
    for line in reader.misfits[:LOGGED]:
        logger.warning("Line %d is left out, because it does not have %d cells", line, table.form.width)
    if not undecided:
        checked.ambiguous = 0
    logger.info("%d rows can be used, %d are left out", checked.rows, checked.skipped)
    if job.value is not None and not checked.numbers:
        raise BadCsv(f"The column “{table.columns[job.value]}” has no numbers.")
    return checked


def aggregate(path: Path, table: Table, job: Job, total: int) -> dict[str, Group]:
    """Return the groups of the rows, by label."""
    groups: dict[str, Group] = {}
    name = table.columns[job.by]
    marks = Marks() if job.value is None else table.column_marks[job.value]
    reader = rows(path, table.form, [job.by] if job.value is None else [job.by, job.value])
    for row, (by, *values) in enumerate(track(reader, total=total), 1):
        label = by.strip()
        group = groups.get(label)
        if group is None:
            if len(groups) >= job.max_groups:
                raise BadCsv(f"The column “{name}” has more than {job.max_groups} different values. Choose another.")
            if len(label) > MAX_LABEL:
                raise BadCsv(
                    f"Row {row} of the data: the value in “{name}” is too long to group by. Choose another column."
                )
            group = groups[label] = Group()
        group.rows += 1
        for value in values:
            number = marks.number(value)
            if number is not None:
                group.add(number)
    logger.info("%d rows are in %d groups", total, len(groups))
    return groups


def ranked(groups: dict[str, Group], how: str) -> list[tuple[str, int, Decimal | None]]:
    """Return the groups as rows of the result, largest first: label, number of rows, measure."""
    ranking = [(label, group.rows, group.measure(how)) for label, group in groups.items()]
    return sorted(ranking, key=lambda row: (row[2] is None, -(row[2] or 0), row[0]))


def as_json(number: Decimal | None) -> Number | None:
    """Return a number for JSON, or as text if JavaScript would read another number."""
    if number is None:
        return None
    if number == number.to_integral_value() and abs(number) <= MAX_SAFE_INTEGER:
        return int(number)
    nearest = float(number)
    return nearest if Decimal(repr(nearest)) == number else as_text(number)


def as_text(number: Decimal) -> str:
    """Return a number with all its digits, without an exponent unless it would be too long."""
    return f"{number:f}" if abs(number.adjusted()) < MAX_PLAIN else str(number)


def write(header: list[str], lines: Iterable[tuple[Any, ...]], total: int) -> bytes:
    """Return a result as a CSV file in which no cell is a formula to a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(map(harmless, header))
    writer.writerows(map(harmless, line) for line in track(lines, total))
    return text.getvalue().encode()


def harmless(cell: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would execute. Numbers stay as they are."""
    if isinstance(cell, Decimal):
        return as_text(cell)
    return FORMULA.sub("'", cell) if isinstance(cell, str) and not is_number(cell) else cell
