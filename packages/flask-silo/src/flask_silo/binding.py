"""One ``Silo`` at work in one application."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, g, request
from silo_files import FileStoreError
from silo_store import CleanupDaemon, EndReason, SessionStore, SiloError
from silo_tasks import TaskError
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wsgi import ClosingIterator

from .cli.commands import commands
from .current import SCOPE, Scope, current_request
from .deployment import warn_if_apart
from .fork import reset_after_fork
from .replies import answer
from .request.commit import Commit
from .request.data_endpoints import DataEndpoints
from .request.identity import SessionHeader
from .request.session import RequestSession
from .request.waiting import Waiting
from .settings import Settings
from .tasks.runs import SessionRuns
from .tasks.server import Server
from .tasks.task import SessionTask
from .tasks.views import EVENTS, TaskViews
from .tasks.worker import register_application
from .unused import config_of, late_settings, lost_endpoints, unknown_settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .ext import Silo

logger = logging.getLogger("flask_silo")

BINDING = "flask_silo.binding"
"""The key of a ``Binding`` in its application's extensions."""

LOST = (
    "state was changed after the response had started, and the change is lost: {} (endpoint {}). "
    "Use silo.edit() to change state in what a response streams, or calls when it is closed"
)
UNLOCKED_CHANGE = (
    "{} changed state in a {} request ({}). Such a request takes no turn: of two changes at once, one is "
    "refused with 409, or silently lost on memory://. Change state in silo.edit(), as in "
    "`with silo.edit({!r}) as state: ...`, or in a request that writes, such as POST"
)
READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Binding:
    """The store, the sweeper, the tasks and the way through a request of one application.

    A request's session begins in a hook before the view. It is committed where the response leaves the application,
    in ``Commit``: later than every ``after_request`` function, and at little cost to requests that have no session.
    """

    def __init__(
        self,
        silo: Silo,
        app: Flask,
        settings: Settings,
        store: SessionStore,
    ) -> None:
        self.settings = settings
        self.store = store
        self.daemon = CleanupDaemon(store)
        self.runs = SessionRuns(app, store)
        self.declared: Mapping[str, SessionTask[..., Any]] = silo.tasks
        self.task_views = TaskViews(app, settings, store, self.runs, silo.tasks)
        if silo.tasks:
            self.task_views.enable()
        self._silo = silo
        self._app = app
        self._told_lost: set[str] = set()
        self._told_doubts: set[str] = set()
        self._seen_config = config_of(app.config)
        self._warned_of_change: set[str | None] = set()  # None: a hook before the view, where there is no view
        self._header = SessionHeader(settings)
        self._prefix = settings.api_prefix
        self._data_endpoints = DataEndpoints()
        self._data_endpoints.add(*settings.data_endpoints)
        self.waiting = store.locks.waiting = Waiting(settings.max_waiters)
        self._after_fork()
        reset_after_fork(self)
        store.on_end(self._session_ended)
        app.before_request(self._before_request)
        app.app_ctx_globals_class = _globals_with_sid(app.app_ctx_globals_class)
        app.after_request(self._watch_stream)
        app.wsgi_app = Commit(app, app.wsgi_app, self._header)  # type: ignore[method-assign]
        self._watch_errors()
        taken = app.error_handler_spec[None][None]
        for kind in (SiloError, TaskError, FileStoreError):
            if kind not in taken:  # the application's own handlers win, whenever they were registered
                app.register_error_handler(kind, answer)
        register_application(app)
        app.cli.commands.setdefault("silo", commands)  # the application may have one of its own
        self._tell(unknown_settings(self._seen_config, os.environ))

    def _after_fork(self) -> None:
        """A forked child has no sweeper yet."""
        self._awake = False

    def _wake(self, environ: WSGIEnvironment) -> None:
        """Begin what no import or construction may begin: threads, and clearing away what a dead process left."""
        self._awake = True
        self._watch_errors()  # again: an extension such as Flask-RESTX may have put itself before it since
        self.waiting.threads = Server.from_environ(environ).threads
        warn_if_apart(self.store.backend, environ)
        self._tell(self.doubts())
        if self.settings.auto_cleanup:
            self.daemon.start()
            threading.Thread(target=self._silo.files.sweep_once, name="silo-sweep", daemon=True).start()
        else:
            self._silo.files.sweep_once()

    def _watch_errors(self) -> None:
        """See every error of a view before its handlers do."""
        handle = self._app.handle_user_exception
        if getattr(handle, "func", None) != self._view_failed:
            self._app.handle_user_exception = partial(self._view_failed, handle)  # type: ignore[method-assign]

    def _view_failed(self, handle: Callable[[Exception], Any], error: Exception) -> Any:
        """Note that the view raised, whatever the error handlers make of it: then nothing of it is saved.

        A request that Werkzeug refuses as too large is answered here, unless the application has a handler for it. It
        is not registered as a handler: one for 413 would come before the application's own for all HTTP exceptions.
        """
        session = current_request()
        if session is not None:
            session.fail(error)
        response = handle(error)
        if (
            response is error
            and isinstance(error, RequestEntityTooLarge)
            and error.description == RequestEntityTooLarge.description
            and request.path.startswith(self._prefix)
        ):
            return answer(error)
        return response

    def doubts(self) -> Iterator[str]:
        """Say which settings and data endpoints have no effect, for example because they are mistyped."""
        yield from unknown_settings(config_of(self._app.config), os.environ)
        yield from late_settings(self.settings, self._seen_config, self._app.config)
        rules = list(self._app.url_map.iter_rules())
        yield from lost_endpoints(self._data_endpoints.names, rules, self.settings.prefixes)
        others = [each for each in self._silo.apps.bindings() if each is not self]  # one of theirs may be meant
        rules += [rule for other in others for rule in other._app.url_map.iter_rules()]
        prefixes = {prefix: None for each in (self, *others) for prefix in each.settings.prefixes}
        yield from lost_endpoints(self._silo.data_endpoints.names, rules, list(prefixes))

    def _tell(self, doubts: Iterable[str]) -> None:
        """Log each of them once."""
        for doubt in doubts:
            if doubt not in self._told_doubts:
                self._told_doubts.add(doubt)
                logger.warning(doubt)

    def _before_request(self) -> None:
        req = request._get_current_object()  # type: ignore[attr-defined]  # a proxy costs for every attribute
        if not req.path.startswith(self._prefix):
            return
        if not self._awake:
            self._wake(req.environ)
        scope: Scope[RequestSession] | None = req.environ.get(SCOPE)
        commits = scope is not None  # nothing is committed in a context that was pushed by hand
        if scope is None:
            scope = req.environ[SCOPE] = Scope()
        reads = req.method in READING
        session = scope.session = RequestSession(
            self.store,
            self._header.presented(req),
            writes=commits and not reads,
            accept_client_ids=self.settings.accept_client_ids,
            on_unlocked_change=(
                partial(self._warn_of_unlocked_change, req.endpoint, req.method) if commits and reads else None
            ),
        )
        g._get_current_object().silo = session  # for the application's own code, as in release 0.1
        if session.id.presented is not None and self._needs_data(req):
            session.require()

    def _needs_data(self, req: Request) -> bool:
        if req.endpoint == EVENTS:  # which looks by itself: while the store is away, its clients are to come back
            return False
        return self._silo.data_endpoints.match(req) or self._data_endpoints.match(req)

    def _watch_stream(self, response: Response) -> Response:
        """Arrange a look for late changes, if the response goes on after its start, as a stream does."""
        session = None if self.store.backend.live else current_request()
        if session is None or session.store is not self.store:
            return response
        check = partial(self._find_late_changes, session, request.endpoint or request.path)
        if response.is_streamed and not response.direct_passthrough:
            # At its end, as a test may not close the response; and when it is closed, for what is called then.
            response.response = _followed(response.response, check)
            response.call_on_close(check)
        elif session.session is not None and getattr(response, "_on_close", True):  # there may be callbacks
            response.call_on_close(check)
        return response

    def _find_late_changes(self, session: RequestSession, endpoint: str) -> None:
        changed = self.store.changed(session.session) if session.saved and session.session is not None else []
        if not changed:
            return
        session.saved = False  # said once
        message = LOST.format(", ".join(map(repr, changed)), endpoint)
        if self._app.testing:
            raise RuntimeError(message)
        if endpoint not in self._told_lost:
            self._told_lost.add(endpoint)
            logger.error(message)

    def _warn_of_unlocked_change(self, endpoint: str | None, method: str, changed: list[str]) -> None:
        """Warn once of each endpoint that changes state in a request that reads, outside of ``Silo.edit``.

        It is a Python warning because test runners show these even if every test passes. Where filters turn it into an
        error, it fails the test; outside of tests the change is saved all the same, and the warning is logged.
        """
        if endpoint in self._warned_of_change:
            return
        who = f"endpoint {endpoint}" if endpoint else "a hook before the view"
        message = UNLOCKED_CHANGE.format(who, method, ", ".join(map(repr, changed)), changed[0])
        try:
            warnings.warn(message, stacklevel=2)
        except UserWarning:
            if self._app.testing:
                raise
            logger.warning(message)
        self._warned_of_change.add(endpoint)

    def _session_ended(self, _sid: str, uid: str, _reason: EndReason) -> None:
        self.runs.end(uid)
        self._silo.files.end(uid)


def _followed(body: Iterable[Any], check: Callable[[], object]) -> Iterable[Any]:
    """Give a response's body, and call a function when it has come to its end."""

    def blocks() -> Iterator[Any]:
        yield from body
        check()

    close = getattr(body, "close", None)
    return ClosingIterator(blocks(), [close] if close is not None else [])


def _globals_with_sid(base: type[Any]) -> type[Any]:
    """Make a class of ``flask.g`` that has ``silo_sid``, as in release 0.1. Reading it reads ``Silo.sid``."""

    class Globals(base):  # type: ignore[misc]
        @property
        def silo_sid(self) -> str:
            session: RequestSession = self.silo
            return session.announce()

        def get(self, name: str, default: Any | None = None) -> Any:
            return getattr(self, name, default) if name == "silo_sid" else super().get(name, default)

    return Globals
