"""What a person is told of a file before the work begins: sentences for what was decided, and for what stays open."""

from __future__ import annotations

from collections.abc import Sequence

from decoding import Decoded
from forms import Form
from marks import Understood, is_ambiguous

LISTED = 3
WORDS = {"": "nothing", ".": "a point", ",": "a comma", " ": "a space", "'": "an apostrophe"}


def on_text(decoded: Decoded, *, guessed: bool) -> list[str]:
    """Say how the characters are read."""
    name = "UTF-8" if decoded.encoding == "utf-8" else decoded.encoding
    said = [f"The text is not UTF-8. It is read as {name}."] if guessed and decoded.encoding != "utf-8" else []
    if decoded.replaced == 1:
        said.append(f"One character, in line {decoded.line}, is not {name}. It is replaced by “\ufffd”.")
    elif decoded.replaced:
        count = f"{decoded.replaced} characters, the first in line {decoded.line}, are not {name}."
        said.append(f"{count} Each is replaced by “\ufffd”.")
    return said


def on_lines(header: int, form: Form, first: int, misfits: list[int]) -> list[str]:
    """Say which lines are no rows. The first line that could be one is `first`."""
    said = [] if header else ["No line holds names, so the columns are numbered."]
    above = (header or form.skip + 1) - first
    what = "the header" if header else "the first row"
    if above == 1:
        said.append(f"One line above {what} is left out.")
    elif above > 1:
        said.append(f"{above} lines above {what} are left out.")
    if misfits:
        count = "One row does" if len(misfits) == 1 else f"{len(misfits)} rows do"
        said.append(f"{count} not have {form.width} cells, see line {misfits[0]}. Such rows are left out and counted.")
    return said


def on_numbers(columns: list[str], cells: Sequence[Sequence[str]], understood: Understood) -> list[str]:
    """Say which numbers could be others, and in which columns they are written in another way than in the rest."""
    said = []
    if understood.ambiguous:
        at = understood.ambiguous[0]
        example = next(cell for cell in cells[at] if is_ambiguous(cell)).strip()
        names = listed([columns[at] for at in understood.ambiguous])
        read = understood.columns[at].number(example)
        said.append(
            f"The mark in numbers like {example}, in {names}, could group digits or stand before decimals. "
            f"It is read as {read}. Choose the marks if that is wrong."
        )
    other = [
        at for at, marks in enumerate(understood.columns) if marks != understood.file and at not in understood.ambiguous
    ]
    for marks in dict.fromkeys(understood.columns[at] for at in other):
        names = listed([columns[at] for at in other if understood.columns[at] == marks])
        said.append(
            f"In {names}, {WORDS[marks.decimal]} stands before decimals, and {WORDS[marks.thousands]} groups digits."
        )
    return said


def listed(names: list[str]) -> str:
    """The first of some names, in quotation marks."""
    shown = [f"“{name}”" for name in names[:LISTED]]
    if len(names) > LISTED:
        shown.append(f"{len(names) - LISTED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
