"""Files that belong to a session."""

from __future__ import annotations

import logging
from collections.abc import Callable
from os import PathLike
from typing import IO, TYPE_CHECKING, Any

from silo_files import Block, FileStore, FileStoreError
from silo_store import SessionStore

if TYPE_CHECKING:
    from .ext import Silo

__all__ = ["FileStore", "SessionFileStore", "SessionFiles"]

logger = logging.getLogger("flask_silo")


class SessionFileStore(FileStore):
    """A `FileStore` whose files belong to one life of a session and go with it."""

    def __init__(self, silo: Silo, base_dir: str | PathLike[str], **options: Any) -> None:
        super().__init__(base_dir, key_for=silo.file_key, **options)
        self._begin: Callable[[str], object] = silo.begin_session

    def session_dir(self, sid: str) -> str:
        """Return the session's folder, begun if there is none."""
        self._begin(sid)
        return super().session_dir(sid)

    def save(self, sid: str, filename: str, data: IO[bytes] | Block, **options: Any) -> str:
        """Save a file of the session, which is begun if there is none. See `FileStore.save`."""
        self._begin(sid)
        return super().save(sid, filename, data, **options)


class SessionFiles:
    """The file stores of a `Silo`, by name."""

    def __init__(self) -> None:
        self.stores: dict[str, SessionFileStore] = {}

    def end(self, uid: str) -> None:
        """Drop the files of a session that ended."""
        for name, store in self.stores.items():
            try:
                store.cleanup_key(uid)
            except (OSError, FileStoreError):
                logger.exception("file store %s: the files of an ended session are still there", name)

    def sweep(self, sessions: SessionStore) -> None:
        """Drop the files of sessions that ended while no process was there to see it."""
        for name, store in self.stores.items():
            try:
                store.sweep(sessions.has_life)
            except (OSError, FileStoreError):
                logger.exception("file store %s: could not be swept", name)
