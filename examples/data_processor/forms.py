"""The form of a CSV text: how its cells are separated. DuckDB detects it and reads the text.

The text is one that ``decoding.texts()`` returned: in UTF-8, with a line feed after each line.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

DELIMITERS = (",", ";", "\t", "|", " ")
MAX_LINE = 1 << 20  # bytes
MAX_MISFITS = 10_000
BATCH = 5_000
# DuckDB downloads no extension and writes no file.
CONFIG: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "memory_limit": "512MB",
    "temp_directory": "",
}
NO_CHARACTER = "(empty)"
WRONG_LENGTH = ("MISSING COLUMNS", "TOO MANY COLUMNS")
EXPLAINED = {
    "UNQUOTED VALUE": "has a quotation mark that is never closed, or text after a closing one.",
    "LINE SIZE OVER MAXIMUM": "has more than {most} bytes. Perhaps a quotation mark is not closed.",
}


READ = (
    "read_csv($path, auto_detect = false, header = false, columns = $columns, delim = $delimiter, quote = $quote, "
    "escape = $escape, skip = $skip, new_line = '\\n', max_line_size = $line, hive_partitioning = false, "
    "store_rejects = true, rejects_limit = $misfits)"
)


class BadCsv(ValueError):
    """The file cannot be processed. The message says why, for the user who chose it."""


@dataclass(frozen=True)
class Form:
    """How the cells of a text are separated.

    Attributes:
        delimiter: The character between two cells.
        quote: The character around a quoted cell.
        escape: The character before a quotation mark in a quoted cell.
        width: Number of cells in a row.
        skip: Number of lines above the first row.
    """

    delimiter: str
    quote: str
    escape: str
    width: int
    skip: int


@dataclass(frozen=True)
class Sniffed:
    """What DuckDB has detected in a text.

    Attributes:
        form: The text's form.
        has_header: Whether a header follows the skipped lines.
        types: The type of each column, by its name in SQL.
    """

    form: Form
    has_header: bool
    types: list[str]

    @property
    def typed(self) -> float:
        """The share of columns whose type is more specific than text, 0 to 1."""
        return sum(kind != "VARCHAR" for kind in self.types) / len(self.types)


def sniff(path: Path, delimiter: str | None = None, header: int | None = None) -> Sniffed:
    """Detect the form of a text.

    A comma between digits may separate cells or be a decimal mark. The form that has more columns of numbers wins.

    Args:
        path: The text.
        delimiter: The character between two cells; None to detect it.
        header: The number of the line with the column names, 0 for none; None to detect it.

    Raises:
        BadCsv: No form fits the text.
    """
    given: dict[str, Any] = {} if header is None else {"header": header > 0, "skip": max(0, header - 1)}
    with connected() as database:
        found = _sniff(database, path, given | ({"delim": delimiter} if delimiter else {}))
        others = {delimiter} if delimiter else {found.form.delimiter, *DELIMITERS[1:4]}
        for other in others - {","}:
            try:
                candidate = _sniff(database, path, given | {"delim": other, "decimal_separator": ","})
            except BadCsv:
                continue
            if candidate.typed > found.typed and (candidate.form.width > 1 or other == found.form.delimiter):
                found = candidate
    return found


def below(path: Path, form: Form, line: int) -> Form:
    """Return the form of the rows below a line that has another number of cells."""
    with connected() as database:
        found = _sniff(database, path, {"delim": form.delimiter, "header": False, "skip": line})
    return replace(found.form, skip=line)


def rows(path: Path, form: Form, wanted: Sequence[int] | None = None) -> Rows:
    """Return the rows of a text, with all cells or with those at the ``wanted`` positions."""
    return Rows(path, form, range(form.width) if wanted is None else wanted)


class Rows:
    """The rows of a text, without blank ones and without those that have more or fewer cells than the form says.

    Iterating raises ``BadCsv`` for any other fault.

    Attributes:
        misfits: The line numbers of rows with another number of cells, once all rows were read.
    """

    def __init__(self, path: Path, form: Form, wanted: Sequence[int]) -> None:
        self.misfits: list[int] = []
        self._path, self._form, self._wanted = path, form, wanted

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        names = [f"c{at}" for at in range(self._form.width)]
        cells = ", ".join(f"coalesce({names[at]}, '')" for at in self._wanted)
        query = f"SELECT {cells} FROM {READ} WHERE coalesce({', '.join(names)}) IS NOT NULL"  # noqa: S608  # our names
        with connected() as database:
            found = database.execute(query, _options(self._path, self._form))
            while batch := found.fetchmany(BATCH):
                yield from batch
            self.misfits = _misfits(database, self._form.width)


def first_row(path: Path, form: Form, line: int) -> list[str]:
    """Return the cells of the row that begins in a line, whatever their number."""
    wide = replace(form, width=2 * form.width + 10, skip=line - 1)
    query = f"FROM {READ[:-1]}, null_padding = true, parallel = false, nullstr = '\x01') LIMIT 1"
    with connected() as database:
        found = database.execute(query, _options(path, wide)).fetchone()
    return [cell for cell in found or () if cell is not None]


@contextmanager
def connected() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database in memory that downloads nothing. Its errors about a text become ``BadCsv``."""
    database = duckdb.connect(config=CONFIG)
    try:
        yield database
    except duckdb.InvalidInputException as error:
        raise BadCsv("The file cannot be read as CSV with this separator.") from error
    except duckdb.OutOfMemoryException as error:
        raise BadCsv(
            "The rows of the file are too large: they have too many columns, or their cells are too long."
        ) from error
    finally:
        database.close()


