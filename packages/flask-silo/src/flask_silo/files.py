"""Files that belong to a session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from silo_files import Block, FileStore, FileStoreError
from silo_store import SessionExpired, StoreUnavailable

if TYPE_CHECKING:
    from .ext import Silo

__all__ = ["FileStore", "SessionFileStore", "SessionFiles"]

logger = logging.getLogger("flask_silo")


class SessionFileStore(FileStore):
    """A `FileStore` whose files belong to one life of a session and go with it.

    Attributes:
        is_relative: whether its folder was given relative to the folder in which the process starts.
    """

    def __init__(self, silo: Silo, base_dir: str | PathLike[str], **options: Any) -> None:
        super().__init__(base_dir, key_for=silo.file_key, **options)
        self._silo = silo
        self.is_relative = not Path(base_dir).is_absolute()

    def session_dir(self, sid: str) -> str:
        """Return the folder of the session, which is begun if there is none.

        Raises:
            SessionExpired: the session ended meanwhile. Its folder is removed.
        """
        with self._life(sid) as uid:
            return self.key_dir(uid)

    def save(self, sid: str, filename: str, data: IO[bytes] | Block, *, size: int | None = None) -> str:
        """Save a file of the session, which is begun if there is none. See `FileStore.save`.

        Raises:
            SessionExpired: the session ended before the file was whole. Nothing of it stays.
            SessionRotated: another request gave the session another id before the file was whole. Nothing of it stays.
        """
        with self._life(sid) as uid:
            check = partial(self._silo.refuse_rotated, sid, uid)
            return self.save_key(uid, filename, data, size=size, check=check)

    @contextmanager
    def _life(self, sid: str) -> Iterator[str]:
        """Give the uid of the session, which is begun if there is none; remove what was made if the session has ended.

        The clean-up at the session's end may have come too early to find anything. So this looks again afterwards, also
        if the caller failed: an upload that broke off has made its folder.
        """
        uid = self._silo.begin_session(sid)
        try:
            yield uid
        except BaseException:
            try:
                self._drop_if_ended(sid, uid)
            except (OSError, FileStoreError, StoreUnavailable):  # the caller gets the error that came first
                logger.exception(
                    "the folder of a failed save could not be removed: it may stay until another process begins"
                )
            raise
        if self._drop_if_ended(sid, uid):
            raise SessionExpired(sid)

    def _drop_if_ended(self, sid: str, uid: str) -> bool:
        ended = self._silo.store.uid(sid) != uid and not self._silo.has_life(uid)
        if ended:
            self.cleanup_key(uid)
        return ended


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

    def sweep(self, has_life: Callable[[str], bool]) -> None:
        """Drop the files of sessions that ended while no process was there to see it.

        Once the sessions cannot be reached, nothing more is dropped: the next process tries again.
        """
        away = False

        def may_live(uid: str) -> bool:
            nonlocal away
            try:
                return away or has_life(uid)
            except StoreUnavailable as error:
                away = True
                logger.warning("files of sessions that have ended may stay, until another process begins: %s", error)
                return True

        for name, store in self.stores.items():
            try:
                store.sweep(may_live)
            except (OSError, FileStoreError):
                logger.exception("file store %s: could not be swept", name)
