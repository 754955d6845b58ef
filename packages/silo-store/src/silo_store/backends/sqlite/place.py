"""Where the file of `SQLiteBackend` shall lie, looked at before the first session."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import StoreUnavailable

BESIDE = ("", "-wal", "-shm", "-locks")
"""How the names of the files end that lie there."""


def prepare(path: str) -> None:
    """Make the folder of a session database if only that is missing, for its owner alone. Makes no file.

    Args:
        path: the database.

    Raises:
        StoreUnavailable: no session could be kept there. The message says why, and what to do.
    """
    file = Path(os.path.realpath(path))
    folder = file.parent
    if not folder.exists() and folder.parent.is_dir():
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unusable(
                file, f"its folder {folder} cannot be made ({error.strerror}): make it for the user of this process"
            ) from error
    if not folder.is_dir():
        what = f"{folder} is no folder" if folder.exists() else f"there is no folder {folder}, and none above it"
        raise _unusable(file, f"{what}: make the folder, or name another one (sqlite:////var/lib/app/sessions.db)")
    if file.is_dir():
        raise _unusable(file, f"it is a folder: name a file in it (sqlite:///{file}/sessions.db)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unusable(file, f"this process may not write to the folder {folder}: give it to the user of this process")
    for each in (file.with_name(file.name + ending) for ending in BESIDE):
        if each.exists() and not os.access(each, os.R_OK | os.W_OK):
            raise _unusable(file, f"this process may not write to {each}: give that file to the user of this process")


def _unusable(file: Path, why: str) -> StoreUnavailable:
    return StoreUnavailable(f"the session database {file} cannot be used: {why}")
