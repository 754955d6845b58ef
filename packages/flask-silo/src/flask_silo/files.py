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
from silo_store import SessionExpired, SessionRotated, StoreUnavailable

if TYPE_CHECKING:
    from .ext import Silo

__all__ = ["FileStore", "SessionFileStore", "SessionFiles"]

logger = logging.getLogger("flask_silo")


class SessionFileStore(FileStore):
    """A ``FileStore`` whose files belong to one life of a session and are deleted when it ends.

    Attributes:
        is_relative: Whether the folder was given as a relative path, which depends on where the process starts.
    """

    def __init__(self, files: SessionFiles, base_dir: str | PathLike[str], **options: Any) -> None:
        super().__init__(base_dir, key_for=files.key, **options)
        self._files = files
        self.is_relative: bool = not Path(base_dir).is_absolute()

    def session_dir(self, sid: str) -> str:
        """Return the folder of a session. A session that does not exist yet begins.

        Raises:
            SessionExpired: The session ended meanwhile. The folder is removed.
        """
        with self._life(sid) as uid:
            return self.key_dir(uid)

    def save(self, sid: str, filename: str, data: IO[bytes] | Block, *, size: int | None = None) -> str:
        """Save a file of a session, see ``FileStore.save()``. A session that does not exist yet begins.

        Raises:
            SessionExpired: The session ended before the file was complete. Nothing is kept.
            SessionRotated: Another request gave the session another id before the file was complete. Nothing is kept.
        """
        with self._life(sid) as uid:
            check = partial(self._files.refuse_rotated, sid, uid)
            return self.save_key(uid, filename, data, size=size, check=check)

    @contextmanager
    def _life(self, sid: str) -> Iterator[str]:
        """Yield the uid of the session, and remove its files afterwards if the session has ended meanwhile.

        The clean-up at the session's end may have run before the files were made, so the end is checked again here. It
        is checked also if the caller failed, because an upload that broke off has made its folder.
        """
        uid = self._files.begin(sid)
        try:
            yield uid
        except BaseException:
            try:
                self._drop_if_ended(sid, uid)
            except (OSError, FileStoreError, StoreUnavailable):  # the caller gets the error that came first
                logger.exception(
                    "the folder of a failed save could not be removed: it may stay until another process starts"
                )
            raise
        if self._drop_if_ended(sid, uid):
            raise SessionExpired(sid)

    def _drop_if_ended(self, sid: str, uid: str) -> bool:
        ended = self._files.has_ended(sid, uid)
        if ended:
            self.cleanup_key(uid)
        return ended


class SessionFiles:
    """The file stores of a ``Silo``. Finds the life of a session that a file belongs to.

    Attributes:
        stores: The file stores, by name.
    """

    def __init__(self, silo: Silo) -> None:
        self.stores: dict[str, SessionFileStore] = {}
        self._silo = silo
        self._swept = False

    def begin(self, sid: str) -> str:
        """Return the uid of a session, which begins if it does not exist. It may be the running request's or task's.

        The write lock is not taken, so a slow upload does not block other requests.

        Raises:
            SessionExpired: The session that this request has loaded, or that this task works for, has ended.
        """
        here = self._silo.current.find()
        if here is not None and here.is_of(sid):
            return here.begin_life()
        store = self._silo.store
        session = store.open(sid, lazy=True)
        store.ensure(session)
        return session.uid

    def key(self, sid: str) -> str:
        """Return the uid that the files of a session belong to. In its request or task, that is the uid seen there.

        Returns:
            The uid; the id itself if there is no such session.
        """
        here = self._silo.current.find()
        if here is not None and here.is_of(sid):
            if here.known_uid is not None:
                return here.known_uid
            sid = here.sid
        return self._silo.store.uid(sid) or sid

    def refuse_rotated(self, sid: str, uid: str) -> None:
        """Refuse a save in a request whose session was given another id. A task follows its session instead.

        Raises:
            SessionRotated: ``uid`` lives under another id than ``sid``.
        """
        request = self._silo.current.find_request()
        if request is None:
            return
        if request.is_of(sid):
            sid = request.sid
        if self._silo.store.uid(sid) != uid and self._silo.apps.has_life(uid):
            raise SessionRotated(sid)

    def has_ended(self, sid: str, uid: str) -> bool:
        """Return whether a life of a session has ended. It may go on under another id."""
        return self._silo.store.uid(sid) != uid and not self._silo.apps.has_life(uid)

    def end(self, uid: str) -> None:
        """Remove the files of a session that has ended."""
        for name, store in self.stores.items():
            try:
                store.cleanup_key(uid)
            except (OSError, FileStoreError):
                logger.exception("file store %s: the files of an ended session are still there", name)

    def sweep_once(self) -> None:
        """Remove the files of sessions that ended while no process was running; once in each process."""
        if not self._swept:
            self._swept = True
            self.sweep(self._silo.apps.has_life)

    def sweep(self, has_life: Callable[[str], bool]) -> None:
        """Remove the files of sessions that have ended.

        When the sessions cannot be reached, nothing more is removed: the next process tries again.

        Args:
            has_life: Returns whether a living session has this uid.
        """
        unreachable = False

        def may_live(uid: str) -> bool:
            nonlocal unreachable
            try:
                return unreachable or has_life(uid)
            except StoreUnavailable as error:
                unreachable = True
                logger.warning("files of sessions that have ended may stay until another process starts: %s", error)
                return True

        for name, store in self.stores.items():
            try:
                store.sweep(may_live)
            except (OSError, FileStoreError):
                logger.exception("file store %s: could not be swept", name)
