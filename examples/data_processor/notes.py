"""Notes on a file, shown to the user before the work begins: what was decided, and what is ambiguous."""

from __future__ import annotations

from collections.abc import Sequence

from decoding import Decoded
from forms import Form
from marks import Understood, is_ambiguous

LISTED = 3
WORDS = {".": "a point", ",": "a comma", " ": "a space", "'": "an apostrophe"}


def on_text(decoded: Decoded, *, guessed: bool) -> list[str]:
    """Return notes on how the text is decoded."""
    name = "UTF-8" if decoded.encoding == "utf-8" else decoded.encoding
    said = [f"The text is not UTF-8. It is read as {name}."] if guessed and decoded.encoding != "utf-8" else []
    if decoded.replaced == 1:
        said.append(f"One character, in line {decoded.line}, is not {name}. It is replaced by “\ufffd”.")
    elif decoded.replaced:
        count = f"{decoded.replaced} characters, the first in line {decoded.line}, are not {name}."
        said.append(f"{count} Each is replaced by “\ufffd”.")
    return said


def on_lines(header: int, form: Form, first: int, misfits: list[int]) -> list[str]:
    """Return notes on lines that are not rows. ``first`` is the number of the first line that could be one."""
    said = [] if header else ["The file has no header, so the columns are numbered."]
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
    """Return notes on ambiguous numbers, and on columns with other marks than the rest of the file."""
    said = []
    if understood.ambiguous:
        at = understood.ambiguous[0]
        example = next(cell for cell in cells[at] if is_ambiguous(cell)).strip()
        names = listed([columns[at] for at in understood.ambiguous])
        read = understood.columns[at].number(example)
        said.append(
            f"Numbers like {example} in {names} are ambiguous: the mark can be a decimal mark or a thousands mark. "
            f"{example} is read as {read}. If that is wrong, choose the marks."
        )
    other = [
        at for at, marks in enumerate(understood.columns) if marks != understood.file and at not in understood.ambiguous
    ]
    for marks in dict.fromkeys(understood.columns[at] for at in other):
        names = listed([columns[at] for at in other if understood.columns[at] == marks])
        grouped = f"the thousands mark is {WORDS[marks.thousands]}" if marks.thousands else "there is no thousands mark"
        said.append(f"In {names}, the decimal mark is {WORDS[marks.decimal]}, and {grouped}.")
    return said


def listed(names: list[str]) -> str:
    """Return the first few names in quotation marks, as one phrase."""
    shown = [f"“{name}”" for name in names[:LISTED]]
    if len(names) > LISTED:
        shown.append(f"{len(names) - LISTED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
