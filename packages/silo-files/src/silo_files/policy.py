"""Which files a store accepts."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection
from typing import BinaryIO, Literal

from .errors import ExtensionRefused

OnConflict = Literal["replace", "error", "rename"]
"""What a save does if the name is taken: replace the older file, raise ``NameTaken``, or number the name."""

Validator = Callable[[str, BinaryIO], object]
"""Called with the name of a file and the file, open for reading. Raises ``FileRefused`` to refuse it."""


def check_limits(**limits: int | None) -> None:
    """Check the limits of a store. None means no limit.

    Raises:
        TypeError: A limit is not a number.
        ValueError: A limit is negative or NaN.
    """
    for name, limit in limits.items():
        if limit is None:
            continue
        if not isinstance(limit, (int, float)):  # a float, such as 50e6, was always accepted
            raise TypeError(f"{name} takes a number such as 50_000_000, or None for no limit, not {limit!r}")
        if not limit >= 0:  # NaN too, which would limit nothing
            raise ValueError(f"{name} must be 0 or more: {limit}")


def check_extensions(extensions: Collection[str] | None) -> tuple[str, ...] | None:
    """Return the extensions in lower case and sorted; None if all are accepted.

    Raises:
        TypeError: ``extensions`` is a str, or has an entry that is not a str.
        ValueError: One of them does not begin with a dot, or is only a dot.
    """
    if extensions is None:
        return None
    if isinstance(extensions, str):
        raise TypeError(f"extensions takes a collection such as {{'.csv'}}, not the str {extensions!r}")
    for each in extensions:
        if not isinstance(each, str):
            raise TypeError(f"an extension is a str such as '.csv', not {each!r}")
        if len(each) < 2 or not each.startswith("."):
            raise ValueError(f"an extension begins with a dot, such as '.csv': {each!r} does not")
    return tuple(sorted({unicodedata.normalize("NFC", each).lower() for each in extensions}))


def accepted_extension(name: str, extensions: tuple[str, ...]) -> str:
    """Return the longest of the ``extensions`` that the name has, as the name has it.

    Raises:
        ExtensionRefused: It has none of them, or it has a colon: NTFS would take what follows for the name of a stream,
            so that ``a.exe:.csv`` is an ``a.exe``.
    """
    lower = name.lower()
    found = [each for each in extensions if lower.endswith(each) and len(lower) > len(each)]
    if ":" in name or not found:
        raise ExtensionRefused(extensions)
    return name[-len(max(found, key=len)) :]


def check_conflict(on_conflict: str) -> None:
    """Check what a save is asked to do if its name is taken.

    Raises:
        ValueError: It is none of ``"replace"``, ``"error"`` and ``"rename"``.
    """
    if on_conflict not in ("replace", "error", "rename"):
        raise ValueError(f"on_conflict is 'replace', 'error' or 'rename', not {on_conflict!r}")
