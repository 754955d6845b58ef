"""One `Silo` at work in one application."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from flask import Flask, Response, g, request
from silo_files import FileStoreError
from silo_store import CleanupDaemon, EndReason, SessionExpired, SessionStore, SiloError
from silo_store.fork import reset_after_fork
from silo_tasks import TaskError

from .http import Wire, answer
from .settings import Settings
from .tasks import SessionTasks
from .visit import Visit, exchanging
from .wsgi import Commit

if TYPE_CHECKING:
    from .ext import Silo

READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Binding:
    """The store, the sweeper, the tasks and the way through a request of one application.

    A request's session begins in a hook before the view. It is committed where the response leaves the application,
    in `Commit`: later than every ``after_request`` function, and at no cost to requests that have no session.
    """

    def __init__(self, silo: Silo, app: Flask, settings: Settings, store: SessionStore) -> None:
        self.settings = settings
        self.store = store
        self.daemon = CleanupDaemon(store)
        self.tasks = SessionTasks(app, store)
        self._silo = silo
        self._wire = Wire(settings)
        self._prefix = settings.api_prefix
        self.after_fork()
        reset_after_fork(self)
        store.on_end(self._session_ended)
        app.before_request(self._before_request)
        app.wsgi_app = Commit(app, app.wsgi_app, self._prefix, self._wire)  # type: ignore[method-assign]
        for kind in (SiloError, TaskError, FileStoreError):
            app.register_error_handler(kind, answer)

    def after_fork(self) -> None:
        """A forked child has no sweeper yet."""
        self._awake = False

    def _wake(self) -> None:
        """Begin what no import or construction may begin: threads, and clearing away what a dead process left."""
        self._awake = True
        if self.settings.auto_cleanup:
            self.daemon.start()
            threading.Thread(target=self._silo.files.sweep, args=(self.store,), name="silo-sweep", daemon=True).start()
        else:
            self._silo.files.sweep(self.store)

    def _before_request(self) -> Response | None:
        req = request._get_current_object()  # type: ignore[attr-defined]  # a proxy costs for every attribute
        if not req.path.startswith(self._prefix):
            return None
        if not self._awake:
            self._wake()
        sid = self._wire.presented(req)
        presented = sid is not None
        if sid is None:
            sid = self.store.generate_sid()
        elif self._silo.data_endpoints.match(req) and self.store.is_expired(sid):
            return answer(SessionExpired(sid))
        visit = Visit(self.store, sid, presented, req.method not in READING)
        exchange = exchanging.get()
        if exchange is not None and exchange.environ is req.environ:  # not so in a context that was pushed by hand
            exchange.visit = visit
        context = g._get_current_object()
        context.silo = visit
        context.silo_sid = sid
        return None

    def _session_ended(self, _sid: str, uid: str, _reason: EndReason) -> None:
        self.tasks.end(uid)
        self._silo.files.end(uid)
