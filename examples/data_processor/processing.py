"""What the demo does with a CSV file: check it and sum it up. Knows nothing of HTTP or sessions.

The file is read row by row, several times; only the groups are kept in memory. A row with more or fewer cells than
there are columns is skipped and counted; a cell that is no number is left out and counted.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

from reading import MAX_LABEL, MISSING, BadCsv, Table, read_rows, to_number
from silo_tasks import current_task, step, track

logger = logging.getLogger("data_processor")
logger.setLevel(logging.INFO)  # The task shows these lines to its client; nobody else has to.

BLOCK = 1 << 20
LOGGED = 5
SHOWN = 50
# Where a formula begins: at the start of a cell, or after a separator of cells in a spreadsheet of another language.
# https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = re.compile(r"(?:^|(?<=[;\t]))(?=[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")
MEASURES = ("count", "sum", "mean", "min", "max")

Opener = Callable[[], BinaryIO]


@dataclass
class Group:
    """What is kept of the rows that have one value in the chosen column."""

    rows: int = 0
    numbers: int = 0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, number: float) -> None:
        """Take one number in."""
        self.numbers += 1
        self.total += number
        self.low = min(self.low, number)
        self.high = max(self.high, number)

    def measure(self, how: str) -> float | None:
        """The number for this group; None where there is none, or it is too large to be one."""
        if how == "count":
            return self.rows
        if not self.numbers:
            return None
        value = {"sum": self.total, "mean": self.total / self.numbers, "min": self.low, "max": self.high}[how]
        return float(f"{value:.12g}") if math.isfinite(value) else None


@dataclass(frozen=True)
class Job:
    """What is asked of a file: columns by their position, None where only rows are counted."""

    by: int
    value: int | None
    how: str
    max_groups: int


@dataclass
class Checked:
    """What a look at every row has shown."""

    rows: int = 0
    skipped: int = 0
    numbers: int = 0
    missing: int = 0
    odd: int = 0


def run(open_file: Opener, size: int, table: Table, job: Job) -> tuple[dict[str, Any], bytes]:
    """Do the job, as steps of the running task if there is one; return a summary and the result as CSV."""
    task = current_task()
    if task:
        task.plan(("Read", 1), ("Validate", 2), ("Aggregate", 3), ("Write", 1))
    with step("Read"):
        table, lines = scan(open_file, size, table)
        logger.info("The file has about %d lines", lines)
    with step("Validate"):
        if task:
            task.update(message="Row {n} of about {total}")
        checked = validate(open_file, table, job, lines)
    with step("Aggregate"):
        if task:
            task.update(message="Row {n} of {total}")
        groups = aggregate(open_file, table, job, checked.rows)
    with step("Write"):
        names = [table.columns[job.by], "rows"]
        if job.value is not None:
            names.append(f"{job.how} of {table.columns[job.value]}")
        rows = ranked(groups, job.how)
        result = write(names, (row[: len(names)] for row in rows), len(rows))
    return asdict(checked) | {"names": names, "how": job.how, "groups": len(rows), "shown": rows[:SHOWN]}, result


def scan(open_file: Opener, size: int, table: Table) -> tuple[Table, int]:
    """Read the whole file once; return the table, its encoding now certain, and the number of lines."""
    decoder = codecs.getincrementaldecoder(table.encoding)()
    encoding, lines = table.encoding, 1
    with open_file() as file:
        for block in track(iter(lambda: file.read(BLOCK), b""), total=math.ceil(size / BLOCK)):
            if b"\0" in block:
                line = lines + block[: block.index(b"\0")].count(b"\n")
                raise BadCsv(f"There is a NUL byte in line {line}. This is not a text file.")
            lines += max(block.count(b"\n"), block.count(b"\r"))
            try:
                decoder.decode(block, final=file.tell() == size)
            except UnicodeDecodeError:
                encoding, decoder = "latin-1", codecs.getincrementaldecoder("latin-1")()
                logger.info("The text is not UTF-8. It is read as Latin-1.")
    return replace(table, encoding=encoding), lines


def validate(open_file: Opener, table: Table, job: Job, lines: int) -> Checked:
    """Look at every row."""
    checked, width, value = Checked(), len(table.columns), job.value
    with open_file() as file:
        for number, cells in track(read_rows(file, table), total=lines):
            if len(cells) != width:
                checked.skipped += 1
                if checked.skipped <= LOGGED:
                    logger.warning("Row %d is skipped. Its cells: %d, not %d", number, len(cells), width)
                continue
            checked.rows += 1
            if value is None:
                continue
            if to_number(cells[value], table.delimiter) is not None:
                checked.numbers += 1
            elif cells[value].strip().lower() in MISSING:
                checked.missing += 1
            else:
                checked.odd += 1
                if checked.odd <= LOGGED:
                    logger.warning("Row %d: %r is not a number", number, cells[value][:40])
    logger.info("%d rows can be used, %d are skipped", checked.rows, checked.skipped)
    if not checked.rows:
        raise BadCsv(f"No row has the {width} cells that the first one has.")
    if value is not None and not checked.numbers:
        raise BadCsv(f"The column “{table.columns[value]}” holds no numbers.")
    return checked


def aggregate(open_file: Opener, table: Table, job: Job, rows: int) -> dict[str, Group]:
    """Sum the rows up, group by group."""
    groups: dict[str, Group] = {}
    width, value, name = len(table.columns), job.value, table.columns[job.by]
    with open_file() as file:
        fitting = ((number, cells) for number, cells in read_rows(file, table) if len(cells) == width)
        for row, cells in track(fitting, total=rows):
            label = cells[job.by].strip()
            group = groups.get(label)
            if group is None:
                if len(groups) >= job.max_groups:
                    raise BadCsv(
                        f"The column “{name}” has more than {job.max_groups} different values. Choose another."
                    )
                if len(label) > MAX_LABEL:
                    raise BadCsv(f"Row {row}: the value in “{name}” is too long to group by. Choose another column.")
                group = groups[label] = Group()
            group.rows += 1
            number = None if value is None else to_number(cells[value], table.delimiter)
            if number is not None:
                group.add(number)
    logger.info("%d rows are in %d groups", rows, len(groups))
    return groups


def ranked(groups: dict[str, Group], how: str) -> list[tuple[str, int, float | None]]:
    """The groups as rows of a result, largest first: label, number of rows, measure."""
    rows = [(label, group.rows, group.measure(how)) for label, group in groups.items()]
    return sorted(rows, key=lambda row: (row[2] is None, -(row[2] or 0), row[0]))


def write(header: list[str], rows: Iterable[tuple[Any, ...]], total: int) -> bytes:
    """Make a CSV file of a result. A spreadsheet takes none of its cells for a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(map(harmless, header))
    writer.writerows(map(harmless, row) for row in track(rows, total))
    return text.getvalue().encode()


def harmless(cell: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would execute; numbers stay as they are."""
    if not isinstance(cell, str) or to_number(cell, ";") is not None:
        return cell
    return FORMULA.sub("'", cell)
