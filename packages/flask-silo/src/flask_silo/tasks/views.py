"""What clients ask of their tasks without a view of the application: a state, a cancel, a stream of events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, jsonify, request, request_started
from silo_store import Life, SessionStore, StoreUnavailable
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Rule

from ..current import current_request
from ..request.waiting import waiters
from .events import EventId, StateReader, StreamTiming, stream
from .server import Server

if TYPE_CHECKING:
    from ..request.session import RequestSession
    from ..settings import Settings
    from .runs import SessionRuns
    from .task import SessionTask

TASK, EVENTS = "flask_silo:task", "flask_silo:events"
CATCH_ALL = re.compile(r"/(<(\w+:)?\w+>/)*<path:\w+>")
NO_STORE = {"Cache-Control": "no-store"}


class TaskViews:
    """The paths ``tasks/<name>`` and ``tasks/events`` below each prefix of an application.

    A path and method that the application has a route for stay the application's, whenever that was registered. Only a
    route that takes every path (``/<path:file>``), as for a page's files, is behind them. What comes before a view, as
    ``before_request`` functions, comes before these.

    Attributes:
        pace: the times of streams.
    """

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        store: SessionStore,
        tasks: SessionRuns,
        declared: Mapping[str, SessionTask[..., Any]],
    ) -> None:
        self.timing = StreamTiming()
        self._app = app
        self._store = store
        self._tasks = tasks
        self._declared = declared
        self._most = settings.max_streams
        self._rules: dict[str, tuple[Rule, Rule]] = {}
        for prefix in settings.prefixes if settings.task_endpoints else ():
            base = f"{prefix.rstrip('/')}/tasks/"
            self._rules[base] = (
                # They match nothing by themselves: the map would give one of them precedence over `/api/<path:rest>`.
                Rule(f"{base}events", endpoint=EVENTS, methods=["GET", "OPTIONS"], build_only=True),
                Rule(f"{base}<path:name>", endpoint=TASK, methods=["GET", "DELETE", "OPTIONS"], build_only=True),
            )
        self._enabled = False

    def enable(self) -> None:
        """Serve them from now on; there is a task to ask for."""
        if self._enabled or not self._rules:
            return
        self._enabled = True
        # Not by `add_url_rule`: a task may be declared in a module that is imported late.
        self._app.view_functions.update({EVENTS: self._events, TASK: self._task})
        for rules in self._rules.values():
            for rule in rules:
                self._app.url_map.add(rule)
        # Before every hook, so that those which look at `request.endpoint` see where the request goes.
        request_started.connect(self._route, self._app)

    def _route(self, _app: Flask, **_: Any) -> None:
        path = request.path
        for base, (events, task) in self._rules.items():
            name = path[len(base) :] if path.startswith(base) else ""
            if name:
                rule = events if name == "events" and request.method != "DELETE" else task
                if request.method in (rule.methods or ()) and self._is_free(name):
                    request.routing_exception = None
                    request.url_rule = rule
                    request.view_args = {"name": name} if rule is task else {}
                return

    def _is_free(self, name: str) -> bool:
        """Say whether the application has no route of its own for the request's path and method."""
        error, rule = request.routing_exception, request.url_rule
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
            self._check()
            is_cancel = request.method == "DELETE"
            answer = jsonify(cancelled=task.cancel()) if is_cancel else jsonify(self._tasks.client_state(task.state))
        answer.headers.update(NO_STORE)
        return answer

    def _events(self) -> Response:
        if request.method == "OPTIONS":
            return _allow(request)
        reader, known = None, request.headers.get("Last-Event-ID")
        event_id = EventId(known or "", self._declared)
        try:
            session = self._check()
            uid = session.uid
            reader = StateReader(self._store, self._tasks, self._declared, Life(session.sid, uid) if uid else None)
            states = reader.look()
        except StoreUnavailable:
            # A browser's EventSource would take any other status for the end; so it comes back.
            answer = Response(f"retry: {round(1000 * self.timing.poll)}\n\n")
        else:
            if (
                known
                and not event_id.news(reader.names(), states)
                and not any(each["running"] for each in states.values())
            ):
                return Response(status=204, headers=NO_STORE)
            server = Server.from_environ(request.environ)
            body = stream(reader, event_id, server, server.max_streams(self._most, waiters.taken), self.timing)
            # Passed through: a hook that wants to see the whole answer would wait for its end.
            answer = Response(body, direct_passthrough=True)
        answer.headers.update({**NO_STORE, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        return answer

    def _check(self) -> RequestSession:
        """Return the session of the request.

        Raises:
            SessionExpired: The session has expired: an idle state would be wrong.
        """
        session = current_request()
        assert session is not None
        session.require()
        return session


def _allow(request: Request) -> Response:
    methods = request.url_rule.methods if request.url_rule is not None else None
    return Response(headers={"Allow": ", ".join(sorted(methods or ()))})
