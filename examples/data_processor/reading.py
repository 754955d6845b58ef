"""How a CSV file is read. Each point is detected and shown to the user, who can change it.

A fault in a file is either tolerated and named in ``Table.notes``, or refused with a ``BadCsv`` that says where it is.
A file that is empty, is not text, has no rows or exceeds the limits below is refused.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any, BinaryIO

import notes
from decoding import ENCODINGS, Decoded, examine, texts
from forms import DELIMITERS, MAX_LINE, BadCsv, Form, Sniffed, below, first_row, rows, sniff
from marks import DECIMALS, MISSING, THOUSANDS, Marks, is_number, understand

HEAD = 1 << 20  # characters from which a file's form is detected
SAMPLE = 1000
SAMPLE_CELLS = 50_000
MAX_COLUMNS = 1000
MAX_LABEL = 500
MAX_HEADER = 1000
MAX_SHOWN = 80
PREVIEW = 5
MAX_NOTES = 5
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
# Excel reads and writes such a first line if the separator is not the default of the locale.
SEPARATOR_LINE = re.compile(r"""sep=([^\w\s"'\\]|[\t ])(?=\n)""", re.IGNORECASE)


@dataclass(frozen=True)
class Chosen:
    """What a user has chosen for a file. None means that the point is detected.

    Attributes:
        delimiter: The character between two cells.
        decimal: The decimal mark.
        thousands: The mark between groups of three digits; "" for none.
        header: The number of the line with the column names; 0 for none.
        encoding: The encoding, as Python names it.
    """

    delimiter: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    header: int | None = None
    encoding: str | None = None

    @classmethod
    def checked(cls, given: Any) -> Chosen:
        """Return the choice that a client has sent.

        Raises:
            ValueError: The data is not a valid choice. The message says what is.
        """
        if not isinstance(given, dict):
            raise ValueError("Send a JSON object.")
        for name, value in given.items():
            if name not in CHOICES:
                raise ValueError(f"Choose one of: {', '.join(CHOICES)}.")
            if value is not None and (value not in CHOICES[name] or isinstance(value, bool | float)):
                raise ValueError(f"This value cannot be chosen as {name}.")
        chosen = cls(**given)
        if chosen.decimal and chosen.decimal == chosen.thousands:
            raise ValueError("The decimal mark and the thousands mark must differ.")
        return chosen


CHOICES = {
    "delimiter": DELIMITERS,
    "decimal": DECIMALS,
    "thousands": THOUSANDS,
    "header": range(MAX_HEADER + 1),
    "encoding": ENCODINGS,
}


@dataclass(frozen=True)
class Table:
    """How to read a file, and what its columns are."""

    columns: list[str]
    numeric: list[str]
    preview: list[list[str]]
    form: Form
    header: int  # number of the line with the names; 0 for none
    encoding: str
    marks: Marks  # of the file as a whole
    column_marks: list[Marks]
    notes: list[str]  # what the user should know before starting
    chosen: Chosen

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, which a session can keep and the page can get as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Table:
        """Return the table that ``to_dict()`` was called on."""
        marks = [Marks(**each) for each in data["column_marks"]]
        parts = {"form": Form(**data["form"]), "marks": Marks(**data["marks"]), "chosen": Chosen(**data["chosen"])}
        return cls(**data | parts | {"column_marks": marks})


def inspect(file: BinaryIO, chosen: Chosen | None = None) -> Table:
    """Detect how to read a file. All of it is decoded once, and its first part is examined more closely.

    Raises:
        BadCsv: The file cannot be read as CSV, or not as chosen.
    """
    chosen = known = chosen or Chosen()
    decoded = examine(file, chosen.encoding)
    head = _head(file, decoded.encoding)
    said = SEPARATOR_LINE.match(head)
    if said:
        head = head[said.end() :]
        known = replace(known, delimiter=known.delimiter or said[1])
    if head.strip("\n").count("\n") + 1 <= (known.header or 0):
        raise BadCsv(f"The file has no rows below line {known.header}.")
    if known.header and not head.split("\n", known.header)[known.header - 1].strip():
        raise BadCsv(f"Line {known.header} has no names.")
    with tempfile.TemporaryDirectory(prefix="silo-demo-") as folder:
        path = Path(folder) / "head.csv"
        path.write_bytes(head.encode())
        return replace(_table(path, decoded, known, first_line=2 if said else 1), chosen=chosen)


def _head(file: BinaryIO, encoding: str) -> str:
    """Return the first part of a file's text, up to the end of a row."""
    blocks = texts(file, encoding)
    first = next(blocks, "")
    head, more = first[:HEAD], first[HEAD:] or next(blocks, "")
    if len(CONTROLS.findall(head)) * 50 > len(head):
        raise BadCsv("This is not a text file.")
    if not head.strip():
        raise BadCsv("The file is empty.")
    if more:
        if "\n" not in head:
            raise BadCsv(f"Line 1 has more than {MAX_LINE} bytes. This is not a CSV file.")
        head = _whole_rows(head)
    return head


def _whole_rows(text: str) -> str:
    """Cut a text after the last line that does not end inside a quoted cell.

    A quotation mark that stands for inches does not open a quoted cell. So if the cut would leave less than half of the
    text, the marks are ignored.
    """
    at = end = marks = 0
    for line in text.split("\n")[:-1]:
        at += len(line) + 1
        marks += line.count('"')
        if marks % 2 == 0:
            end = at
    return text[: end if end > at // 2 else at]


def _table(path: Path, decoded: Decoded, known: Chosen, first_line: int) -> Table:
    sniffed = sniff(path, known.delimiter, known.header)
    if sniffed.form.width > MAX_COLUMNS:
        raise BadCsv(f"The file has {sniffed.form.width} columns. Up to {MAX_COLUMNS} can be processed.")
    header, names = _header(path, sniffed, known.header)
    form = replace(sniffed.form, skip=header or max(sniffed.form.skip, first_line - 1))
    reader = rows(path, form)
    sample = list(reader)
    if header and not sample and reader.misfits:
        form = below(path, form, header)
        reader = rows(path, form)
        sample = list(reader)
    del sample[max(50, min(SAMPLE, SAMPLE_CELLS // form.width)) :]
    if not sample:
        raise BadCsv("The file has column names, but no rows." if header else "The file has no rows.")
    names, length = _fitted(names, form, header)
    cells = list(zip(*sample, strict=True))
    understood = understand(cells, form.delimiter, known.decimal, known.thousands)
    numeric = [_mostly_numbers(column, marks) for column, marks in zip(cells, understood.columns, strict=True)]
    # A row of numbers with grouped digits looks like a row of names at first.
    if known.header is None and any(is_number(name) for name in compress(names, numeric)):
        return _table(path, decoded, replace(known, header=0), first_line)
    columns, renamed = _named(names) if header else ([f"Column {at}" for at in range(1, form.width + 1)], [])
    said = [
        *notes.on_text(decoded, guessed=known.encoding is None),
        *notes.on_lines(header, form, first_line, reader.misfits),
        *(length or renamed),
        *notes.on_numbers(columns, cells, understood),
    ]
    return Table(
        columns=columns,
        numeric=list(compress(columns, numeric)),
        preview=[[cell[:MAX_SHOWN] for cell in row] for row in sample[:PREVIEW]],
        form=form,
        header=header,
        encoding=decoded.encoding,
        marks=understood.file,
        column_marks=understood.columns,
        notes=said,
        chosen=known,
    )


def _header(path: Path, sniffed: Sniffed, chosen: int | None) -> tuple[int, list[str]]:
    """Return the line number of the header, 0 for none, and the names in it."""
    form = sniffed.form
    line = form.skip + 1 if sniffed.has_header else 0
    if form.skip and chosen is None and (not line or sniffed.typed == 0):
        # R writes row names without a column name above them.
        above = first_row(path, form, form.skip)
        if len(above) == form.width - 1 and all(above):
            return form.skip, above
    return line, first_row(path, form, line) if line else []


def _fitted(names: list[str], form: Form, line: int) -> tuple[list[str], list[str]]:
    """Return the name of each column, "" for none, and notes about a header with another number of cells."""
    if names and len(names) == form.width - 1 and all(names):
        said = f"Line {line} has one name fewer than the rows have cells. The first column is taken to have no name."
        if form.delimiter == ",":
            said += " Choose another separator if the comma is a decimal mark."
        return ["", *names], [said]
    over = f"Line {line} has more names than the rows have cells. The last ones are ignored."
    return [*names, *[""] * form.width][: form.width], [over] if any(names[form.width :]) else []


def _named(cells: list[str]) -> tuple[list[str], list[str]]:
    """Return a different name for each column, and notes about those that were changed."""
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
            what = "has the same name as another" if wanted else "has no name"
            notes.append(f"Column {at} {what}. It is called “{name}” here.")
    if len(notes) > MAX_NOTES:
        notes = [f"{len(notes)} columns have no name of their own and were given one."]
    return names, notes


def _mostly_numbers(cells: Iterable[str], marks: Marks) -> bool:
    values = [cell for cell in cells if cell.strip().lower() not in MISSING]
    return bool(values) and sum(marks.number(value) is not None for value in values) * 2 > len(values)
