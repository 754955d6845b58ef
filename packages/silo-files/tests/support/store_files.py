"""What tests look for in a store."""

from __future__ import annotations

from pathlib import Path

from silo_files import FileStore


def content(store: FileStore, name: str, sid: str = "sid") -> bytes:
    with store.open(sid, name) as file:
        return file.read()


def parts(store: FileStore) -> list[Path]:
    """Return the unfinished files anywhere in the store."""
    return list(Path(store.base_dir).rglob("*.part"))
