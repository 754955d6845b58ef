"""`Silo`: the extension."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, ParamSpec, TypeVar, overload

from flask import Flask, current_app
from silo_files import FileBackend
from silo_store import Registry, SessionStore, check_callback
from silo_tasks import Runner, check_target

from .applications import IN_A_THREAD, Applications
from .binding import Binding
from .current import CurrentSession, current_request, current_session
from .files import FileStore, SessionFiles, SessionFileStore
from .namespace import Namespace
from .request.data_endpoints import DataEndpoints
from .request.session import RequestSession
from .settings import NAMES
from .tasks.task import SessionTask

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S = TypeVar("S", bound=CurrentSession)

NO_SESSION = (
    "there is no session here: only tasks and requests below api_prefix have one (was init_app() called?); "
    f"{IN_A_THREAD}, as in pool.submit(copy_context().run, function); a task in another process has one only if "
    "processes share sessions (set SILO_STORE_URL)"
)

NO_REQUEST = "this works in a request only, not in a task"


class Silo:
    """Gives every client of a Flask application its own state, tasks and files.

    Each argument but ``app`` and ``clock`` can be set as ``SILO_<NAME>`` in the application's config or in
    the environment too, and is described in `Settings`.

    Args:
        app: the application; or call `init_app` for each one later.
        clock: seconds since the epoch, for tests that do not want to wait for an expiry.

    Raises:
        TypeError: ``storage`` is given, which later releases of 0.1 took; or ``clock`` cannot be called.
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
        store_url: str | None = None,
        lock_timeout: float | None = None,
        max_waiters: int | None = None,
        touch_interval: float | None = None,
        max_state_bytes: int | None = None,
        max_sessions: int | None = None,
        task_endpoints: bool | None = None,
        max_streams: int | None = None,
        accept_client_ids: bool | None = None,
        clock: Callable[[], float] = time.time,
        storage: None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in NAMES and name != "data_endpoints"}
        if storage is not None:
            raise TypeError("storage= is no longer accepted: give store_url=, such as sqlite:///sessions.db")
        check_callback("clock", clock)
        self._registry = Registry()
        self.apps = Applications(self, given, self._registry, clock)
        self.tasks: dict[str, SessionTask[..., Any]] = {}
        self.files = SessionFiles(self)
        self.data_endpoints = DataEndpoints()
        self.data_endpoints.add(*([data_endpoints] if isinstance(data_endpoints, str) else data_endpoints or ()))
        if app is not None:
            self.init_app(app)

    # Setting up

    def init_app(self, app: Flask) -> None:
        """Serve an application. Several applications served by one `Silo` have separate sessions.

        Raises:
            ValueError: a setting is wrong.
            StoreUnavailable: `store_url` names an SQLite file in which no session could be kept.
            RuntimeError: a `Silo` serves the application already.
        """
        if "silo" in app.extensions:
            raise RuntimeError("a Silo serves the application already")
        self.apps.add(app)

    @overload
    def register(self, namespace: str, factory: Callable[[], T]) -> Namespace[T]: ...

    @overload
    def register(self, namespace: str, factory: Callable[[], T], type: type[T]) -> Namespace[T]: ...

    @overload
    def register(self, namespace: str, factory: Callable[[], Any], type: Any) -> Namespace[Any]: ...

    def register(self, namespace: str, factory: Callable[[], Any], type: Any = None) -> Namespace[Any]:
        """Give every session a namespace whose state begins as ``factory()``. Call it before the first request.

        Args:
            namespace: its name.
            factory: makes its first state. A class, or a type such as ``dict[str, Decimal]``, is its type too; dict and
                list alone are none.
            type: its type, where that is not the factory. A store that keeps bytes gives back what the type says.

        Returns:
            the namespace, whose `Namespace.state` and `Namespace.edit` a type checker knows the type of.

        Raises:
            TypeError: the factory is not callable, needs arguments or is async; or the store keeps bytes, and state of
                that type cannot be made of bytes.
        """
        for store in self.apps.stores():
            store.register_namespace(namespace, factory, type)
        return Namespace(self, namespace)

    def add_file_store(
        self,
        name: str,
        base_dir: str | PathLike[str],
        *,
        backend: FileBackend | None = None,
        max_file_bytes: int | None = None,
        max_session_bytes: int | None = None,
        max_store_bytes: int | None = None,
        max_files: int | None = None,
        durable: bool = False,
    ) -> FileStore:
        """Give every session files under ``base_dir``; they go when the session does.

        Args:
            name: what `file_store` finds it by.
            base_dir: a folder of the server, created if it is missing. A relative path starts at the folder in which
                the process starts.
            backend: keeps the files elsewhere.
            max_file_bytes: what one file may have.
            max_session_bytes: what the files of one session may have together.
            max_store_bytes: what all files may have together.
            max_files: how many files a session may have.
            durable: whether a saved file survives a power cut.

        Raises:
            ValueError: there is one of that name.
            silo_files.FolderUnusable: the folder cannot be created, or this process may not write to it.
        """
        if name in self.files.stores:
            raise ValueError(f"there is a file store {name!r} already")
        store = self.files.stores[name] = SessionFileStore(
            self.files,
            base_dir,
            backend=backend,
            max_file_bytes=max_file_bytes,
            max_session_bytes=max_session_bytes,
            max_store_bytes=max_store_bytes,
            max_files=max_files,
            durable=durable,
        )
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
        """Say of one view what `add_data_endpoints` says of many.

        It looks when the view is called: a ``before_request`` function that asks for state has begun a new session.
        """

        @functools.wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            self.request_session.require()
            result: R = current_app.ensure_sync(view)(*args, **kwargs)
            return result

        return guarded

    @overload
    def task(self, function: Callable[P, R], /) -> SessionTask[P, R]: ...

    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        runner: Runner | None = None,
        timeout: float | None = None,
        public_errors: type[BaseException] | Collection[type[BaseException]] = (),
    ) -> Callable[[Callable[P, R]], SessionTask[P, R]]: ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        runner: Runner | None = None,
        timeout: float | None = None,
        public_errors: type[BaseException] | Collection[type[BaseException]] = (),
    ) -> Any:
        """Make a function a background task of sessions; use it as a decorator, with or without arguments.

        The function is an ordinary one. In it, `silo_tasks.track`, `silo_tasks.step` and `silo_tasks.current_task`
        report progress, and this `Silo`'s `edit`, `state`, `sid` and file stores work for the session that started it.

        Args:
            function: the function.
            name: what people see; the function's name by default.
            runner: where it runs: a `silo_tasks.ThreadRunner`, `ProcessRunner`, `RQRunner` or `CeleryRunner`; the
                threads that all tasks share by default. A worker elsewhere needs the same application, and sessions
                that processes share.
            timeout: seconds after which it fails, counted from when it begins.
            public_errors: classes of exceptions, or one class, whose text clients may read, as it is written for them.
                For any other exception a client reads "The task failed"; the server's log has its text.

        Raises:
            ValueError: there is a task of that name, or ``timeout`` is not positive.
            TypeError: the function is a coroutine function or a generator function, ``runner`` is not a runner, or
                ``public_errors`` names something other than classes of exceptions.
        """

        def made(function: Callable[..., Any]) -> SessionTask[..., Any]:
            check_target(function, "@silo.task")
            options = {"runner": runner, "timeout": timeout, "public_errors": public_errors}
            task = SessionTask(self, function, name or function.__name__, options)
            if task.name in self.tasks:
                raise ValueError(f"there is a task {task.name!r} already: give this one another name")
            self.tasks[task.name] = task
            for binding in self.apps.bindings():
                binding.task_views.enable()
            return task

        return made if function is None else made(function)

    # In a request or a task

    def current(self) -> CurrentSession | None:
        """Return the session of the running request or task; None where it has none, or one of another `Silo`."""
        return self._own(current_session())

    def current_request(self) -> RequestSession | None:
        """Return the session of the running request; None in a task, and where `current` is None."""
        return self._own(current_request())

    def _own(self, session: S | None) -> S | None:
        return session if session is not None and session.store.registry is self._registry else None

    @property
    def here(self) -> CurrentSession:
        """The session that the running code works for: that of the request, or of the task.

        Raises:
            RuntimeError: There is no session here.
        """
        here = current_session()
        if here is None or here.store.registry is not self._registry:
            raise RuntimeError(NO_SESSION)
        return here

    @property
    def request_session(self) -> RequestSession:
        """The session of the request.

        Raises:
            RuntimeError: There is no request with a session.
        """
        session = self.current_request()
        if session is None:
            raise RuntimeError(NO_REQUEST if self.current() is not None else NO_SESSION)
        return session

    @property
    def sid(self) -> str:
        """The session's id. In a request, a session that has not begun begins with the response, so the id can be used.

        Raises:
            SessionRotated: the client's session has another id by now.
            RuntimeError: there is no session here, or the response has started without one.
        """
        return self.here.announce()

    @property
    def uid(self) -> str | None:
        """What names this life of the session; None where it has not begun.

        Raises:
            RuntimeError: there is no session here.
        """
        return self.here.uid

    def state(self, namespace: str | None = None) -> Any:
        """Return the session's state, or one namespace of it; begun if there is none.

        In a request that writes, changes to it are saved when the view has succeeded. In a request that reads, change
        it in `edit`: otherwise it is saved without a turn, and where sessions are copies a warning names the endpoint.
        In a task it is for reading only.

        Raises:
            NamespaceError: the namespace is not registered.
            LockTimeout: another request did not finish writing in time.
            SessionExpired: the session that this task works for is over.
            SessionRotated: the client's session has another id by now.
            RuntimeError: there is no session here, or the response has started without one.
        """
        return self.here.state(namespace)

    @contextmanager
    def edit(self, namespace: str | None = None, *, sid: str | None = None, lazy: bool = False) -> Iterator[Any]:
        """Change the session, or one namespace of it, with nobody else writing it meanwhile.

        In a request that writes (POST, PUT, PATCH, DELETE) it is saved with the request. In one that reads, in a task,
        in what a response streams, and for another ``sid``, it is saved at the block's end.

        Two blocks for one session that wait for each other, as two coroutines of one view can, end in `LockTimeout`.

        Args:
            namespace: this one instead of the whole session.
            sid: another session's id.
            lazy: see `SessionStore.open`.

        Raises:
            NamespaceError: the namespace is not registered.
            LockTimeout: another writer did not finish in time.
            SessionExpired: the life of the session that this request has seen, or this task works for, is over.
            SessionRotated: the client's session has another id by now.
            RuntimeError: there is no session here, and ``sid`` is not given; or the response has started without one.
        """
        here = self.current()
        if here is not None and (sid is None or here.is_of(sid)):
            edit = here.edit(namespace, lazy=lazy)
        else:
            edit = self.store.edit(sid or self.sid, namespace, lazy=lazy)
        with edit as state:
            yield state

    def commit(self) -> None:
        """Save what the view has changed so far and start the tasks that wait for it. The turn is kept."""
        self.request_session.commit()

    def reset_current(self) -> None:
        """End this life of the session, its tasks and files with it, and begin the next under the same id.

        Raises:
            SessionBusy: the busy check says that its work is running.
        """
        self.request_session.reset()

    def destroy_current(self) -> None:
        """End the session, its tasks and files with it. The client's next session gets a new id."""
        self.request_session.destroy()

    def rotate(self) -> str:
        """Give the session another id, as after a log-in; its state, tasks and files stay.

        If the session must not keep what it held before the log-in, call `reset_current` first.

        A request of the same client that is under way with the old id gets 409 ``session_rotated``, and nothing that it
        did is saved, except in live objects: the client repeats it with the id that it holds then.

        Returns:
            the new id, which the response carries.
        """
        return self.request_session.rotate()

    # Around it

    @property
    def binding(self) -> Binding:
        """What works for the current application, or for the only one.

        Raises:
            RuntimeError: It serves no application, or several and none is current.
        """
        return self.apps.binding

    @property
    def store(self) -> SessionStore:
        """The sessions of the current application, or of the only one."""
        return self.apps.store

    def stop(self) -> None:
        """Stop sweeping."""
        for binding in self.apps.bindings():
            binding.daemon.stop()
