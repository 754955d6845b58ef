"""The file stores of a ``Silo``, and the lives of sessions that their files belong to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from silo_store import SessionRotated, SiloError, StoreUnavailable

if TYPE_CHECKING:
    from .binding import Binding
    from .ext import Silo
    from .files.store import SessionFileStore

logger = logging.getLogger("flask_silo")


class UnknownFileStore(SiloError, KeyError):
    """No file store was added under this name.

    Attributes:
        name: The name that the caller asked for.
        known: The names of the file stores that were added.
    """

    _fields = ("name", "known")

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known: tuple[str, ...] = tuple(known)
        super().__init__(name)

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none"
        advice = "correct the name, or call add_file_store() first"
        return f"there is no file store {self.name!r}, the application has {known}: {advice}"


class LivenessCheck:
    """Asks which uids belong to living sessions, as the ``living`` of ``FileStore.sweep()``.

    Once the sessions cannot be reached, it asks no more, and all uids count as living: no files are removed.

    Args:
        living: Called with uids. Returns those that living sessions have.

    Attributes:
        failure: Why the sessions cannot be reached; None as long as they can.
    """

    def __init__(self, living: Callable[[list[str]], Collection[str]]) -> None:
        self.failure: StoreUnavailable | None = None
        self._living = living

    def __call__(self, uids: list[str]) -> Collection[str]:
        """Return those of ``uids`` that living sessions have."""
        if self.failure is None:
            try:
                return self._living(uids)
            except StoreUnavailable as error:
                self.failure = error
        return uids


class SessionFiles:
    """The file stores of a ``Silo``. Finds the life of a session that a file belongs to.

    Attributes:
        stores: The file stores, by name.
    """

    def __init__(self, silo: Silo) -> None:
        self.stores: dict[str, SessionFileStore] = {}
        self._silo = silo
        self._swept = False

    def store(self, name: str) -> SessionFileStore:
        """Return a file store.

        Raises:
            UnknownFileStore: There is none of that name.
        """
        if name not in self.stores:
            raise UnknownFileStore(name, self.stores)
        return self.stores[name]

    def current_sid(self) -> str:
        """Return the id of the running request's session. It does not begin yet.

        Raises:
            SessionRotated: The client's session has another id now.
            RuntimeError: The running code has no session, or is a task.
        """
        return self._silo.current.request.sid

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

    def lives(self, uid: str) -> bool:
        """Return whether a session of any application has this uid and has not expired. Renews nothing."""
        for binding in self._silo.apps.bindings():
            store, before = binding.store, None
            while (sid := store.backend.find(uid)) not in (None, before):
                if store.uid(sid) == uid:
                    return True
                before = sid  # it has expired, or was given another id between the two looks
        return False

    @property
    def binding(self) -> Binding:
        """The binding of the current application, or of the only one."""
        return self._silo.apps.binding

    def now(self) -> float:
        """Return the time in seconds since the epoch, by the clock of the sessions."""
        return self._silo.apps.clock()

    def end(self, uid: str) -> None:
        """Remove the files of a session that has ended."""
        for name, store in self.stores.items():
            try:
                store.cleanup_key(uid)
            except Exception:  # a backend may raise anything, and the other stores have files too
                logger.exception("file store %s: the files of an ended session are still there", name)

    def origin(self) -> str | None:
        """Return the names of the places where the applications keep their sessions; None if no place has a name.

        It is stored with the files, so that a sweep spares those of another application that uses the same folder.
        """
        origins = {store.backend.origin for store in self._silo.apps.stores()}
        return " and ".join(sorted(origin for origin in origins if origin is not None)) or None

    def sweep_once(self) -> None:
        """Remove the files of sessions that ended while no process was running; once in each process."""
        if not self._swept:
            self._swept = True
            self.sweep(self._silo.apps.living)

    def sweep(self, living: Callable[[list[str]], Collection[str]]) -> None:
        """Remove the files of sessions that have ended.

        When the sessions cannot be reached, nothing more is removed: the next process tries again.

        Args:
            living: Called with uids. Returns those that living sessions have.
        """
        check = LivenessCheck(living)
        for name, store in self.stores.items():
            try:
                store.sweep(check)
            except Exception:  # a backend may raise anything, and the other stores have files too
                logger.exception("file store %s: could not be swept", name)
        if check.failure is not None:
            logger.warning("files of sessions that have ended may stay until another process starts: %s", check.failure)
