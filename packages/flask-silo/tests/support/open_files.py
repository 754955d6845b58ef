"""The files of file stores that this process has open."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

DESCRIPTORS = Path("/proc/self/fd")


def open_files() -> int | None:
    """Return how many files of file stores this process has open; None if the system has no /proc to count them in."""
    if not DESCRIPTORS.is_dir():
        return None
    links = []
    for each in DESCRIPTORS.iterdir():
        with suppress(FileNotFoundError):
            links.append(str(each.readlink()))
    return sum("/areas/" in link for link in links)
