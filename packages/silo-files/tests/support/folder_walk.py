"""Looks at a store's folder without the store."""

from __future__ import annotations

from pathlib import Path

from silo_files.names import STORED_NAME, hash_key


def area(base: Path, key: str) -> Path:
    digest = hash_key(key)
    return base / "areas" / digest[:2] / digest


def stored(base: Path, key: str | None = None) -> list[Path]:
    """Return the finished files of ``key``, or of all keys."""
    folders = [area(base, key)] if key is not None else list(base.glob("areas/??/*"))
    return [
        path for folder in folders if folder.is_dir() for path in folder.iterdir() if STORED_NAME.fullmatch(path.name)
    ]


def size(paths: list[Path]) -> int:
    return sum(path.lstat().st_size for path in paths)


def leftovers(base: Path) -> list[str]:
    """Return what a sweep must have removed: unfinished files and folders, locks of ended processes, the trash."""
    inner = ["areas/??/*/t-*", "areas/??/*/*/*.part", "trash/*", "owners/*"]
    paths = [path for pattern in inner for path in base.glob(pattern)]
    return sorted(str(path.relative_to(base)) for path in paths if path.name not in ("areas.lock", "counts"))
