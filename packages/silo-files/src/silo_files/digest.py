"""Digests of files, as text such as ``sha256:9f86d0...``."""

from __future__ import annotations

import hashlib
from string import hexdigits
from typing import Any, BinaryIO

from .backend import Block
from .errors import DigestMismatch
from .source import BLOCK_SIZE


def new_hash(algorithm: str) -> Any:
    """Return a new hash object of ``hashlib``.

    Raises:
        ValueError: ``hashlib`` has no such algorithm, or its digests have no fixed length.
    """
    try:
        made = hashlib.new(algorithm.lower(), usedforsecurity=False)
    except (TypeError, ValueError):  # OpenSSL takes no NUL and no lone surrogate
        made = None
    if made is None or not made.digest_size:
        raise ValueError(f"hashlib has no digest {algorithm!r}: give a name such as 'sha256'")
    return made


class Expected:
    """A digest that a file must have.

    Args:
        digest: The algorithm, a name that ``hashlib`` knows, a colon, and the hexadecimal digest.

    Attributes:
        text: The digest, in lower case.

    Raises:
        ValueError: It is not a digest.
    """

    __slots__ = ("_hash", "_name", "text")

    def __init__(self, digest: str) -> None:
        name, colon, value = digest.lower().partition(":")
        self._hash = new_hash(name if colon else "sha256")
        self._name = name
        self.text: str = f"{name}:{value}"
        if not colon or len(value) != 2 * self._hash.digest_size or not set(value) <= set(hexdigits):
            raise ValueError(f"{digest!r} is not a digest: give 'sha256:' followed by 64 hexadecimal digits")

    def add(self, block: Block) -> None:
        """Take in the next bytes of the file."""
        self._hash.update(block)

    def read(self, file: BinaryIO) -> None:
        """Take in the bytes of a file."""
        while block := file.read(BLOCK_SIZE):
            self._hash.update(block)

    def check(self) -> None:
        """Compare what was taken in.

        Raises:
            DigestMismatch: The bytes have another digest.
        """
        actual = f"{self._name}:{self._hash.hexdigest()}"
        if actual != self.text:
            raise DigestMismatch(self.text, actual)


def digest_of(file: BinaryIO, algorithm: str) -> str:
    """Read ``file`` to its end. Return ``algorithm`` and the hexadecimal digest of what was read, with a colon between.

    Raises:
        ValueError: ``hashlib`` has no such algorithm.
    """
    made = new_hash(algorithm)
    while block := file.read(BLOCK_SIZE):
        made.update(block)
    return f"{algorithm.lower()}:{made.hexdigest()}"
