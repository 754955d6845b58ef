"""The extension: ``Silo``."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from os import PathLike
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from flask import Flask, current_app
from silo_store import Registry, SessionStore, check_callback

from .applications import Applications
from .binding import Binding
from .current import Current
from .lives import SessionFiles
from .namespace import Namespace
from .request.data_endpoints import DataEndpoints
from .settings import NAMES

if TYPE_CHECKING:
    from silo_files import FileBackend, Validator
    from silo_tasks import Runner

    from .files.store import SessionFileStore
    from .tasks.task import SessionTask

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Silo:
    """Gives every client of a Flask application its own state, tasks and files.

    ``Settings`` describes the arguments. Every argument except ``app`` and ``clock`` can also be set as
    ``SILO_<NAME>`` in the application's config or in the environment.

    Args:
        app: The application. Or call ``init_app()`` later, once for each application.
        clock: Returns seconds since the epoch. Tests replace it to let sessions expire without waiting.

    Raises:
        TypeError: ``storage`` is given, an argument that only later releases of 0.1 had; or ``clock`` cannot be called.
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
        registry = Registry()
        self.apps: Applications = Applications(self, given, registry, clock)
        self.current: Current = Current(registry)
        self.tasks: dict[str, SessionTask[..., Any]] = {}
        self.files: SessionFiles = SessionFiles(self)
        self.data_endpoints: DataEndpoints = DataEndpoints()
        self.data_endpoints.add(*([data_endpoints] if isinstance(data_endpoints, str) else data_endpoints or ()))
        if app is not None:
            self.init_app(app)

    # Setting up

    def init_app(self, app: Flask) -> None:
        """Serve an application. Applications that share a ``Silo`` have separate sessions.

        Raises:
            ValueError: A setting is wrong.
            StoreUnavailable: ``store_url`` names an SQLite file that cannot keep sessions.
            RuntimeError: The application has a ``Silo`` already.
        """
        if "silo" in app.extensions:
            raise RuntimeError("a Silo serves the application already: call init_app() once for each application")
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
            namespace: The name of the namespace.
            factory: Makes the first state. A class, or a type such as ``dict[str, Decimal]``, is also the type of the
                state. ``dict`` and ``list`` alone are not, because they do not say what they contain.
            type: The type of the state, if it is not the factory. A store that keeps bytes decodes to this type.

        Returns:
            The namespace. Its ``state`` and ``edit()`` are typed for type checkers.

        Raises:
            TypeError: The factory is not callable, needs arguments or is async; or the store keeps bytes and cannot
                decode state of that type.
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
        extensions: Collection[str] | None = None,
        validate: Validator | None = None,
        min_free_bytes: int | None = None,
        durable: bool = False,
        routes: str | Collection[str] = (),
    ) -> SessionFileStore:
        """Give every session files under ``base_dir``. They are removed when the session ends.

        Args:
            name: The name of the file store, for ``file_store()``.
            base_dir: A folder of the server, created if it is missing. A relative path is relative to the working
                directory of the process.
            backend: Where to keep the files, if not in a local folder.
            max_file_bytes: Size limit of one file.
            max_session_bytes: Size limit of all files of one session.
            max_store_bytes: Size limit of all files.
            max_files: How many files a session may have.
            extensions: The only extensions that file names may have, such as ``{".csv", ".tar.gz"}``; None for all.
            validate: Called as ``validate(name, file)`` before a file is visible. Raises ``FileRefused`` to refuse it.
            min_free_bytes: Bytes that saving leaves free on the file system.
            durable: Whether a saved file survives a power cut.
            routes: What clients may do without a view of the application, below ``files/<name>`` of each prefix: any
                of ``"list"``, ``"upload"``, ``"download"``, ``"delete"``, ``"link"`` and ``"zip"``, or ``ALL_ROUTES``.
                Nothing by default. ``"zip"`` needs zipstream-ng.

        Raises:
            ImportError: ``routes`` has ``"zip"``, and zipstream-ng is not installed.
            TypeError: A limit is not a number, or ``routes`` is something other than a str or a collection of str.
            ValueError: There is a file store of that name already, or no route of a name in ``routes``; or the store
                has routes and a name that cannot be part of a path. Or a limit is negative.
            silo_files.FolderUnusable: The folder cannot be created, or this process may not write to it.
        """
        from .files.store import SessionFileStore  # many applications have no files

        if name in self.files.stores:
            raise ValueError(f"there is a file store {name!r} already: give this one another name")
        store = self.files.stores[name] = SessionFileStore(
            self.files,
            name,
            base_dir,
            routes=routes,
            backend=backend,
            max_file_bytes=max_file_bytes,
            max_session_bytes=max_session_bytes,
            max_store_bytes=max_store_bytes,
            max_files=max_files,
            extensions=extensions,
            validate=validate,
            min_free_bytes=min_free_bytes,
            durable=durable,
        )
        for binding in self.apps.bindings():
            binding.file_views.add(store)
        return store

    def file_store(self, name: str) -> SessionFileStore:
        """Return a file store.

        Raises:
            KeyError: No file store was added under that name. The message names those that were.
        """
        return self.files.store(name)

    def add_data_endpoints(self, *names: str) -> None:
        """Answer requests to these endpoints with 410 if the client's session has expired, not with an empty session.

        Args:
            names: Paths (``/api/report``), patterns (``/api/reports/*``), URL rules (``/api/reports/<int:number>``) or
                endpoint names (``reports.show``, ``reports.*``).
        """
        self.data_endpoints.add(*names)
        for binding in self.apps.bindings():
            binding.check_data_endpoints()

    def requires_session(self, view: Callable[P, R]) -> Callable[P, R]:
        """Answer with 410 if the client's session has expired when this view is called.

        If a ``before_request`` function asks for state, a new session begins there, and the view is called.
        """

        @functools.wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            self.current.request.require()
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
        """Make a function a background task of sessions. A decorator, with or without arguments.

        In the function, ``track()``, ``step()`` and ``current_task()`` report progress, and ``edit()``, ``state()``,
        ``sid`` and the file stores of this ``Silo`` work for the session that started it.

        Args:
            function: An ordinary function.
            name: The name that clients see; the function's name by default.
            runner: Where it runs: a ``ThreadRunner``, ``ProcessRunner``, ``RQRunner`` or ``CeleryRunner``.
                By default it is the thread pool that all tasks share. A worker in another process needs the same
                application, and sessions that processes share.
            timeout: Seconds after which the task fails, counted from when it begins.
            public_errors: Exception classes, or one class, whose text clients may read. For any other exception a
                client reads "The task failed", and the server's log has the text.

        Raises:
            ValueError: There is a task of that name already, or ``timeout`` is not positive.
            TypeError: The function is a coroutine function or a generator function, ``runner`` is not a runner, or
                ``public_errors`` names something other than classes of exceptions.
        """
        from .tasks.task import SessionTask  # many applications have no tasks

        options = {"runner": runner, "timeout": timeout, "public_errors": public_errors}

        def made(function: Callable[..., Any]) -> SessionTask[..., Any]:
            task = SessionTask(self, function, name, options)
            if task.name in self.tasks:
                raise ValueError(f"there is a task {task.name!r} already: give this one another name")
            self.tasks[task.name] = task
            for binding in self.apps.bindings():
                binding.task_views.enable()
            return task

        return made if function is None else made(function)

    # In a request or a task

    @property
    def sid(self) -> str:
        """The session's id. In a request, a session that does not exist yet is created with the response.

        Raises:
            SessionRotated: The client's session has another id now.
            RuntimeError: The running code has no session, or the response has started without one.
        """
        return self.current.session.announce()

    @property
    def uid(self) -> str | None:
        """The uid of the session, which is new each time a session begins under an id; None if it has not begun.

        Raises:
            RuntimeError: The running code has no session.
        """
        return self.current.session.uid

    def state(self, namespace: str | None = None) -> Any:
        """Return the session's state, or one namespace of it. A session that does not exist yet begins.

        In a request that writes, changes to the state are saved when the view has succeeded. In a request that reads,
        change it in ``edit()``: otherwise the change is saved without the write lock, and a warning names the endpoint
        if sessions are copies. In a task the state is for reading only.

        Raises:
            NamespaceError: The namespace is not registered.
            LockTimeout: Another writer did not finish in time.
            SessionExpired: The session of this task has ended.
            SessionRotated: The client's session has another id now.
            RuntimeError: The running code has no session, or the response has started without one.
        """
        return self.current.session.state(namespace)

    def edit(
        self, namespace: str | None = None, *, sid: str | None = None, lazy: bool = False
    ) -> AbstractContextManager[Any]:
        """Change the session, or one namespace of it, with the session's write lock.

        In a request that writes (POST, PUT, PATCH, DELETE) the change is saved with the request. In a request that
        reads, in a task, in what a response streams, and for another ``sid``, it is saved when the block ends.

        Two blocks for one session can wait for each other, for example in two coroutines of one view. That ends in
        ``LockTimeout``.

        Args:
            namespace: The namespace to yield, instead of the whole session.
            sid: The id of another session.
            lazy: See ``SessionStore.open()``.

        Raises:
            NamespaceError: The namespace is not registered.
            LockTimeout: Another writer did not finish in time.
            SessionExpired: The session that this request has loaded, or that this task works for, has ended.
            SessionRotated: The client's session has another id now.
            RuntimeError: The running code has no session and ``sid`` is not given; or the response has started without
                a session.
        """
        here = self.current.find()
        if here is not None and (sid is None or here.is_of(sid)):
            return here.edit(namespace, lazy=lazy)
        return self.store.edit(sid or self.sid, namespace, lazy=lazy)

    def commit(self) -> None:
        """Save what the view has changed so far and start the tasks that wait for it. The write lock is kept."""
        self.current.request.commit()

    def reset_current(self) -> None:
        """End the session with its tasks and files, and begin a new one under the same id.

        Raises:
            SessionBusy: The busy check reports that work is running for the session. Nothing was changed.
        """
        self.current.request.reset()

    def destroy_current(self) -> None:
        """End the session with its tasks and files. The client's next session gets a new id."""
        self.current.request.destroy()

    def rotate(self) -> str:
        """Give the session another id, as after a log-in. Its state, tasks and files stay.

        If the session must not keep what it held before the log-in, call ``reset_current()`` first.

        Another request of the client that still uses the old id gets 409 ``session_rotated``, and its changes are not
        saved, except in live objects. The client repeats the request with the new id.

        Returns:
            The new id, which the response carries.
        """
        return self.current.request.rotate()

    # Applications

    @property
    def binding(self) -> Binding:
        """The binding of the current application, or of the only one.

        Raises:
            RuntimeError: There is no application, or there are several and none is current.
        """
        return self.apps.binding

    @property
    def store(self) -> SessionStore:
        """The sessions of the current application, or of the only one."""
        return self.apps.store

    def stop(self) -> None:
        """Stop the thread of each application that sweeps its sessions."""
        for binding in self.apps.bindings():
            binding.daemon.stop()
