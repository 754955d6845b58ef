"""The connection of a ``Silo`` to one application."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, request
from silo_store import CleanupDaemon, EndReason, SessionStore, SiloError
from werkzeug.exceptions import RequestEntityTooLarge

from .cli.group import commands
from .current import SCOPE, Scope, current_request, flask_request
from .deployment import warn_if_apart
from .fork import reset_after_fork
from .late import made_once
from .replies import answer
from .request.change_warnings import ChangeWarnings
from .request.commit import Commit
from .request.data_endpoints import DataEndpoints
from .request.endpoints import EVENTS, Endpoints
from .request.identity import SessionHeader
from .request.session import RequestSession
from .request.waiting import Waiting
from .server import Server
from .settings import Settings
from .unused import config_of, late_settings, lost_endpoints, unknown_settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .ext import Silo
    from .files.views import FileViews
    from .tasks.runs import SessionRuns
    from .tasks.task import SessionTask
    from .tasks.views import TaskViews

logger = logging.getLogger("flask_silo")

READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""The methods of requests that read."""


class Binding:
    """Connects a ``Silo`` to one application: its store, its tasks, and the hooks of its requests.

    A request gets its session before every hook of the application. The WSGI middleware ``Commit`` saves it, after
    every ``after_request`` function. For a request without a session, both together cost less than one hook of Flask.

    Attributes:
        app: The application.
        settings: The settings of the application.
        store: The store of its sessions.
        daemon: The thread that sweeps the store.
        declared: The tasks of the ``Silo``, by name.
        endpoints: The endpoints that the application has no view for.
        waiting: Limits how many requests wait at a time.
        making: Held by the thread that makes the parts for tasks, or those for files.
    """

    def __init__(
        self,
        silo: Silo,
        app: Flask,
        settings: Settings,
        store: SessionStore,
    ) -> None:
        self.app: Flask = app
        self.settings = settings
        self.store = store
        self.daemon: CleanupDaemon = CleanupDaemon(store)
        self.declared: Mapping[str, SessionTask[..., Any]] = silo.tasks
        self.endpoints: Endpoints = Endpoints(app)
        self._silo = silo
        self._warned: set[str] = set()
        self._seen_config = config_of(app.config)
        self._change_warnings = ChangeWarnings(app, store)
        self._header = SessionHeader(settings)
        self._prefix = settings.api_prefix
        self._data_endpoints = DataEndpoints()
        self._data_endpoints.add(*settings.data_endpoints)
        self.waiting: Waiting = Waiting(settings.max_waiters)
        store.locks.waiting = self.waiting
        self._after_fork()
        reset_after_fork(self)
        store.on_end(self._session_ended)
        app.preprocess_request = partial(self._preprocess, app.preprocess_request)  # type: ignore[method-assign]
        self._hook_place = len(app.before_request_funcs.get(None, ()))
        self._checks_data = False
        if settings.data_endpoints or silo.data_endpoints.names:
            self.check_data_endpoints()
        app.app_ctx_globals_class = _globals_with_session(app.app_ctx_globals_class)
        if not store.backend.live:
            app.after_request(self._change_warnings.after_request)
        app.wsgi_app = Commit(app, app.wsgi_app, self._header)  # type: ignore[method-assign]
        self._watch_errors()
        if SiloError not in app.error_handler_spec[None][None]:  # the application's own wins, whenever registered
            app.register_error_handler(SiloError, answer)
        self._answer_errors_of_parts()
        if silo.tasks:
            self.task_views.enable()
        for files in silo.files.stores.values():
            self.file_views.add(files)
        app.cli.commands.setdefault("silo", commands)  # the application may have a command of that name
        self._warn_once(unknown_settings(self._seen_config, os.environ))

    @made_once
    def runs(self) -> SessionRuns:
        """The runs of its sessions' tasks in this process. The modules of tasks are imported for the first task."""
        from .tasks.runs import SessionRuns

        self._answer_errors_of_parts()
        return SessionRuns(self.app, self.store)

    @made_once
    def task_views(self) -> TaskViews:
        """The endpoints of tasks."""
        from .tasks.views import TaskViews

        return TaskViews(self.app, self.endpoints, self.settings, self.store, self.runs, self.declared)

    @made_once
    def file_views(self) -> FileViews:
        """The endpoints of file stores. The modules of files are imported for the first file store."""
        from .files.views import FileViews

        self._answer_errors_of_parts()
        return FileViews(self.endpoints, self.settings.prefixes)

    def _answer_errors_of_parts(self) -> None:
        """Answer the errors of tasks and of files, if the process uses these: with ``Silo`` or by themselves."""
        if "silo_tasks" in sys.modules:
            from .tasks.answers import answer_task_errors

            answer_task_errors(self.app)
        if "silo_files" in sys.modules:
            from .files.answers import answer_file_errors

            answer_file_errors(self.app)

    def _after_fork(self) -> None:
        """Start the threads of a forked child at its first request."""
        self.making: AbstractContextManager[Any] = threading.RLock()
        self._started = False

    def _start(self, environ: WSGIEnvironment) -> None:
        """Start the threads and remove the files that dead processes left: at the first request, not on import."""
        self._started = True
        self._watch_errors()  # again: an extension such as Flask-RESTX may have replaced the handler since
        self.waiting.threads = Server.from_environ(environ).threads
        warn_if_apart(self.store.backend, environ)
        self._warn_once(self.unused_names())
        if self.settings.auto_cleanup:
            self.daemon.start()
            threading.Thread(target=self._silo.files.sweep_once, name="silo-sweep", daemon=True).start()
        else:
            self._silo.files.sweep_once()

    def _watch_errors(self) -> None:
        """Make Flask call ``_view_failed()`` for each error of a view, before the error handlers."""
        handle = self.app.handle_user_exception
        if getattr(handle, "func", None) != self._view_failed:
            self.app.handle_user_exception = partial(self._view_failed, handle)  # type: ignore[method-assign]

    def _view_failed(self, handle: Callable[[Exception], Any], error: Exception) -> Any:
        """Note that the view has raised: its changes are not saved, whatever the error handlers answer.

        A request that Werkzeug refuses as too large is answered here, unless the application has a handler for it.
        Flask would prefer a registered handler for 413 to the application's handler for all HTTP exceptions.
        """
        session = current_request()
        if session is not None:
            session.fail(error)
        self._answer_errors_of_parts()
        response = handle(error)
        if (
            response is error
            and isinstance(error, RequestEntityTooLarge)
            and error.description == RequestEntityTooLarge.description
            and request.path.startswith(self._prefix)
        ):
            return answer(error)
        return response

    def unused_names(self) -> Iterator[str]:
        """Yield a warning for each setting and data endpoint that has no effect, for example because of a typo."""
        yield from unknown_settings(config_of(self.app.config), os.environ)
        yield from late_settings(self.settings, self._seen_config, self.app.config)
        rules = list(self.app.url_map.iter_rules())
        yield from lost_endpoints(self._data_endpoints.names, rules, self.settings.prefixes)
        others = [each for each in self._silo.apps.bindings() if each is not self]  # the Silo's endpoints may be theirs
        rules += [rule for other in others for rule in other.app.url_map.iter_rules()]
        prefixes = {prefix: None for each in (self, *others) for prefix in each.settings.prefixes}
        yield from lost_endpoints(self._silo.data_endpoints.names, rules, list(prefixes))

    def _warn_once(self, messages: Iterable[str]) -> None:
        """Log each message that was not logged before."""
        for message in messages:
            if message not in self._warned:
                self._warned.add(message)
                logger.warning(message)

    def _preprocess(self, preprocess: Callable[..., Any], *context: Any) -> Any:
        """Give a request below the prefix its session, then call the hooks of the application."""
        req = flask_request()
        path = req.path
        if path.startswith(self._prefix):
            environ = req.environ
            if not self._started:
                self._start(environ)
            if path.startswith(self.endpoints.bases):
                self.endpoints.route(req)
            reads = req.method in READING
            scope: Scope[RequestSession] | None = environ.get(SCOPE)
            commits = scope is not None  # a context that was pushed by hand does not pass through ``Commit``
            if scope is None:
                scope = environ[SCOPE] = Scope()
            scope.session = RequestSession(
                self.store,
                self._header.presented(req),
                commits and not reads,
                self.settings.accept_client_ids,
                self._change_warnings.of_unlocked_change if commits and reads else None,
            )
        return preprocess(*context)

    def check_data_endpoints(self) -> None:
        """Check requests to data endpoints from now on, at the place that Silo has among the application's hooks."""
        if not self._checks_data:
            self._checks_data = True
            self.app.before_request_funcs.setdefault(None, []).insert(self._hook_place, self._require_data)

    def _require_data(self) -> None:
        req = flask_request()
        scope: Scope[RequestSession] | None = req.environ.get(SCOPE)
        session = scope.session if scope is not None else None
        if session is not None and session.id.presented is not None and self._needs_data(req):
            session.require()

    def _needs_data(self, req: Request) -> bool:
        if req.endpoint == EVENTS:  # the view checks itself: while the store is unreachable, its clients reconnect
            return False
        return self._silo.data_endpoints.match(req) or self._data_endpoints.match(req)

    def _session_ended(self, _sid: str, uid: str, _reason: EndReason) -> None:
        if self.declared:
            self.runs.end(uid)
        self._silo.files.end(uid)


def _globals_with_session(base: type[Any]) -> type[Any]:
    """Return a class for ``flask.g`` with ``silo``, the request's session, and ``silo_sid``, as in release 0.1.

    Both are looked up when they are read: putting the session into each ``g`` would cost every request.
    """

    class Globals(base):  # type: ignore[misc]
        def __getattr__(self, name: str) -> Any:
            # Only called for a missing attribute: a value that the application has set wins.
            session = current_request() if name == "silo" else None
            return super().__getattr__(name) if session is None else session

        @property
        def silo_sid(self) -> str:
            session: RequestSession = self.silo
            return session.announce()

        def get(self, name: str, default: Any | None = None) -> Any:
            return getattr(self, name, default) if name in ("silo", "silo_sid") else super().get(name, default)

        def __contains__(self, name: str) -> bool:
            return super().__contains__(name) or (name == "silo" and hasattr(self, name))

    return Globals
