"""`Silo`: the extension."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, ParamSpec, TypeVar, overload

from flask import Flask, current_app
from silo_store import NamespaceError, Registry, SessionExpired, SessionStore, SiloStorage

from .binding import Binding
from .endpoints import DataEndpoints
from .files import FileStore, SessionFiles, SessionFileStore
from .settings import Settings
from .tasks import SessionTask, current_owner
from .visit import Visit, current_visit

P = ParamSpec("P")
R = TypeVar("R")

NO_SESSION = "there is no session here: only tasks and requests below api_prefix have one (was init_app() called?)"


class Silo:
    """Gives every client of a Flask application its own state, tasks and files.

    Each argument but ``app``, ``storage`` and ``clock`` can be set as ``SILO_<NAME>`` in the application's config too,
    and is described in `Settings`.

    Args:
        app: the application; or call `init_app` for each one later.
        storage: a storage of release 0.1.
        clock: seconds since the epoch, for tests that do not want to wait for an expiry.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        ttl: float | None = None,
        cleanup_interval: float | None = None,
        expired_retain: float | None = None,
        header: str | None = None,
        query_param: str | None = None,
        min_sid_length: int | None = None,
        data_endpoints: Iterable[str] | None = None,
        auto_cleanup: bool | None = None,
        api_prefix: str | tuple[str, ...] | None = None,
        storage: SiloStorage | None = None,
        store_url: str | None = None,
        turn_timeout: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._given = {
            "ttl": ttl,
            "cleanup_interval": cleanup_interval,
            "expired_retain": expired_retain,
            "header": header,
            "query_param": query_param,
            "min_sid_length": min_sid_length,
            "auto_cleanup": auto_cleanup,
            "api_prefix": api_prefix,
            "store_url": store_url,
            "turn_timeout": turn_timeout,
        }
        self._storage = storage
        self._clock = clock
        self._registry = Registry()
        self._early: SessionStore | None = None
        self._bindings: dict[Flask, Binding] = {}
        self.files = SessionFiles()
        self.data_endpoints = DataEndpoints()
        self.data_endpoints.add(*(data_endpoints or ()))
        if app is not None:
            self.init_app(app)

    # Setting up

    def init_app(self, app: Flask) -> None:
        """Serve an application. Several applications served by one `Silo` have separate sessions.

        Raises:
            ValueError: a setting is wrong.
            RuntimeError: this `Silo` serves the application already.
        """
        if app in self._bindings:
            raise RuntimeError("this Silo serves the application already")
        settings = Settings.collect(self._given, app.config)
        self.data_endpoints.add(*settings.data_endpoints)
        self._bindings[app] = Binding(self, app, settings, self._make_store(settings))
        app.extensions["silo"] = self

    def _make_store(self, settings: Settings) -> SessionStore:
        early, self._early = self._early, None
        if early is None or settings.store_url != self._settings().store_url:
            return SessionStore(
                ttl=settings.ttl,
                cleanup_interval=settings.cleanup_interval,
                expired_retain=settings.expired_retain,
                turn_timeout=settings.turn_timeout,
                storage=self._storage,
                backend=None if self._storage is not None else settings.store_url,
                registry=self._registry,
                clock=self._clock,
            )
        early.ttl = settings.ttl
        early.cleanup_interval = settings.cleanup_interval
        early.expired_retain = settings.expired_retain
        early.turn_timeout = settings.turn_timeout
        return early

    def _settings(self) -> Settings:
        return Settings.collect(self._given, {})

    def register(self, namespace: str, factory: Callable[[], Any]) -> None:
        """Give every session a namespace whose state begins as ``factory()``. Call it before the first request."""
        stores = [binding.store for binding in self._bindings.values()]
        for store in stores or [self.store]:
            store.register_namespace(namespace, factory)

    def add_file_store(self, name: str, base_dir: str | PathLike[str], **options: Any) -> FileStore:
        """Give every session files under ``base_dir``; they go when the session does.

        Args:
            name: what `file_store` finds it by.
            base_dir: a folder of the server.
            options: limits and more, see `silo_files.FileStore`.
        """
        store = self.files.stores[name] = SessionFileStore(self, base_dir, **options)
        return store

    def file_store(self, name: str) -> FileStore:
        """Return a file store.

        Raises:
            KeyError: none was added by that name.
        """
        return self.files.stores[name]

    def add_data_endpoints(self, *names: str) -> None:
        """Name what needs a session's data: there an expired session is answered with 410, not with an empty one.

        Args:
            names: paths (``/api/report``), patterns (``/api/reports/*``), URL rules (``/api/reports/<int:number>``) or
                endpoint names (``reports.show``, ``reports.*``).
        """
        self.data_endpoints.add(*names)

    def requires_session(self, view: Callable[P, R]) -> Callable[P, R]:
        """Say of one view what `add_data_endpoints` says of many."""

        @functools.wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            visit = self.visit
            if visit.session is None and visit.store.is_expired(visit.sid):
                raise SessionExpired(visit.sid)
            result: R = current_app.ensure_sync(view)(*args, **kwargs)
            return result

        return guarded

    @overload
    def task(self, function: Callable[P, R], /) -> SessionTask[P, R]: ...

    @overload
    def task(
        self, function: None = None, /, *, name: str | None = None, timeout: float | None = None
    ) -> Callable[[Callable[P, R]], SessionTask[P, R]]: ...

    def task(
        self, function: Callable[..., Any] | None = None, /, *, name: str | None = None, timeout: float | None = None
    ) -> Any:
        """Make a function a background task of sessions; use it as a decorator, with or without arguments.

        The function is an ordinary one. In it, `silo_tasks.track`, `silo_tasks.step` and `silo_tasks.current_task`
        report progress, and this `Silo`'s `edit`, `state`, `sid` and file stores work for the session that started it.

        Args:
            function: the function.
            name: what people see; the function's name by default.
            timeout: seconds after which it fails.
        """

        def made(function: Callable[..., Any]) -> SessionTask[..., Any]:
            return SessionTask(self, function, name or function.__name__, {"timeout": timeout})

        return made if function is None else made(function)

    # In a request or a task

    @property
    def visit(self) -> Visit:
        """The request's view of its session.

        Raises:
            RuntimeError: there is no request with a session.
        """
        visit = current_visit()
        if visit is None:
            raise RuntimeError(NO_SESSION)
        return visit

    @property
    def sid(self) -> str:
        """The session's id.

        Raises:
            RuntimeError: there is no session here.
        """
        visit = current_visit()
        if visit is not None:
            return visit.sid
        owner = current_owner()
        if owner is not None:
            return owner.sid
        raise RuntimeError(NO_SESSION)

    @property
    def uid(self) -> str | None:
        """What names this life of the session; None where it has not begun.

        Raises:
            RuntimeError: there is no session here.
        """
        visit = current_visit()
        if visit is not None:
            return (visit.session is not None and visit.session.uid) or visit.store.uid(visit.sid)
        owner = current_owner()
        if owner is not None:
            return owner.uid
        raise RuntimeError(NO_SESSION)

    def state(self, namespace: str | None = None) -> Any:
        """Return the session's state, or one namespace of it; begun if there is none.

        In a request, changes to it are saved when the view succeeded. In a task it is for reading: change it in `edit`.

        Raises:
            NamespaceError: the namespace is not registered.
            TurnTimeout: another request did not finish writing in time.
            SessionExpired: the session that this task works for is over.
            RuntimeError: there is no session here.
        """
        visit = current_visit()
        if visit is not None:
            session = visit.load()
        else:
            owner = current_owner()
            if owner is None:
                raise RuntimeError(NO_SESSION)
            session = owner.store.open(owner.sid, owner.uid)
        if namespace is None:
            return session
        try:
            return session[namespace]
        except KeyError:
            raise NamespaceError(namespace) from None

    @contextmanager
    def edit(self, namespace: str | None = None, *, sid: str | None = None) -> Iterator[Any]:
        """Change the session, or one namespace of it, with nobody else writing it meanwhile.

        In a request that writes (POST, PUT, PATCH, DELETE) it is saved with the request. In one that reads, in a task,
        and for another ``sid``, it is saved at the block's end.

        Raises:
            NamespaceError: the namespace is not registered.
            TurnTimeout: another writer did not finish in time.
            SessionExpired: the session that this task works for is over.
            RuntimeError: there is no session here, and ``sid`` is not given.
        """
        visit = current_visit()
        owner = current_owner()
        if sid is not None and not (visit is not None and visit.sid == sid):
            with self.store.edit(sid, namespace) as state:
                yield state
        elif visit is not None and visit.in_turn:
            session = visit.load()
            yield session if namespace is None else visit[namespace]
        elif visit is not None:
            with visit.store.edit(visit.sid) as session:
                visit.session = session
                yield session if namespace is None else visit[namespace]
        elif owner is not None:
            with owner.store.edit(owner.sid, namespace, uid=owner.uid) as state:
                yield state
        else:
            raise RuntimeError(NO_SESSION)

    def commit(self) -> None:
        """Save what the view has changed so far and start the tasks that wait for it. The turn is kept."""
        self.visit.commit()

    def reset_current(self) -> None:
        """End this life of the session, its tasks and files with it, and begin the next under the same id.

        Raises:
            SessionBusy: the busy check says that its work is running.
        """
        visit = self.visit
        visit.store.reset(visit.sid)
        visit.forget()

    def destroy_current(self) -> None:
        """End the session, its tasks and files with it. The client gets a fresh id."""
        visit = self.visit
        visit.store.destroy(visit.sid)
        visit.forget()
        visit.give_turn_back()
        visit.sid = visit.store.generate_sid()
        visit.presented = False

    def rotate(self) -> str:
        """Give the session another id, as after a log-in; its state, tasks and files stay.

        Returns:
            the new id, which the response carries.
        """
        visit = self.visit
        session = visit.begun()
        visit.sid = visit.store.rotate(visit.sid)
        session.sid = visit.sid
        self.binding.tasks.rotated(session.uid, visit.sid)
        return visit.sid

    def begin_session(self, sid: str) -> None:
        """See to it that a session exists in the store: the request's own, the task's, or another one.

        It takes no turn: a file that comes in slowly keeps no other request waiting.

        Raises:
            SessionExpired: the session that this task works for is over.
        """
        visit = current_visit()
        owner = current_owner()
        if visit is not None and visit.sid == sid and visit.session is not None:
            visit.begun()
        elif visit is None and owner is not None and owner.sid == sid:
            owner.store.open(sid, owner.uid)
        else:
            self.store.get(sid)

    def file_key(self, sid: str) -> str:
        """Return what a session's files belong to: its present life; for a task, the life that it works for."""
        owner = current_owner()
        if owner is not None and owner.sid == sid:
            return owner.uid
        return self.store.uid(sid) or sid

    # Around it

    @property
    def binding(self) -> Binding:
        """What works for the current application, or for the only one.

        Raises:
            RuntimeError: it serves no application, or several and none is current.
        """
        if current_app:
            app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
            found = self._bindings.get(app)
            if found is not None:
                return found
        if len(self._bindings) == 1:
            return next(iter(self._bindings.values()))
        raise RuntimeError("which application? call init_app() first, or enter an application context")

    @property
    def store(self) -> SessionStore:
        """The sessions of the current application, or of the only one."""
        if not self._bindings:
            if self._early is None:
                self._early = self._make_store(self._settings())
            return self._early
        return self.binding.store

    def stop(self) -> None:
        """Stop sweeping."""
        for binding in list(self._bindings.values()):
            binding.daemon.stop()
