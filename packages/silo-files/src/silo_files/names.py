"""Checks keys and file names, and makes the hashes that paths consist of."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha256

from .errors import InvalidFileName, InvalidKey

MAX_KEY_LENGTH = 512
"""Longest accepted key, in characters."""

MAX_NAME_BYTES = 255
"""Longest accepted file name, in bytes of UTF-8 after normalisation."""

# Normalising takes time in proportion to the length, so a name far too long is refused first.
_MAX_RAW_NAME = 4 * MAX_NAME_BYTES
# Most of these patterns take long to compile, so that happens when a name first needs them. Plain ASCII names never do.
_BAD_IN_KEY = "[\x00\ud800-\udfff]"
# ASCII and C1 control characters, path separators of all systems, line and paragraph separators, characters that change
# the writing direction, lone surrogates.
_BAD_IN_NAME = "[\x00-\x1f\x7f-\x9f/\\\\\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
# Joiners are part of emoji and Persian words, tags of the flags of regions. Other format characters are refused.
_JOINERS = "\u200c\u200d"
_FLAG = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f"
# Letters, marks and symbols that are invisible: fillers, variation selectors, the empty Braille pattern.
_BLANK = (
    "[.\\s\u200c\u200d\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]*"
)
# ISO superscript digits count as digits in Windows device names.
_DEVICE = re.compile("(?:CON|PRN|AUX|NUL|CONIN\\$|CONOUT\\$|(?:COM|LPT)[1-9\u00b9\u00b2\u00b3]) *(?:[.:]|$)", re.I)
_NOT_PORTABLE = '[\x00-\x1f\x7f<>:"/\\\\|?*\ud800-\udfff]|[. ]+\\Z'
_LONGEST_EXTENSION = 32
STORED_NAME = re.compile(r"[0-9a-f]{32}(?:\.[a-z0-9]{1,16})?")
"""Matches what ``hash_name`` returns."""


def check_key(key: str) -> str:
    """Return ``key`` if it can name an area.

    Raises:
        InvalidKey: The key is not a str of 1 to ``MAX_KEY_LENGTH`` characters, or it contains NUL or a lone surrogate.
            The message does not show the key, which may be a secret.
    """
    if not isinstance(key, str):
        raise InvalidKey(f"its type is {type(key).__name__}, not str")
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidKey(f"it has {len(key)} characters, and 1 to {MAX_KEY_LENGTH} are allowed")
    if ("\x00" in key or not key.isascii()) and (bad := re.search(_BAD_IN_KEY, key)):
        raise InvalidKey(_describe(bad))
    return key


def check_name(name: str) -> str:
    """Return ``name`` in Unicode form NFC if it is safe to store.

    Any normal Unicode is accepted, emoji too. So are characters that only Windows refuses, such as ``:`` or ``?``: call
    ``portable_names()`` before a name leaves the store, in a download or an archive.

    Raises:
        InvalidFileName: The name is empty or has only dots, spaces and invisible characters. Or it contains a separator
            (``/``, ``\\``), a control character (NUL, CR, LF ...), a character that is invisible or changes the writing
            direction, or a lone surrogate. Or it begins with a space, ends with a dot or a space, is a device name on
            Windows (``CON``, ``NUL.txt`` ...), or has more than ``MAX_NAME_BYTES`` bytes of UTF-8. The message gives
            the reason and never the name.
    """
    if not isinstance(name, str):
        raise InvalidFileName(f"its type is {type(name).__name__}, not str")
    if len(name) > _MAX_RAW_NAME:
        raise InvalidFileName(f"it has {len(name)} characters, which is too long")
    name = unicodedata.normalize("NFC", name)
    plain = name.isascii() and name.isprintable() and "/" not in name and "\\" not in name
    if not name.strip(". ") or (not plain and re.fullmatch(_BLANK, name)):
        raise InvalidFileName("it is empty, or has only dots, spaces and invisible characters")
    if not plain and (bad := re.search(_BAD_IN_NAME, name)):
        raise InvalidFileName(_describe(bad))
    if not name.isascii():
        _refuse_invisible(name)
    if name[0].isspace() or name[-1].isspace() or name[-1] == ".":
        raise InvalidFileName("it begins with a space, or ends with a dot or a space")
    if _DEVICE.match(name):
        raise InvalidFileName("it is a device name on Windows")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidFileName(f"it has more than {MAX_NAME_BYTES} bytes of UTF-8")
    return name


def portable_names(names: Iterable[str]) -> dict[str, str]:
    """Map each name to one under which any system can save the file. All results differ, also if case is ignored.

    Characters that Windows refuses become ``_``: ``< > : " / \\ | ? *``, control characters, a dot or a space at the
    end. A device name gets a ``_`` in front. A name of more than ``MAX_NAME_BYTES`` bytes is cut before its extension.
    Results that would be equal are numbered: ``a_b.txt``, ``a_b (2).txt``. Names that need no change take precedence.

    Args:
        names: Names of files, such as ``FileStore.list_files()`` returns.

    Returns:
        The portable name for each name, in the order of ``names``.
    """
    wanted = {name: _portable(name) for name in names}
    found: dict[str, str] = {}
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    for name, portable in sorted(wanted.items(), key=lambda item: item[0] != item[1]):
        alike = portable.casefold()
        while portable.casefold() in taken:
            numbers[alike] += 1
            portable = _fit(wanted[name], f" ({numbers[alike] + 1})")
        taken.add(portable.casefold())
        found[name] = portable
    return {name: found[name] for name in wanted}


def free_name(name: str, is_taken: Callable[[str], bool], extension: str | None = None) -> str:
    """Return ``name``, or if it is taken ``name`` with a number that is free, such as ``a (2).txt``.

    Numbers are as ``portable_names()`` gives them. If they have gaps, that may be a number after a gap. The questions
    grow with the logarithm of the number.

    Args:
        name: A name that ``check_name()`` has returned.
        is_taken: Returns whether a name is taken.
        extension: The end of the name that stays as it is; None for what follows its last dot, if that is short.

    Raises:
        InvalidFileName: The extension leaves no room for a number.
    """
    if not is_taken(name):
        return name

    def numbered(number: int) -> str:
        return check_name(_fit(name, f" ({number})", extension))

    taken, free = 1, 2
    while is_taken(numbered(free)):
        taken, free = free, 2 * free
    while free - taken > 1:
        middle = (taken + free) // 2
        taken, free = (middle, free) if is_taken(numbered(middle)) else (taken, middle)
    return numbered(free)


# One save needs the same hash several times.
@lru_cache(maxsize=1024)
def hash_key(key: str) -> str:
    """Return the name of the folder of ``key``: 64 hexadecimal digits."""
    # Only a damaged journal has lone surrogates.
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


# A listing hashes the name of every file. The cache has room for about 5 MB of names.
@lru_cache(maxsize=16_384)
def hash_name(name: str) -> str:
    """Return the name on disk of the file ``name``: 32 hexadecimal digits and, if harmless, its extension."""
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    stem, _, extension = name.rpartition(".")
    extension = extension.lower()
    if stem and len(extension) <= 16 and extension.isascii() and extension.isalnum():
        return f"{digest}.{extension}"
    return digest


def _portable(name: str) -> str:
    name = re.sub(_NOT_PORTABLE, "_", name) or "_"
    return _fit("_" + name if _DEVICE.match(name) else name)


def _fit(name: str, suffix: str = "", extension: str | None = None) -> str:
    """Return ``name`` with ``suffix`` before its extension and its stem cut so that all fits ``MAX_NAME_BYTES``."""
    dot = name.rfind(".") if extension is None else len(name) - len(extension)
    if extension is None and (dot < 1 or len(name[dot:].encode()) > _LONGEST_EXTENSION):
        dot = len(name)
    stem, end = name[:dot], suffix + name[dot:]
    room = MAX_NAME_BYTES - len(end.encode())
    if len(stem.encode()) > room:
        stem = stem.encode()[:room].decode(errors="ignore")
        # A joiner that the cut left at the end is removed too.
        while stem and (stem[-1] in ". " or unicodedata.category(stem[-1]) == "Cf"):
            stem = stem[:-1]
    return (stem or "_") + end


def _refuse_invisible(name: str) -> None:
    for char in re.sub(_FLAG, "", name):
        if unicodedata.category(char) == "Cf" and char not in _JOINERS:
            raise InvalidFileName(f"it contains U+{ord(char):04X}, which is invisible")


def _describe(bad: re.Match[str]) -> str:
    return f"it contains U+{ord(bad.group()):04X} at position {bad.start()}"
