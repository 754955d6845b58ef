"""Reads CSV files as people have them: any usual delimiter, UTF-8 or Latin-1, with a header or without.

What is wrong with a file is either tolerated or refused with a `BadCsv` that says where. Tolerated here: a missing or
repeated column name gets another one; text that is not UTF-8 is read as Latin-1. Refused: a file that is empty or no
text, one without rows, a quotation mark that is never closed, and whatever goes over the limits below.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

SAMPLE = 1 << 16
MAX_LINE = 1 << 20
MAX_COLUMNS = 1000
MAX_LABEL = 500
PREVIEW = 5
MAX_NOTES = 5
DELIMITERS = ",;\t|"
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


class BadCsv(ValueError):
    """The file cannot be processed. The text says why, for the person who chose it."""


@dataclass(frozen=True)
class Table:
    """How to read a file, and what its columns are."""

    columns: list[str]
    numeric: list[str]
    preview: list[list[str]]
    delimiter: str
    encoding: str
    has_header: bool
    notes: list[str]


def inspect(file: BinaryIO) -> Table:
    """Find out from a file's beginning how to read it."""
    head = file.read(SAMPLE)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadCsv("The file is encoded as UTF-16. Save it as UTF-8 and try again.")
    if b"\0" in head or len(CONTROLS.findall(head)) * 50 > len(head):
        raise BadCsv("This is not a text file.")
    if not head.removeprefix(codecs.BOM_UTF8).strip():
        raise BadCsv("The file is empty.")
    encoding = "utf-8-sig" if head.startswith(codecs.BOM_UTF8) else "utf-8"
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        encoding = "latin-1"
    delimiter = _delimiter(head.decode(encoding, "ignore"), whole=len(head) < SAMPLE)
    file.seek(0)
    rows = _cells(file, encoding, delimiter, errors="replace")
    first = next(rows, (0, []))[1]
    if len(first) > MAX_COLUMNS:
        raise BadCsv(f"The file has {len(first)} columns. Up to {MAX_COLUMNS} can be processed.")
    has_header = any(to_number(cell) is None for cell in first)
    columns, notes = _names(first if has_header else [""] * len(first))
    if not has_header:
        notes = ["The first row holds only numbers, so the columns are numbered."]
    if encoding == "latin-1":
        notes.append("The text is not UTF-8. It is read as Latin-1.")
    sample = [cells for _, cells in islice(rows, 50)]
    preview = (sample if has_header else [first, *sample])[:PREVIEW]
    if not preview:
        raise BadCsv("The file has column names, but no rows.")
    fitting = [cells for cells in sample if len(cells) == len(first)]
    numeric = [name for at, name in enumerate(columns) if _mostly_numbers([cells[at] for cells in fitting], delimiter)]
    short = [[cell[:80] for cell in cells[: len(first)]] for cells in preview]
    return Table(columns, numeric, short, delimiter, encoding, has_header, notes)


def read_rows(file: BinaryIO, table: Table) -> Iterator[tuple[int, list[str]]]:
    """Yield each row below the header that is not blank, with its number: 1 is the first row of the file."""
    rows = _cells(file, table.encoding, table.delimiter)
    return islice(rows, 1, None) if table.has_header else rows


def _cells(file: BinaryIO, encoding: str, delimiter: str, errors: str = "strict") -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank with its number, which counts from 1 and includes blank ones."""
    number = 0
    with io.TextIOWrapper(file, encoding, errors, newline="") as text:
        try:
            for number, cells in enumerate(csv.reader(_lines(text), delimiter=delimiter, strict=True), 1):
                if cells:
                    yield number, cells
        except csv.Error as error:
            raise BadCsv(f"Row {number + 1} {_explained(str(error))}") from error


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise csv.Error("line too long")
        yield line


def _explained(error: str) -> str:
    if "unexpected end" in error:
        return "has a quotation mark that is never closed."
    if "expected after" in error:
        return "has text after a closing quotation mark."
    if "field larger" in error:
        return f"has a cell of more than {csv.field_size_limit()} characters. Perhaps a quotation mark is not closed."
    if "too long" in error:
        return f"has a line of more than {MAX_LINE} characters."
    return f"cannot be read: {error}."


def _delimiter(text: str, *, whole: bool) -> str:
    """Choose the character that parts most lines into the same number of cells, more than one."""

    def score(delimiter: str) -> tuple[float, int]:
        rows = [row for row in islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 50) if row]
        widths = Counter(len(row) for row in (rows if whole else rows[:-1] or rows))
        width, lines = widths.most_common(1)[0] if widths else (1, 0)
        return (lines / widths.total(), width) if width > 1 else (0, 1)

    return max(DELIMITERS, key=score)


def _names(cells: list[str]) -> tuple[list[str], list[str]]:
    """Give each column a name of its own, and say where that needed a change."""
    given = [cell.strip() for cell in cells]
    taken, used = set(given), set[str]()
    tries: Counter[str] = Counter()
    names: list[str] = []
    notes: list[str] = []
    for at, wanted in enumerate(given, 1):
        base = name = wanted[:MAX_LABEL] or f"Column {at}"
        while name in used or (name != wanted and name in taken):
            tries[base] += 1
            name = f"{base} ({tries[base] + 1})"
        used.add(name)
        names.append(name)
        if name != wanted:
            what = "has the name of another" if wanted else "has no name"
            notes.append(f"Column {at} {what}. It is called “{name}” here.")
    if len(notes) > MAX_NOTES:
        notes = [f"{len(notes)} columns have no name of their own. They got one."]
    return names, notes


def to_number(text: str, delimiter: str = ",") -> float | None:
    """The finite number that a cell holds, or None."""
    if delimiter == ";":
        text = text.replace(",", ".")  # Where commas do not part cells, they part decimals.
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def _mostly_numbers(cells: list[str], delimiter: str) -> bool:
    values = [cell for cell in cells if cell.strip().lower() not in MISSING]
    return bool(values) and sum(to_number(value, delimiter) is not None for value in values) * 2 > len(values)
