"""The place of the file of ``SQLiteBackend``, checked before the first session."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import StoreUnavailable

BESIDE = ("", "-wal", "-shm", "-locks")
"""Suffixes of the names of all files that SQLite and the backend keep there."""


def prepare(path: str) -> None:
    """Create the folder of a session database if its parent exists, for its owner alone. Creates no file.

    Args:
        path: The database.

    Raises:
        StoreUnavailable: No session can be kept there. The message says why, and what to do.
    """
    file = Path(os.path.realpath(path))
    folder = file.parent
    if not folder.exists() and folder.parent.is_dir():
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unusable(
                file,
                f"its folder {folder} cannot be created ({error.strerror}): create it for the user of this process",
            ) from error
    if not folder.is_dir():
        missing = f"there is no folder {folder}, and its parent is not a folder either"
        what = f"{folder} is not a folder" if folder.exists() else missing
        raise _unusable(file, f"{what}: create the folder, or name another one (sqlite:////var/lib/app/sessions.db)")
    if file.is_dir():
        raise _unusable(file, f"it is a folder: name a file in it (sqlite:///{file}/sessions.db)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unusable(file, f"this process may not write to the folder {folder}: give it to the user of this process")
    for each in (file.with_name(file.name + ending) for ending in BESIDE):
        if each.exists() and not os.access(each, os.R_OK | os.W_OK):
            raise _unusable(file, f"this process may not write to {each}: give that file to the user of this process")


def _unusable(file: Path, why: str) -> StoreUnavailable:
    return StoreUnavailable(f"the session database {file} cannot be used: {why}")
