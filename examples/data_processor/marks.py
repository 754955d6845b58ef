"""Detects how numbers are written: with which decimal mark, and with which mark between groups of digits.

Each column is decided by its own cells: "1.084.831" can only be a grouped whole number, "12,50" can only have decimals.
A cell like "331.885" can be either. If nothing else in the column or the file decides, such cells are read with
decimals and the column is reported as ambiguous. The exception is a comma that also separates cells: it groups digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import islice, product

DECIMALS = (".", ",")
THOUSANDS = ("", ".", ",", " ", "'")
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
EVIDENCE = 200  # cells of a column that are examined
# Variants of the marks: spaces that do not break a line, the typographic apostrophe, the minus sign.
VARIANTS = str.maketrans({"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2019": "'", "\u2212": "-"})
MARKED = re.compile(r"[0-9][., '][0-9]")
AMBIGUOUS = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")
# Exact sums of numbers beyond these limits would need thousands of digits.
MAX_LENGTH = 100
MAX_EXPONENT = 300


@dataclass(frozen=True)
class Marks:
    """The decimal mark, and the mark between groups of three digits ("" for none)."""

    decimal: str = "."
    thousands: str = ""

    def number(self, cell: str) -> Decimal | None:
        """Return the number in a cell, with all its digits; None if it is not a number."""
        text = plain(cell)
        if len(text) > MAX_LENGTH or not _pattern(self.decimal, self.thousands).fullmatch(text):
            return None
        if self.thousands:
            text = text.replace(self.thousands, "")
        number = Decimal(text if self.decimal == "." else text.replace(self.decimal, "."))
        return number if abs(number.adjusted()) <= MAX_EXPONENT else None


@dataclass(frozen=True)
class Understood:
    """The marks of the file, the marks of each column, and the positions of ambiguous columns."""

    file: Marks
    columns: list[Marks]
    ambiguous: list[int]


def plain(cell: str) -> str:
    """Return a cell without spaces around it, with the variants of marks replaced by plain characters."""
    text = cell.strip()
    return text if text.isascii() else text.translate(VARIANTS)


def is_ambiguous(cell: str) -> bool:
    """Return whether a cell could be a grouped whole number as well as a number with three decimals."""
    return AMBIGUOUS.fullmatch(plain(cell)) is not None


def is_marked(cell: str) -> bool:
    """Return whether a cell has a mark between two digits."""
    return MARKED.search(plain(cell)) is not None


def is_number(cell: str) -> bool:
    """Return whether a cell is a number with any pair of marks."""
    return any(Marks(*pair).number(cell) is not None for pair in product(DECIMALS, THOUSANDS) if pair[0] != pair[1])


def understand(
    columns: Sequence[Iterable[str]], delimiter: str, decimal: str | None = None, thousands: str | None = None
) -> Understood:
    """Detect the marks of each column from some of its cells. A mark that is given is not detected."""
    pairs = product([decimal] if decimal else DECIMALS, THOUSANDS if thousands is None else [thousands])
    choices = [Marks(*pair) for pair in pairs if pair[0] != pair[1]]
    # If several fit, the first is taken.
    usual = "," if delimiter == ";" else "."
    choices.sort(key=lambda marks: (marks.decimal == delimiter, marks.thousands != "", marks.decimal != usual))
    cells = [list(islice(filter(MARKED.search, map(plain, column)), EVIDENCE)) for column in columns]
    fitting = [_fitting(column, choices) for column in cells]
    ambiguous = [at for at, column in enumerate(cells) if _differs(column, fitting[at])]
    decided, possible = list[Marks](), list[Marks]()
    for at in (at for at, column in enumerate(cells) if column):
        (possible if at in ambiguous else decided).extend(fitting[at])
    file = max(choices, key=lambda marks: (decided.count(marks), possible.count(marks)))
    return Understood(file, [file if file in found else found[0] for found in fitting], ambiguous)


def _fitting(cells: list[str], choices: list[Marks]) -> list[Marks]:
    """Return the choices with which most cells are numbers."""
    scores = [sum(marks.number(cell) is not None for cell in cells) for marks in choices]
    return [marks for marks, score in zip(choices, scores, strict=True) if score == max(scores)]


def _differs(cells: list[str], fitting: list[Marks]) -> bool:
    """Return whether a cell is not the same number with each of the choices."""
    numbers = ({marks.number(cell) for marks in fitting} - {None} for cell in cells)
    return any(len(found) > 1 for found in numbers)


@cache
def _pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    grouped = f"[1-9][0-9]{{0,2}}(?:{re.escape(thousands)}[0-9]{{3}})+|" if thousands else ""
    point = re.escape(decimal)
    return re.compile(f"[+-]?(?:(?:{grouped}[0-9]+)(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?")
