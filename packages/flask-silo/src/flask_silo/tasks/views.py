"""The endpoints of tasks, which need no view of the application: read a state, cancel a task, stream events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, jsonify, request
from silo_store import Life, SessionStore, StoreUnavailable
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Rule

from ..current import current_request
from ..request.waiting import waiters
from .event_id import EventId
from .events import StreamTiming, stream
from .runs import SessionRuns
from .server import Server
from .states import StateReader
from .task import SessionTask
from .watch import Watches

if TYPE_CHECKING:
    from ..request.session import RequestSession
    from ..settings import Settings

TASK, EVENTS = "flask_silo:task", "flask_silo:events"
CATCH_ALL = re.compile(r"/(<(\w+:)?\w+>/)*<path:\w+>")
"""Matches the rule of a route that takes every path, such as ``/<path:file>``."""
NO_STORE = {"Cache-Control": "no-store"}


class TaskViews:
    """Serves ``tasks/<name>`` and ``tasks/events`` below each prefix of an application.

    A path and method that the application has a route for stay the application's, whenever the route is registered. The
    exception is a route that takes every path (``/<path:file>``), as for the files of a page. ``before_request``
    functions run before these endpoints, as before any view, and see them in ``request.endpoint``.

    Args:
        app: The application.
        settings: Its settings.
        store: The store of its sessions.
        runs: The runs of its sessions' tasks.
        declared: Its tasks, by name.

    Attributes:
        timing: The times of streams.
        bases: The beginnings of the endpoints' paths, such as ``/api/tasks/``; empty until the application has a task.
    """

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        store: SessionStore,
        runs: SessionRuns,
        declared: Mapping[str, SessionTask[..., Any]],
    ) -> None:
        self.timing: StreamTiming = StreamTiming()
        self._app = app
        self._declared = declared
        self._watches = Watches(StateReader(app, store, runs, declared))
        runs.on_change = self._watches.wake
        self._max_streams = settings.max_streams
        self._rules: dict[str, tuple[Rule, Rule]] = {}
        for prefix in settings.prefixes if settings.task_endpoints else ():
            base = f"{prefix.rstrip('/')}/tasks/"
            self._rules[base] = (
                # build_only: the URL map would prefer these rules to the application's ``/api/<path:rest>``.
                Rule(f"{base}events", endpoint=EVENTS, methods=["GET", "OPTIONS"], build_only=True),
                Rule(f"{base}<path:name>", endpoint=TASK, methods=["GET", "DELETE", "OPTIONS"], build_only=True),
            )
        self.bases: tuple[str, ...] = ()

    def enable(self) -> None:
        """Serve the endpoints from now on. Called once the application has a task."""
        if self.bases or not self._rules:
            return
        # ``add_url_rule()`` fails after the first request, but a module that declares a task may be imported later.
        self._app.view_functions.update({EVENTS: self._events, TASK: self._task})
        for rules in self._rules.values():
            for rule in rules:
                self._app.url_map.add(rule)
        self.bases = tuple(self._rules)

    def route(self, req: Request) -> None:
        """Direct a request below one of the ``bases`` to its endpoint. Called before the hooks of the application."""
        base = next(base for base in self.bases if req.path.startswith(base))
        events, task = self._rules[base]
        name = req.path[len(base) :]
        rule = events if name == "events" and req.method != "DELETE" else task
        if name and req.method in (rule.methods or ()) and self._is_free(req, name):
            req.routing_exception = None
            req.url_rule = rule
            req.view_args = {"name": name} if rule is task else {}

    def _is_free(self, req: Request, name: str) -> bool:
        """Return whether the application has no route of its own for the request's path and method."""
        error, rule = req.routing_exception, req.url_rule
        if isinstance(error, NotFound):
            return True
        if name != "events" and name not in self._declared:
            return False
        return isinstance(error, MethodNotAllowed) or (rule is not None and CATCH_ALL.fullmatch(rule.rule) is not None)

    def _task(self, name: str) -> Response:
        if request.method == "OPTIONS":
            return _allow(request)
        task = self._declared.get(name)
        if task is None:
            answer = jsonify(error="unknown_task", message="There is no task of that name.")
            answer.status_code = 404
        else:
            self._living_session()
            if request.method == "DELETE":
                answer = jsonify(cancelled=task.cancel())
            else:
                answer = jsonify(task.state.to_dict(public=not self._app.debug))
        answer.headers.update(NO_STORE)
        return answer

    def _events(self) -> Response:
        if request.method == "OPTIONS":
            return _allow(request)
        sent = request.headers.get("Last-Event-ID")
        known = str(EventId(sent or "", self._declared))
        try:
            life = self._life()
            watch = self._watches.of(life)
            look, _ = watch.look(self.timing.look, fresh=True)
        except StoreUnavailable:
            # With any other status, the browser's EventSource would not reconnect.
            answer = Response(f"retry: {round(1000 * self.timing.poll)}\n\n")
        else:
            sid = life.sid if life is not None else None
            if sent and not look.runs and look.shows(sid) and look.id == known:
                return Response(status=204, headers=NO_STORE)
            server = Server.from_environ(request.environ)
            limit = server.max_streams(self._max_streams, waiters.taken)
            events = stream(watch, sid, known, server, limit, self.timing)
            # direct_passthrough: a hook that reads the whole response would wait for the end of the stream.
            answer = Response(events, direct_passthrough=True)
        answer.headers.update({**NO_STORE, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        return answer

    def _life(self) -> Life | None:
        """Return the life of the request's session; None if there is no session."""
        session = self._living_session()
        uid = session.uid
        return Life(session.sid, uid) if uid else None

    def _living_session(self) -> RequestSession:
        """Return the session of the request.

        Raises:
            SessionExpired: The presented id has no session; an idle state would mislead the client.
        """
        session = current_request()
        assert session is not None
        session.require()
        return session


def _allow(request: Request) -> Response:
    methods = request.url_rule.methods if request.url_rule is not None else None
    return Response(headers={"Allow": ", ".join(sorted(methods or ()))})
