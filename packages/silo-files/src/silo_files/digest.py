"""Digests of files, as text such as ``sha256:9f86d0...``."""

from __future__ import annotations

import hashlib
from typing import Any, BinaryIO

from .source import BLOCK_SIZE


def new_hash(algorithm: str) -> Any:
    """Return a new hash object of ``hashlib``.

    Raises:
        ValueError: ``hashlib`` has no such algorithm, or its digests have no fixed length.
    """
    try:
        made = hashlib.new(algorithm.lower(), usedforsecurity=False)
    except ValueError:
        made = None
    if made is None or not made.digest_size:
        raise ValueError(f"hashlib has no digest {algorithm!r}: give a name such as 'sha256'")
    return made


def digest_of(file: BinaryIO, algorithm: str) -> str:
    """Read ``file`` to its end. Return ``algorithm`` and the hexadecimal digest of what was read, with a colon between.

    Raises:
        ValueError: ``hashlib`` has no such algorithm.
    """
    made = new_hash(algorithm)
    while block := file.read(BLOCK_SIZE):
        made.update(block)
    return f"{algorithm.lower()}:{made.hexdigest()}"