def _options(path: Path, form: Form) -> dict[str, Any]:
    return {
        "path": glob.escape(str(path)),
        "columns": {f"c{at}": "VARCHAR" for at in range(form.width)},
        "delimiter": form.delimiter,
        "quote": form.quote,
        "escape": form.escape,
        "skip": form.skip,
        "line": MAX_LINE,
        "misfits": MAX_MISFITS,
    }


def _sniff(database: duckdb.DuckDBPyConnection, path: Path, options: dict[str, Any]) -> Sniffed:
    """Detect strictly first, to find a preamble. If that fails, tolerate rows with another number of cells."""
    try:
        strict = _ask(database, path, options)
    except duckdb.InvalidInputException:
        strict = None
    if strict and strict.form.width > 1:
        return strict
    try:
        lenient = _ask(database, path, options | {"ignore_errors": True})
    except duckdb.InvalidInputException as error:
        if strict is None:
            raise BadCsv("No separator divides all rows of this file into the same number of cells.") from error
        return strict
    return lenient if strict is None or lenient.form.width > 1 else strict


def _ask(database: duckdb.DuckDBPyConnection, path: Path, options: dict[str, Any]) -> Sniffed:
    given = "".join(f", {name} = ${name}" for name in options)
    query = f"SELECT Delimiter, Quote, Escape, SkipRows, HasHeader, Columns FROM sniff_csv($path{given})"  # noqa: S608
    found = database.execute(query, options | {"path": glob.escape(str(path))}).fetchone()
    assert found is not None
    delimiter, quote, escape, skip, has_header, columns = found
    quote = '"' if quote == NO_CHARACTER else quote
    escape = quote if escape == NO_CHARACTER else escape
    form = Form(delimiter, quote, escape, len(columns), skip)
    return Sniffed(form, has_header, [str(column["type"]) for column in columns])


def _misfits(database: duckdb.DuckDBPyConnection, width: int) -> list[int]:
    """Return the lines that DuckDB skipped because they have another number of cells. Any other reason is an error."""
    query = "SELECT line, any_value(error_type::VARCHAR), count(*) FROM reject_errors GROUP BY line ORDER BY line"
    found = database.execute(query).fetchall()
    for line, reason, _ in found:
        if reason not in WRONG_LENGTH:
            explained = EXPLAINED.get(reason, f"cannot be read: {reason.lower()}.").format(most=MAX_LINE)
            raise BadCsv(f"Line {line} {explained}")
    if sum(count for _, _, count in found) >= MAX_MISFITS:
        raise BadCsv(
            f"Too many rows do not have {width} cells, the first in line {found[0][0]}. Is the separator right?"
        )
    return [line for line, _, _ in found]
