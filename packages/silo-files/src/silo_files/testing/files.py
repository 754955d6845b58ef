"""Saves files in a backend and reads them, as the suites do."""

from __future__ import annotations

from ..backend import FileBackend


def put(backend: FileBackend, key: str, name: str, *blocks: bytes) -> str:
    """Save ``blocks`` as one file. Return its location."""
    staged = backend.stage(key, name)
    for block in blocks:
        staged.write(block)
    staged.finish()
    return staged.commit()


def content(backend: FileBackend, key: str, name: str) -> bytes:
    """Return the bytes of a saved file."""
    file, _ = backend.open(key, name)
    with file:
        return file.read()
