"""Detects the encoding of an uploaded file and decodes its text.

Line ends become line feeds. A byte order mark at the beginning and a Ctrl-Z at the end are dropped. A byte that is
invalid in the encoding becomes "�" and is counted; the file is not refused for it.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from charset_normalizer import CharsetMatches, from_bytes

# Encodings that are tried for a file that is not UTF-8, the likeliest first; and those that a user can choose.
GUESSED = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1257", "cp850", "koi8_r"),
    *("shift_jis", "gb18030", "big5", "euc_kr"),
)
ENCODINGS = (
    *("utf-8", *GUESSED, "utf-16", "utf-16-le", "utf-16-be"),
    *("euc_jp", "iso8859_2", "cp852", "cp866", "cp874", "cp1255", "cp1256", "mac_roman"),
)
WESTERN = GUESSED[0]
# The bytes that are defined in that encoding and are not letters.
SIGNS = bytes(
    code for code in range(0x80, 0x100) if (sign := bytes([code]).decode(WESTERN, "ignore")) and not sign.isalpha()
)
BLOCK = 1 << 20
EVIDENCE = 1 << 16
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# How much noisier a text may be in a likelier encoding than in the best guess: 0 is readable, 1 is noise.
LENIENCE = 0.15
MIN_LETTERS = 3  # fewer are no evidence
LAST_MARK = re.compile(r"\x1a\s*\Z")


@dataclass(frozen=True)
class Decoded:
    """The result of decoding a whole file.

    Attributes:
        encoding: The encoding, as Python names it.
        replaced: Number of characters that were invalid and replaced.
        line: Number of the first line with a replaced character; 0 if there is none.
        good: Number of valid characters outside ASCII.
    """

    encoding: str
    replaced: int = 0
    line: int = 0
    good: int = 0


def examine(file: BinaryIO, encoding: str | None = None) -> Decoded:
    """Read a whole file and detect its encoding, unless it is given.

    A file is UTF-8 unless it has more invalid characters than valid ones outside ASCII.
    """
    start = file.read(EVIDENCE)
    if encoding:
        return _decode(file, encoding)
    marked = next((name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), _unmarked(start))
    found = _decode(file, marked or "utf-8")
    if marked or found.replaced <= found.good:
        return found
    return _decode(file, _likeliest(file))


def texts(file: BinaryIO, encoding: str) -> Iterator[str]:
    """Yield a file's text from its beginning, in blocks of about 1 MiB, with line feeds as line ends."""
    codec = "utf-8-sig" if encoding == "utf-8" else encoding
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(codec)("replace"), translate=True)
    file.seek(0)
    held = ""
    while block := file.read(BLOCK):
        if held:
            yield held
        held = decoder.decode(block)
    held += decoder.decode(b"", final=True)
    yield LAST_MARK.sub("", held)


def _decode(file: BinaryIO, encoding: str) -> Decoded:
    replaced = line = good = 0
    lines = 1
    for text in texts(file, encoding):
        if not text.isascii():
            odd = text.count("\ufffd")
            if odd and not replaced:
                line = lines + text.count("\n", 0, text.index("\ufffd"))
            replaced += odd
            good += len(text) - odd - len(text.encode("ascii", "ignore"))
        lines += text.count("\n")
    return Decoded(encoding, replaced, line, good)


def _unmarked(start: bytes) -> str | None:
    """Detect UTF-16 without a byte order mark: most characters of a table are ASCII, with NUL as one of two bytes."""
    for name, high, low in (("utf-16-le", start[1::2], start[::2]), ("utf-16-be", start[::2], start[1::2])):
        if high.count(0) * 2 > len(high) and 0 not in low:
            return name
    return None


def _likeliest(file: BinaryIO) -> str:
    """Return the likeliest encoding of the lines that have more than ASCII.

    Text that is readable as Western is taken as Western: most such files are, and much of it looks as good in another
    encoding. Signs such as "€" do not count, because the library takes them for noise.
    """
    file.seek(0)
    odd = (line for line in iter(lambda: file.readline(EVIDENCE), b"") if not line.isascii())
    evidence = b"".join(islice(odd, 1000))[:EVIDENCE]
    best = _matches(evidence, list(GUESSED)).best()
    letters = evidence.translate(None, delete=SIGNS)
    if len(letters) - len(letters.decode("ascii", "ignore")) < MIN_LETTERS:
        return WESTERN
    western = _matches(letters, [WESTERN]).best()
    if western and (best is None or (western.chaos <= best.chaos + LENIENCE and western.coherence >= best.coherence)):
        return WESTERN
    return best.encoding if best else WESTERN


def _matches(evidence: bytes, encodings: list[str]) -> CharsetMatches:
    return from_bytes(evidence, threshold=1, cp_isolation=encodings)
